"""The encoder that made a database's vectors: stored by name, opened again, verified."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from matpac.errors import MatpacError
from matpac.files.hub import HUB, PACKAGED, PUBLISHED
from matpac.model.embedder import Embedder
from matpac.probe.encoders import HEAR, RANDOM, open_encoder
from matpac.search.database import DatabaseSettings, SearchError

SHOWN = 12
"""Digits of a key that are shown; default; enough to tell two encoders apart."""


@dataclass(frozen=True)
class SearchEncoder:
    """An open encoder.

    Args:
        name: as a database stores it, valid in any working directory.
        embedder: gives the vectors.
        key: SHA-256 of its weights and settings, computed once.
    """

    name: str
    embedder: Embedder
    key: str

    @classmethod
    def open(cls, encoder: str | Embedder, device: str | torch.device = "cpu") -> "SearchEncoder":
        """An encoder by name, or the given one.

        Raises:
            SearchError: it gives no frames, and so no windows.
            EncoderError, CheckpointError, DownloadError: as `open_encoder`.
        """
        if isinstance(encoder, Embedder):
            return cls(encoder.card.name, encoder, encoder.key)
        found = None if encoder.startswith(HEAR) else open_encoder(encoder, device)
        if found is None or not isinstance(found.encoder, Embedder):
            raise SearchError(f"{encoder}: gives no frames; use an encoder that matpac embed takes")
        name, path = encoder, Path(encoder).expanduser()
        if not (name in PACKAGED or name in PUBLISHED or name.startswith((RANDOM, HUB))) and path.exists():
            name = os.path.abspath(path)  # noqa: PTH100 (links stay)
        return cls(name, found.encoder, found.key)

    @classmethod
    def reopen(
        cls,
        database: Path,
        settings: DatabaseSettings,
        encoder: str | Embedder | None = None,
        device: str | torch.device = "cpu",
    ) -> "SearchEncoder":
        """The encoder of a database, by its stored name or as given.

        Raises:
            SearchError: it is another one, or the stored one is not available.
        """
        try:
            opened = cls.open(encoder or settings.encoder, device)
        except MatpacError as error:
            if encoder is not None:
                raise
            raise SearchError(
                f"{database}: made by {settings.encoder}, which is not available: {error} If its weights have "
                "moved, name them with --encoder"
            ) from error
        opened.require_same(database, settings)
        return opened

    def require_same(self, database: Path, settings: DatabaseSettings) -> None:
        """Raise a SearchError if this is not the database's encoder."""
        if self.key != settings.key:
            now = "now " if self.name == settings.encoder else ""
            raise SearchError(
                f"{database}: its vectors are of another encoder: {settings.encoder}, weights and settings "
                f"{settings.key[:SHOWN]}; {now}{self.name} is {self.key[:SHOWN]}. Name the first one with "
                "--encoder, or index into another database"
            )
