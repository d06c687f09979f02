"""`matpac.load`: a trained encoder by name, file, folder or hub repository."""

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import torch

from matpac.checkpoint import load_file, load_folder
from matpac.checkpoint.published import CheckpointError
from matpac.embedder import Embedder
from matpac.hub import PUBLISHED, WEIGHTS, hub_file, published_file

HUB = "hub:"


def load(source: str | Path, device: str | torch.device = "cpu") -> Embedder:
    """A frozen encoder, ready to embed.

    Args:
        source: a published name ("matpac++"; downloaded on first use), a file of weights (ours or published,
            .safetensors or .pt), a run folder (its newest checkpoint) or a saved encoder's, or
            "hub:owner/name[@revision]". A file or folder with a published name is meant by "./name".
        device: where it computes.

    Raises:
        CheckpointError: nothing of that name, or a file that is no encoder; says what is wrong with it.
        DownloadError: it can't be fetched; says where to put it by hand.
    """
    name = str(source)
    path = Path(source).expanduser()
    if isinstance(source, str) and name in PUBLISHED:
        embedder = load_file(published_file(name))
    elif isinstance(source, str) and name.startswith(HUB):
        embedder = load_file(hub_file(name.removeprefix(HUB)))
    elif not name:  # which as a path would be the working folder
        raise CheckpointError(_unknown(name))
    elif path.is_dir():
        embedder = load_folder(path)
    elif path.exists():
        embedder = load_file(path)
    else:
        raise CheckpointError(_unknown(name))
    embedder.card = replace(embedder.card, name=name)
    return embedder.to(device)


def _unknown(name: str) -> str:
    plain = name.lower().replace("plus", "++").replace("pp", "++").replace("_", "-")
    close = [plain] if plain in PUBLISHED else get_close_matches(plain, PUBLISHED, n=2)
    guess = ""
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not name.endswith(WEIGHTS):
        guess = f" On the hub it would be {HUB}{name}."
    elif close:
        guess = f" Did you mean {' or '.join(close)}?"
    return (
        f"{name!r}: no published name, and no such file or folder.{guess} Published: {', '.join(PUBLISHED)}. "
        f"Or give a .safetensors or .pt file, a run folder, a saved encoder's folder, or {HUB}owner/name."
    )
