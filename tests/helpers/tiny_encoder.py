"""The smallest encoder that is one."""

from typing import Any

from matpac.model.embedder import Card, Embedder
from matpac.model.heads import Tagger
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import Encoder, EncoderConfig

TINY = EncoderConfig(width=16, depth=2, heads=2, mels=16, frames=32)
MEL16 = LogMelConfig(mels=16)


def tiny(classes: int | None = None, **card: Any) -> Embedder:
    head = None if classes is None else Tagger(TINY.width, classes)
    return Embedder(Encoder(TINY), MEL16, head, Card(**card))
