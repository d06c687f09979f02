"""Pre-training that starts from an encoder's weights instead of a random draw."""

from dataclasses import asdict

from matpac.errors import MatpacError
from matpac.files.load import load
from matpac.model.vit import positions_agree
from matpac.pretrain import Objective
from matpac.pretrain.recipes import Recipe


class StartError(MatpacError):
    """An encoder that a recipe cannot start from; the message names both and the way out."""


def start_from(source: str, objective: Objective, recipe: Recipe) -> str:
    """Give the student and its teacher the weights of an encoder; predictor and heads keep their random draw.

    The teacher starts as a copy, whatever the recipe says: one of its own random draw would pull the student back
    to where it came from.

    Args:
        source: as `matpac.load` takes it.
        objective: of a run before its first step.
        recipe: of the run; its network and log-mel must be the encoder's. The length of its crops may differ.

    Returns:
        SHA-256 over the encoder's weights and settings.

    Raises:
        StartError: the encoder has another size, front-end or table of positions.
        CheckpointError, DownloadError: it is not available.
    """
    embedder = load(source)
    pairs = {
        "objective.encoder": (embedder.config, recipe.objective.encoder),
        "logmel": (embedder.logmel.config, recipe.logmel),
    }
    differing = [
        f"--{where}.{name} {value}, and not {asdict(asked)[name]}"
        for where, (own, asked) in pairs.items()
        for name, value in asdict(own).items()
        if value != asdict(asked)[name] and name != "frames"
    ]
    if differing:
        raise StartError(
            f"{source}: the recipe's network or log-mel is not this encoder's, which needs "
            f"{'; '.join(differing)}; pass these, or the recipe that it was trained by"
        )
    state = embedder.encoder.state_dict()
    if embedder.encoder.positions.shape != objective.student.positions.shape:
        if not positions_agree(embedder.encoder, objective.student):
            raise StartError(
                f"{source}: its table of positions is not the papers' sine-cosine one and fits only its own "
                f"length; pass --objective.encoder.frames {embedder.config.frames}"
            )
        state["positions"] = objective.student.positions
    objective.student.load_state_dict(state)
    objective.teacher.transformer.load_state_dict(objective.student.transformer.state_dict())
    return embedder.key
