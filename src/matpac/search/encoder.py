"""Which encoder made a database's vectors: remembered in it, opened again, verified."""

import os
from pathlib import Path

import torch

from matpac.errors import MatpacError
from matpac.files.hub import HUB, PACKAGED, PUBLISHED
from matpac.model.embedder import Embedder
from matpac.probe.encoders import HEAR, RANDOM, open_encoder
from matpac.search.database import SearchError, Settings

SHOWN = 12
"""Digits of a key that tell two encoders apart for people; ours."""


def encoder_name(encoder: str | Embedder) -> str:
    """What a database remembers of an encoder: its name, a path as it is from any folder."""
    if isinstance(encoder, Embedder):
        return encoder.card.name
    if encoder in PACKAGED or encoder in PUBLISHED or encoder.startswith((RANDOM, HUB, HEAR)):
        return encoder
    path = Path(encoder).expanduser()
    return os.path.abspath(path) if encoder and path.exists() else encoder  # noqa: PTH100 (links stay)


def open_embedder(encoder: str | Embedder, device: str | torch.device = "cpu") -> Embedder:
    """An encoder by what `open_encoder` takes, or as it is.

    Raises:
        SearchError: it gives no frames, so that it knows no windows.
        EncoderError, CheckpointError, DownloadError: as `open_encoder`.
    """
    if isinstance(encoder, Embedder):
        return encoder
    found = None if encoder.startswith(HEAR) else open_encoder(encoder, device).encoder
    if not isinstance(found, Embedder):
        raise SearchError(f"{encoder}: databases are made by encoders that matpac embed takes; name one of them")
    return found


def reopen_embedder(
    database: Path, settings: Settings, encoder: str | Embedder | None, device: str | torch.device = "cpu"
) -> Embedder:
    """The encoder of a database, as it remembers it, or the one that is given, verified to be the same.

    Raises:
        SearchError: another one, or the one remembered can't be had any more.
    """
    try:
        embedder = open_embedder(encoder or settings.encoder, device)
    except MatpacError as error:
        if encoder is not None:
            raise
        raise SearchError(
            f"{database}: made by {settings.encoder}, which can't be had: {error} If its weights lie elsewhere, "
            "give them by --encoder"
        ) from error
    require_same(database, settings, encoder_name(encoder or settings.encoder), embedder.key)
    return embedder


def require_same(database: Path, settings: Settings, name: str, key: str) -> None:
    """Raise a SearchError where a database's vectors are of another encoder than the one of this name and key."""
    if key == settings.key:
        return
    now = "now " if name == settings.encoder else ""
    raise SearchError(
        f"{database}: its vectors are of another encoder: {settings.encoder}, weights and settings "
        f"{settings.key[:SHOWN]}; {now}{name} is {key[:SHOWN]}. Give the first one by --encoder, or index into "
        "another database"
    )
