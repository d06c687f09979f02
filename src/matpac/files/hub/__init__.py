"""Names to files: the published checkpoints, and any repository of the Hugging Face hub."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from matpac.files.hub.downloads import DownloadError, check, download

RELEASE = "https://github.com/aurianworld/matpac/releases/download/Initial_release"


@dataclass(frozen=True)
class Published:
    """Where a published checkpoint comes from: an address or a hub repository.

    Args:
        file: its name in the cache folder, where it may be put by hand.
        url: of the file, where it is not on the hub.
        repository: owner/name on the hub.
    """

    file: str
    url: str | None = None
    repository: str | None = None

    @property
    def address(self) -> str:
        """For people."""
        return self.url or f"https://huggingface.co/{self.repository}"


PUBLISHED = {
    "matpac": Published("matpac_10_2048.pt", url=f"{RELEASE}/matpac_10_2048.pt"),
    "matpac++": Published("matpac_plus_6s_2048_enconly.pt", repository="auriankelen/matpac_general_audio"),
    "matpac++-music": Published("matpac_plus_music_6s_2048_enconly.pt", repository="auriankelen/matpac_music"),
    "matpac++-audioset": Published(
        "matpac_plus_as_48_1_map_enconly.pt", repository="auriankelen/matpac_audioset_finetune_encoder"
    ),
    "matpac++-audioset-tagger": Published(
        "matpac_plus_as_48_1_map_enc_and_head.pt",
        repository="auriankelen/matpac_audioset_finetune_classifier",
    ),
}
"""The released checkpoints by name (docs/method.md, section 8)."""

PACKAGED = {"tiny": Path(__file__).parents[2] / "weights" / "tiny.safetensors"}
"""Encoders that come with matpac, by name; `make tiny-encoder` made them, and a card lies beside each."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".onnx")
"""How files of weights end; what they hold is seen when they are opened."""

MODEL_FILE = "model.safetensors"
"""The hub's usual name."""

TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer, as huggingface_hub does."""


def cache_folder() -> Path:
    """Where published checkpoints lie: MATPAC_CACHE, or matpac in XDG_CACHE_HOME (~/.cache).

    What comes through the hub lies in the hub's own cache (HF_HOME), which other programs share.
    """
    if own := os.environ.get("MATPAC_CACHE"):
        return Path(own).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "matpac"


def published_file(name: str, hashed: bool = False, endpoint: str | None = None) -> Path:
    """The file of a published checkpoint, downloaded on first use.

    Args:
        name: a key of `PUBLISHED`.
        hashed: check every byte of a downloaded file again, not its size alone.
        endpoint: of another hub server.

    Raises:
        DownloadError: no connection, or not what was downloaded once; says where to put the file by hand.
    """
    published = PUBLISHED[name]
    target = cache_folder() / published.file
    if target.exists():
        check(target, hashed)
        return target
    try:
        if published.url:
            return download(published.url, target)
        return hub_file(published.repository or "", endpoint, latest=False)
    except DownloadError as error:
        raise DownloadError(
            f"{name}: {error}. By hand: fetch {published.file} from {published.address} and put it there: {target}"
        ) from error


def hub_file(reference: str, endpoint: str | None = None, latest: bool = True) -> Path:
    """The one file of weights of a hub repository, from the hub's cache where there is no connection.

    Args:
        reference: owner/name, with @revision (a branch, tag or commit) where not the main branch is meant.
        endpoint: of another hub server than huggingface.co or HF_ENDPOINT.
        latest: ask the hub for a newer file than the cache has.

    Raises:
        DownloadError: no such repository or revision, none or several files of weights in it, or no
            connection and nothing in the cache.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", reference)
    if not match:
        raise DownloadError(f"hub:{reference}: not of the form hub:owner/name or hub:owner/name@revision")
    repository, revision = match.groups()
    from huggingface_hub import errors

    try:
        if not latest:
            with suppress(errors.LocalEntryNotFoundError, DownloadError):
                return _cached(repository, revision)
        return _fetch(repository, revision, endpoint)
    except _known_errors() as error:
        raise DownloadError(f"hub:{reference}: {_reason(error, revision)}") from error


def _known_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises for what is not a mistake in here: its own errors, and those of requests,
    httpx or whatever this version of it is built on."""
    from huggingface_hub import errors

    connection = tuple(kind for kind in errors.HfHubHTTPError.__bases__ if issubclass(kind, Exception))
    return (errors.HFValidationError, OSError, *connection)


def _reason(error: Exception, revision: str | None) -> str:
    """An error of huggingface_hub in one line, with the way out."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner grants access on request; ask there, then hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {revision}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the name, or hf auth login"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "no connection to the hub, and the file is not in its cache yet"
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _fetch(repository: str, revision: str | None, endpoint: str | None) -> Path:
    """Ask for the usual name first: mostly it is there, and a dead connection is noticed at once."""
    from huggingface_hub import HfApi, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    file = MODEL_FILE
    try:
        get_hf_file_metadata(hf_hub_url(repository, file, revision=revision, endpoint=endpoint), timeout=TIMEOUT)
    except errors.EntryNotFoundError:
        file = choose(HfApi(endpoint=endpoint).list_repo_files(repository, revision=revision), repository)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except _known_errors():
        return _cached(repository, revision)
    return Path(hf_hub_download(repository, file, revision=revision, endpoint=endpoint))


def _cached(repository: str, revision: str | None) -> Path:
    """What the hub's cache has; raises LocalEntryNotFoundError where that is nothing."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return folder / choose(files, repository)


def choose(files: list[str], repository: str) -> str:
    """The file of weights among a repository's: `model.safetensors`, the only .safetensors, the only other, or
    where there is none of these the only .onnx.

    Raises:
        DownloadError: none, or several; names them.
    """
    if MODEL_FILE in files:
        return MODEL_FILE
    weights = sorted(file for file in files if file.endswith(WEIGHTS))
    safe = [file for file in weights if file.endswith(".safetensors")]
    candidates = safe or [file for file in weights if not file.endswith(".onnx")] or weights
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        found = f"several files of weights ({', '.join(candidates)}); download the one meant and load it as a file"
    else:
        found = f"no file of weights among {len(files)} (they end on {', '.join(WEIGHTS)})"
    raise DownloadError(f"hub:{repository}: {found}")
