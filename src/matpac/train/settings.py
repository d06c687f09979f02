"""What a resumed run has to keep of the settings it began with."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from matpac.train.run import RunError

FREE = {
    "resume", "output", "data", "devices", "nodes", "workers", "log_every", "checkpoint_every", "keep",
    "accelerator", "keep_checkpoints", "activation_checkpointing", "compile",
}  # fmt: skip
"""Options that a resumed run may change: they decide where and how it runs, and of results the rounding alone.

`data` says where the corpus lies; that it is the one of before, `Run.restore` sees by its fingerprint."""


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
            f"{asdict(options)['output']}: a resumed run keeps its settings, and these differ: "
            f"{'; '.join(changed)}; leave them away, or start another run"
        )


def _as_kept(settings: Any) -> dict[str, object]:
    """All numbers of a dataclass by their names, as the run folder's JSON gives them back."""
    return _flat(json.loads(json.dumps(asdict(settings))))


def _defaults(settings: Any) -> dict[str, object]:
    """Those that have a default: a run of before there was an option did what its default does."""
    needed = {
        field.name: getattr(settings, field.name)
        for field in fields(settings)
        if field.default is MISSING and field.default_factory is MISSING
    }
    made = _as_kept(type(settings)(**needed))
    return {key: value for key, value in made.items() if key.partition(".")[0] not in needed}


def _flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
