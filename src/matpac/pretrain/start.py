"""Pre-training that goes on from an encoder's weights instead of a random draw."""

from dataclasses import asdict

import torch

from matpac.errors import MatpacError
from matpac.files.load import load
from matpac.model.embedder import Embedder
from matpac.model.vit import Encoder, positions_agree
from matpac.pretrain import Objective
from matpac.pretrain.recipes import Recipe


class StartError(MatpacError):
    """An encoder that a recipe cannot go on from; the message names both and the way out."""


def start_from(source: str, objective: Objective, recipe: Recipe) -> str:
    """Give the student and its teacher the weights of an encoder; predictor and heads stay as they were drawn.

    The teacher starts as a copy, whatever the recipe says: one of its own random draw would pull the student
    back to where it came from.

    Args:
        source: as `matpac.load` takes it.
        objective: of a run that has not begun.
        recipe: of the run; its network and log-mel must be the encoder's. The length of its crops may differ.

    Returns:
        SHA-256 over the encoder's weights and settings.

    Raises:
        StartError: the encoder has another size, front-end or table of positions.
        CheckpointError, DownloadError: it cannot be had.
    """
    embedder = load(source)
    _check_settings(source, embedder, recipe)
    state = embedder.encoder.state_dict()
    state["positions"] = _positions(source, embedder.encoder, objective.student)
    objective.student.load_state_dict(state)
    objective.teacher.transformer.load_state_dict(objective.student.transformer.state_dict())
    return embedder.key


def _check_settings(source: str, embedder: Embedder, recipe: Recipe) -> None:
    """The recipe's options that would have to be others."""
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


def _positions(source: str, encoder: Encoder, student: Encoder) -> torch.Tensor:
    """The encoder's own table where it has the length, else one of the student's length."""
    own, made = encoder.positions, student.positions
    if own.shape == made.shape:
        return own
    if not positions_agree(encoder, student):
        raise StartError(
            f"{source}: its table of positions is not the papers' sine-cosine one, so that it can be gone on with "
            f"at its own length alone: pass --objective.encoder.frames {encoder.config.frames}"
        )
    return made
