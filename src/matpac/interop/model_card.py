"""The page that a hub repository shows of an encoder, filled from what the encoder says about itself."""

from matpac import __version__
from matpac.model.embedder import Embedder

LABELS_SHOWN = 20
"""Names of classes that the page lists; default: AudioSet's 527 are in the file."""

PAGE = """\
---
{header}
---

# {name}

{what} by [matpac](https://github.com/matpac/matpac), of the MATPAC and MATPAC++ family: it turns sound into \
one vector of {width} numbers per clip, and one every {hop} ms.
{about}
```python
import matpac

encoder = matpac.load("hub:{repository}")
waveform = matpac.read("song.flac")                       # mono, 16 kHz
scene = encoder.scene(waveform, 16_000)                   # [1, {width}]
frames, times = encoder.frames(waveform, 16_000)          # [1, T, {width}], centres in s{tags}
```

| | |
|---|---|
{table}
{classes}
The method is its authors':

- Quelennec et al., MATPAC++: Enhanced Masked Latent Prediction for Self-Supervised Audio Representation \
Learning, 2025, https://arxiv.org/abs/2508.12709
- Quelennec et al., Masked Latent Prediction and Classification for Self-Supervised Audio Representation \
Learning, ICASSP 2025, https://arxiv.org/abs/2502.12031
"""


def model_card(encoder: Embedder, repository: str, licence: str | None = None, about: str = "") -> str:
    """README.md in the hub's form: YAML for its search, then a page for people.

    Args:
        encoder: as `matpac.load` gives it.
        repository: owner/name.
        licence: of the weights, by the hub's name for it ("cc-by-4.0"); None states none.
        about: a paragraph on what it was trained on and for, in Markdown.
    """
    from huggingface_hub import ModelCardData

    tagger = encoder.head is not None
    header = ModelCardData(
        license=licence,
        library_name="matpac",
        pipeline_tag="audio-classification" if tagger else "feature-extraction",
        tags=["audio", "music", "audio-embeddings", "self-supervised-learning", "matpac"],
    )
    tags = "\ntags = encoder.tags(waveform, 16_000, top=5)[0]           # names and probabilities"
    return PAGE.format(
        header=header.to_yaml(),
        name=repository.partition("/")[2],
        repository=repository,
        what="An audio tagger" if tagger else "An audio encoder",
        width=encoder.width,
        hop=round(1000 * encoder.hop),
        about=f"\n{about.strip()}\n" if about.strip() else "",
        tags=tags if tagger else "",
        table="\n".join(f"| {name} | {value} |" for name, value in _table(encoder).items()),
        classes=f"\n{_classes(encoder)}\n" if tagger else "",
    )


def _table(encoder: Embedder) -> dict[str, str]:
    config, logmel, step = encoder.config, encoder.logmel.config, encoder.card.step
    weights = sum(tensor.numel() for tensor in encoder.encoder.parameters())
    return {
        "parameters": f"{weights / 1e6:.1f} M",
        "network": f"ViT, width {config.width}, {config.depth} blocks of {config.heads} heads",
        "longest chunk": f"{logmel.samples(config.frames) / logmel.sample_rate:.2f} s; longer clips are cut",
        "sample rate": f"{logmel.sample_rate} Hz (others are resampled)",
        "log-mel": f"{logmel.mels} bands of {logmel.low:g} to {logmel.high:g} Hz, mean {logmel.mean:g}, "
        f"standard deviation {logmel.std:g}",
        "vector": f"{encoder.width} numbers (bands × width: {config.bands} × {config.width})",
        "training steps": "unknown" if step is None else f"{step:,}",
        "written by": f"matpac {__version__}",
    }


def _classes(encoder: Embedder) -> str:
    assert encoder.head is not None
    names, classes = encoder.card.labels, encoder.head.linear.out_features
    kind = "one of them per clip" if encoder.card.exclusive else "any number of them per clip"
    if not names:
        return f"Classes: {classes}, without names; {kind}."
    shown = ", ".join(name.replace("\n", " ") for name in names[:LABELS_SHOWN])
    more = f" and {classes - LABELS_SHOWN} more" if classes > LABELS_SHOWN else ""
    return f"Classes: {shown}{more}; {kind}."
