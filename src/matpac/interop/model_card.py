"""The page that a hub repository shows of an encoder, filled from what the encoder says of itself."""

from matpac import __version__
from matpac.files.checkpoint.description import describe
from matpac.model.embedder import Embedder

PAPERS = (
    "Quelennec et al., MATPAC++: Enhanced Masked Latent Prediction for Self-Supervised Audio Representation "
    "Learning, 2025, https://arxiv.org/abs/2508.12709",
    "Quelennec et al., Masked Latent Prediction and Classification for Self-Supervised Audio Representation "
    "Learning, ICASSP 2025, https://arxiv.org/abs/2502.12031",
)
"""Whose method it is (CITATION.cff)."""

LABELS_SHOWN = 20
"""Names of classes that the page lists; ours: AudioSet's 527 are in the file."""


def model_card(encoder: Embedder, repository: str, licence: str | None = None, about: str = "") -> str:
    """README.md in the hub's form: YAML for its search, then a page for people.

    Args:
        encoder: as `matpac.load` gives it.
        repository: owner/name.
        licence: of the weights, by the hub's name for it ("cc-by-4.0"); None says nothing of it.
        about: a paragraph on what it was trained on and for, in Markdown.
    """
    from huggingface_hub import ModelCardData

    tagger = encoder.head is not None
    header = ModelCardData(
        license=licence,
        library_name="matpac",
        pipeline_tag="audio-classification" if tagger else "feature-extraction",
        tags=["audio", "music", "audio-embeddings", "self-supervised-learning", "matpac"],
    ).to_yaml()
    parts = [
        f"---\n{header}\n---",
        f"# {repository.partition('/')[2]}",
        _summary(encoder),
        *([about.strip()] if about.strip() else []),
        f"```python\n{_example(encoder, repository)}\n```",
        _table(encoder),
        *([_labels(encoder)] if tagger else []),
        "The method is its authors':\n\n" + "\n".join(f"- {paper}" for paper in PAPERS),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(encoder: Embedder) -> str:
    what = "An audio tagger" if encoder.head is not None else "An audio encoder"
    hop = round(1000 * encoder.hop)
    return (
        f"{what} by [matpac](https://github.com/matpac/matpac), of the family of MATPAC and MATPAC++: sound in, "
        f"one vector of {encoder.width} numbers a clip out, and one every {hop} ms."
    )


def _example(encoder: Embedder, repository: str) -> str:
    lines = [
        "import matpac",
        "",
        f'encoder = matpac.load("hub:{repository}")',
        'waveform = matpac.read("song.flac")                       # mono, 16 kHz',
        f"scene = encoder.scene(waveform, 16_000)                   # [1, {encoder.width}]",
        f"frames, times = encoder.frames(waveform, 16_000)          # [1, T, {encoder.width}], centres in s",
    ]
    if encoder.head is not None:
        lines.append("tags = encoder.tags(waveform, 16_000, top=5)[0]           # names and probabilities")
    return "\n".join(lines)


def _table(encoder: Embedder) -> str:
    config, logmel = encoder.config, encoder.logmel.config
    description = describe(encoder)
    weights = sum(tensor.numel() for tensor in encoder.encoder.parameters())
    rows = {
        "parameters": f"{weights / 1e6:.1f} M",
        "network": f"ViT, width {config.width}, {config.depth} blocks of {config.heads} heads",
        "sees at once": f"{logmel.samples(config.frames) / logmel.sample_rate:.2f} s; longer clips in chunks",
        "sample rate": f"{logmel.sample_rate} Hz (others are resampled)",
        "log-mel": f"{logmel.mels} bands of {logmel.low:g} to {logmel.high:g} Hz, mean {logmel.mean:g}, "
        f"deviation {logmel.std:g}",
        "vector": f"{encoder.width} numbers (bands × width: {config.bands} × {config.width})",
        "steps trained": "unknown" if description["step"] is None else f"{description['step']:,}",
        "written by": f"matpac {__version__}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _labels(encoder: Embedder) -> str:
    assert encoder.head is not None
    names, classes = encoder.card.labels, encoder.head.linear.out_features
    kind = "one of them a clip" if encoder.card.exclusive else "any number of them a clip"
    if not names:
        return f"Classes: {classes}, without names; {kind}."
    shown = ", ".join(name.replace("\n", " ") for name in names[:LABELS_SHOWN])
    more = f" and {classes - LABELS_SHOWN} more" if classes > LABELS_SHOWN else ""
    return f"Classes: {shown}{more}; {kind}."
