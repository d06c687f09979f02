"""What must hold of a probe's input."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from matpac.tasks.task import Fold, LabelKind


def untrained_classes(
    split: Fold,
    labels: Shaped[np.ndarray, "clip *class"],
    classes: int,
    known: Bool[np.ndarray, "clip class"] | None = None,
) -> Integer[np.ndarray, "missing"]:
    """Numbers of the classes that no training clip has, though clips of another part of the split have them."""
    if labels.ndim == 1:
        train, others = (
            np.bincount(labels[rows], minlength=classes)
            for rows in (split.train, np.concatenate([split.valid, split.test]))
        )
    else:
        positive = labels.astype(bool) if known is None else labels.astype(bool) & known
        train = positive[split.train].sum(axis=0)
        others = positive[split.valid].sum(axis=0) + positive[split.test].sum(axis=0)
    return np.flatnonzero((train == 0) & (others > 0))


def check_probe_input(
    features: Float[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."],
    splits: Sequence[Fold],
    kind: LabelKind,
    known: Bool[np.ndarray, "..."] | None,
) -> None:
    """Raise a ValueError that names the first thing that does not fit together."""
    _check_features(features)
    _check_labels(len(features), labels, kind, known)
    if not splits:
        raise ValueError("splits is empty: give one Fold per fold")
    for number, split in enumerate(splits):
        _check_parts(f"split {number}", split, len(features))
        _check_classes(f"split {number}", split, labels, kind, known)


def _check_features(features: Float[np.ndarray, "..."]) -> None:
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be [clip, dim], not of shape {list(features.shape)}")
    if features.dtype not in (np.float32, np.float16):
        raise ValueError(f"features must be float32 or float16, not {features.dtype}")
    # a block at a time: features may be larger than the memory for a second array of their size
    blocks = [np.isfinite(features[start : start + 4096]).all(axis=1) for start in range(0, len(features), 4096)]
    bad = np.flatnonzero(~np.concatenate(blocks))
    if bad.size:
        raise ValueError(
            f"features of {bad.size} of {len(features)} clips hold NaN or infinity, first row {bad[0]}"
        )


def _check_labels(
    clips: int, labels: Shaped[np.ndarray, "..."], kind: LabelKind, known: Bool[np.ndarray, "..."] | None
) -> None:
    if kind not in ("single", "multi"):
        raise ValueError(f"kind must be 'single' or 'multi', not {kind!r}")
    if labels.ndim != (1 if kind == "single" else 2) or len(labels) != clips:
        wanted = f"[{clips}]" if kind == "single" else f"[{clips}, class]"
        raise ValueError(f"labels of kind {kind!r} for {clips} clips must be {wanted}, not {list(labels.shape)}")
    if kind == "single":
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ValueError(
                f"labels must be class indices from 0 up; they are {labels.dtype} from {labels.min()}"
            )
        if known is not None:
            raise ValueError("known is for kind 'multi'; leave clips without a label out of the splits")
        return
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels of kind 'multi' must be 0 or 1; mark unknown labels in `known` instead")
    if known is not None and known.shape != labels.shape:
        raise ValueError(f"known must be as labels, {list(labels.shape)}, not {list(known.shape)}")


def _check_parts(name: str, split: Fold, clips: int) -> None:
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    for part, rows in parts.items():
        if rows.size == 0:
            raise ValueError(f"{name}: its {part} part is empty")
        if rows.min() < 0 or rows.max() >= clips:
            raise ValueError(f"{name}: its {part} part has row {rows.min()} to {rows.max()} of {clips} clips")
    for one, other in combinations(parts, 2):
        shared = np.intersect1d(parts[one], parts[other])
        if shared.size:
            raise ValueError(f"{name}: {shared.size} clips are in {one} and {other}, first row {shared[0]}")


def _check_classes(
    name: str,
    split: Fold,
    labels: Shaped[np.ndarray, "clip *class"],
    kind: LabelKind,
    known: Bool[np.ndarray, "clip class"] | None,
) -> None:
    if kind == "multi":
        positive = labels.astype(bool) if known is None else labels.astype(bool) & known
        for part, rows in (("valid", split.valid), ("test", split.test)):
            if not positive[rows].any():
                raise ValueError(f"{name}: no class has a known positive in its {part} part, so there is no mAP")
    classes = int(labels.max()) + 1 if kind == "single" else labels.shape[1]
    missing = np.setdiff1d(untrained_classes(split, labels, classes, known), split.untrained).tolist()
    if missing:
        which = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        raise ValueError(f"{name}: no training clip has class {which} ({len(missing)} of {classes} classes)")
