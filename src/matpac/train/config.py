"""The configuration of a run as its folder keeps it, and what of it a resumed run may change."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from matpac.errors import MatpacError

CONFIG_FILE = "config.json"

FREE = {
    "resume", "output", "data", "device", "devices", "nodes", "workers", "log_every", "checkpoint_every", "keep",
    "activation_checkpointing", "compile",
}  # fmt: skip
"""Options that a resumed run may change: they decide where and how it computes; results differ by rounding alone.

`data` is where the corpus lies; that its clips are the same, `Run.restore` checks by their fingerprint."""

RENAMED = {"accelerator": "device", "keep_checkpoints": "keep"}
"""Options of earlier versions, and what they are called now."""

REMOVED = {"crops_per_read": 1, "averaging": "off"}
"""Settings of earlier versions that are gone, and the value (or `kind`) that does what is done now."""


class RunError(MatpacError):
    """A run folder that cannot be used; the message names it and the way out."""


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run was started with, with today's names for its options.

    Raises:
        RunError: there is none, it is damaged, or it has a setting that is gone.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise RunError(f"{folder}: no run to resume ({CONFIG_FILE} is missing); start it without --resume")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); restore it, or start another run") from error
    parts = (config.get("recipe"), config.get("options")) if isinstance(config, dict) else (None,)
    if not all(isinstance(part, dict) for part in parts):
        raise RunError(f"{path}: damaged (not a recipe and options); restore it, or start another run")
    for part in (config["recipe"], config["options"]):
        for name in REMOVED.keys() & part.keys():
            kept = part.pop(name)
            kept = kept.get("kind") if isinstance(kept, dict) else kept
            if kept != REMOVED[name]:
                raise RunError(
                    f"{path}: {name} {kept} is no longer available; resume with the matpac that wrote it"
                )
    config["options"] = {RENAMED.get(name, name): value for name, value in config["options"].items()}
    if config["options"].get("device") == "gpu":  # an accelerator's other name
        config["options"]["device"] = "auto"
    return config


def check_unchanged(kept: Mapping[str, Any], recipe: Any, options: Any) -> None:
    """Compare a recipe and options, both dataclasses, with the configuration of the run folder (`read_config`).

    Raises:
        RunError: a setting that decides what is computed differs; names all that do.
    """
    before = {**_defaults(recipe), **_defaults(options), **_flat(kept["recipe"]), **_flat(kept["options"])}
    now = {**_as_kept(recipe), **_as_kept(options)}
    changed = [
        f"{key} {before.get(key)} → {now[key]}" for key in now if key not in FREE and before.get(key) != now[key]
    ]
    if changed:
        raise RunError(
            f"{options.output}: a resumed run keeps its settings, and these differ: {'; '.join(changed)}; omit "
            "these options, or start another run"
        )


def _as_kept(settings: Any) -> dict[str, object]:
    """All settings of a dataclass by their dotted names, as they come back from JSON."""
    return _flat(json.loads(json.dumps(asdict(settings))))


def _defaults(settings: Any) -> dict[str, object]:
    """Settings that have a default: a run from before an option existed did what its default does."""
    required = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.default is MISSING and field.default_factory is MISSING
    }
    all_settings = _as_kept(type(settings)(**required))
    return {key: value for key, value in all_settings.items() if key.partition(".")[0] not in required}


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
