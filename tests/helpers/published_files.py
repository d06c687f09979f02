"""State dicts under the published key names, with random weights, and training checkpoints' translated."""

import re

import torch
from torch import Tensor

from matpac.files.published import rename, translate

PREDICTOR = [
    (r"decoder\.mask_token", "predictor.mask_token"),
    (r"decoder\.decoder_pos_embed", "predictor.positions"),
    (r"decoder\.decoder_embed\.(weight|bias)", r"predictor.embed.\1"),
    (r"decoder\.decoder_(blocks\..+)", r"predictor.transformer.\1"),
    (r"decoder\.decoder_norm\.(weight|bias)", r"predictor.transformer.norm.\1"),
    (r"decoder\.decoder_pred\.(weight|bias)", r"predictor.hypotheses.\1"),
]
HEAD = [
    (r"(mlp\..+)", r"head.\1"),
    (r"last_layer\.weight_g", "head.gain"),
    (r"last_layer\.weight_v", "head.direction"),
]


def training_student(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Student, predictor and head of a published training checkpoint, named as in `Objective`."""
    own = {f"student.{name}": tensor for name, tensor in translate(state, "golden")[0].items()}
    mcl = "mcl_heads.mcl_heads"
    hypotheses = sum(re.fullmatch(rf"{mcl}\.\d+\.bias", name) is not None for name in state)
    for name, tensor in state.items():
        if new := rename(name, PREDICTOR):
            own[new] = tensor.flatten() if "token" in new else tensor[0] if "positions" in new else tensor
        elif new := rename(name.removeprefix("cls_student_head."), HEAD):
            own[new] = tensor
    if hypotheses:  # else the single hypothesis of MATPAC, which MATPAC++ files have too, unused
        for part in ("weight", "bias"):
            layers = [state[f"{mcl}.{number}.{part}"] for number in range(hypotheses)]
            own[f"predictor.hypotheses.{part}"] = torch.cat(layers)
    return own


def training_teacher(encoder: dict[str, Tensor], head: dict[str, Tensor]) -> dict[str, Tensor]:
    """The teacher's encoder and head, named as in `Objective`."""
    own = {f"teacher.transformer.{name}": tensor for name, tensor in encoder.items()}
    return own | {f"teacher.{rename(name, HEAD)}": tensor for name, tensor in head.items()}


def published_state(
    width: int, depth: int, frames: int, classes: int | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """A released file's content: every tensor counts, and none is what an initialisation would give."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, std: float = 0.1, mean: float = 0.0) -> Tensor:
        return torch.empty(shape).normal_(mean, std, generator=generator)

    state = {
        "cls_token": draw(1, 1, width),
        "pos_embed": draw(1, 1 + 5 * frames // 16, width, std=0.5),
        "patch_embed.proj.weight": draw(width, 1, 16, 16, std=0.05),
        "patch_embed.proj.bias": draw(width),
    }

    def linear(name: str, rows: int, columns: int) -> None:
        state[f"{name}.weight"] = draw(rows, columns, std=columns**-0.5)
        state[f"{name}.bias"] = draw(rows)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = draw(width, mean=1.0)
        state[f"{name}.bias"] = draw(width)

    for block in range(depth):
        prefix = f"student_encoder.blocks.{block}"
        norm(f"{prefix}.norm1")
        linear(f"{prefix}.attn.qkv", 3 * width, width)
        linear(f"{prefix}.attn.proj", width, width)
        norm(f"{prefix}.norm2")
        linear(f"{prefix}.mlp.fc1", 4 * width, width)
        linear(f"{prefix}.mlp.fc2", width, 4 * width)
    norm("student_encoder.norm")
    if classes is not None:
        state["head_norm.running_mean"] = draw(width)
        state["head_norm.running_var"] = draw(width).abs() + 0.5
        state["head_norm.num_batches_tracked"] = torch.tensor(1234)
        linear("head", classes, width)
    return state
