"""State dicts under the published key names, with random weights."""

import torch
from torch import Tensor


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
