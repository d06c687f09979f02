"""The encoder that made a database's vectors: stored by name, opened again, verified."""

import os
from pathlib import Path

import torch

from matpac.errors import MatpacError
from matpac.files.hub import HUB, PACKAGED, PUBLISHED
from matpac.model.embedder import Embedder
from matpac.probe.encoders import HEAR, RANDOM, open_encoder
from matpac.search.database import DatabaseSettings, SearchError

SHOWN = 12
"""Digits of a key that are shown; default; enough to tell two encoders apart."""


def encoder_name(encoder: str | Embedder) -> str:
    """The name that a database stores: valid in any working directory."""
    if isinstance(encoder, Embedder):
        return encoder.card.name
    if encoder in PACKAGED or encoder in PUBLISHED or encoder.startswith((RANDOM, HUB, HEAR)):
        return encoder
    path = Path(encoder).expanduser()
    return os.path.abspath(path) if encoder and path.exists() else encoder  # noqa: PTH100 (links stay)


def open_embedder(encoder: str | Embedder, device: str | torch.device = "cpu") -> Embedder:
    """An encoder by name, or the given one.

    Raises:
        SearchError: it gives no frames, and so no windows.
        EncoderError, CheckpointError, DownloadError: as `open_encoder`.
    """
    if isinstance(encoder, Embedder):
        return encoder
    found = None if encoder.startswith(HEAR) else open_encoder(encoder, device).encoder
    if not isinstance(found, Embedder):
        raise SearchError(f"{encoder}: gives no frames; use an encoder that matpac embed takes")
    return found


def reopen_embedder(
    database: Path, settings: DatabaseSettings, encoder: str | Embedder | None, device: str | torch.device = "cpu"
) -> Embedder:
    """The encoder of a database, by its stored name or as given, verified to be the same.

    Raises:
        SearchError: it is another one, or the stored one is not available.
    """
    try:
        embedder = open_embedder(encoder or settings.encoder, device)
    except MatpacError as error:
        if encoder is not None:
            raise
        raise SearchError(
            f"{database}: made by {settings.encoder}, which is not available: {error} If its weights have moved, "
            "name them with --encoder"
        ) from error
    require_same(database, settings, encoder_name(encoder or settings.encoder), embedder.key)
    return embedder


def require_same(database: Path, settings: DatabaseSettings, name: str, key: str) -> None:
    """Raise a SearchError if the encoder of this name and key is not the database's."""
    if key != settings.key:
        now = "now " if name == settings.encoder else ""
        raise SearchError(
            f"{database}: its vectors are of another encoder: {settings.encoder}, weights and settings "
            f"{settings.key[:SHOWN]}; {now}{name} is {key[:SHOWN]}. Name the first one with --encoder, or index "
            "into another database"
        )
