"""Names to files: the published checkpoints, files of the web, and repositories of the Hugging Face hub.

pooch downloads single files, huggingface_hub those of the hub; both write a file whole or not at all.
"""

import os
import re
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from matpac.errors import MatpacError, one_line

HUB = "hub:"
"""Prefix of the names of encoders on the hub."""

RELEASE = "https://github.com/aurianworld/matpac/releases/download/Initial_release"

AUDIOSET_LABELS = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
"""Names of AudioSet's classes, as linked from research.google.com/audioset/download.html."""

WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".onnx")
"""Suffixes of files of weights; what they hold is seen when they are opened."""

MODEL_FILE = "model.safetensors"
"""The usual name of a file of weights on the hub."""

LARGEST = 2**32
"""Bytes of a download; default: ViT-B with all its training state has 1 GB."""


class DownloadError(MatpacError):
    """A file that could not be fetched; the message says why and what to do."""


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


PUBLISHED = {
    "matpac": Published("matpac_10_2048.pt", url=f"{RELEASE}/matpac_10_2048.pt"),
    "matpac++": Published("matpac_plus_6s_2048_enconly.pt", repository="auriankelen/matpac_general_audio"),
    "matpac++-music": Published("matpac_plus_music_6s_2048_enconly.pt", repository="auriankelen/matpac_music"),
    "matpac++-audioset": Published(
        "matpac_plus_as_48_1_map_enconly.pt", repository="auriankelen/matpac_audioset_finetune_encoder"
    ),
    "matpac++-audioset-tagger": Published(
        "matpac_plus_as_48_1_map_enc_and_head.pt", repository="auriankelen/matpac_audioset_finetune_classifier"
    ),
}
"""The released checkpoints by name (docs/method.md, section 8)."""

PACKAGED = {"tiny": Path(__file__).parents[1] / "weights" / "tiny.safetensors"}
"""Encoders that come with matpac, by name; `make tiny-encoder` made them, and a card lies beside each."""


def cache_folder() -> Path:
    """Where single files are cached: MATPAC_CACHE, or matpac in XDG_CACHE_HOME (~/.cache).

    Files of the hub are in the hub's own cache (HF_HOME), which other programs share.
    """
    if own := os.environ.get("MATPAC_CACHE"):
        return Path(own).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "matpac"


def published_file(name: str) -> Path:
    """The file of a published checkpoint (a key of `PUBLISHED`), downloaded on first use.

    Raises:
        DownloadError: it can't be fetched; says where to put the file by hand.
    """
    published = PUBLISHED[name]
    target = cache_folder() / published.file
    if published.url or target.exists():
        return download(published.url or "", target)
    try:
        return hub_file(published.repository or "", latest=False)
    except DownloadError as error:
        address = f"https://huggingface.co/{published.repository}"
        raise DownloadError(f"{name}: {error}. {_by_hand(target, address)}") from error


def audioset_label_file() -> Path:
    """AudioSet's `class_labels_indices.csv`, downloaded on first use. Raises as `download`."""
    # names are no reason to keep anyone waiting: one try; the file has 15 kB
    return download(AUDIOSET_LABELS, cache_folder() / "class_labels_indices.csv", 2**20, tries=1, timeout=10)


def download(url: str, target: Path, largest: int = LARGEST, tries: int = 3, timeout: float = 30) -> Path:
    """Fetch a file, unless it is there: downloaded before, by another process meanwhile, or put there by hand.

    Args:
        url: https (plain http from 127.0.0.1 only).
        target: the file; its folder is created.
        largest: bytes that are accepted.
        tries: attempts.
        timeout: seconds without an answer or a byte after which an attempt has failed.

    Raises:
        DownloadError: no connection, an error of the server, too large, or it can't be written; says where to put
            the file by hand.
    """
    if target.exists():
        return target
    from filelock import FileLock
    from pooch import HTTPDownloader, Pooch, get_logger

    def check(response: Any, **_: object) -> None:
        """Refuse an answer, also one that redirects, before its content is read."""
        answers.callback(response.close)
        place = urlsplit(response.url)
        if place.scheme != "https" and place.hostname != "127.0.0.1":
            raise OSError(f"it leads to {response.url}, and only https is accepted")
        size = int(response.headers.get("Content-Length", 0))
        if response.status_code == 200 and not 0 < size <= largest:
            raise OSError(f"{size or 'an unknown number of'} bytes instead of at most {largest}")

    answers = ExitStack()  # pooch leaves those open that break off
    get_logger().setLevel("WARNING")
    options: dict[str, Any] = {"headers": {"Accept-Encoding": "identity"}, "hooks": {"response": check}}
    fetch: Any = HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**20, timeout=timeout, **options)
    known: dict[str, Any] = {target.name: None}  # no hashes are published
    files = Pooch(target.parent, "", known, {target.name: url}, retry_if_failed=tries - 1)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"), answers:
            return Path(files.fetch(target.name, downloader=fetch))
    except (OSError, ValueError) as error:
        raise DownloadError(f"{url}: not downloaded ({one_line(error)}). {_by_hand(target, url)}") from error


def _by_hand(target: Path, address: str) -> str:
    return f"Try again, or fetch {target.name} from {address} yourself and put it there: {target}"


def hub_file(reference: str, latest: bool = True) -> Path:
    """The one file of weights in a hub repository, from the hub's cache where there is no connection.

    Args:
        reference: owner/name, or owner/name@revision (a branch, tag or commit) for another than the main branch.
        latest: ask the hub for a newer file than the cache has.

    Raises:
        DownloadError: no such repository or revision, none or several files of weights in it, or no
            connection and nothing in the cache.
    """
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", reference)
    if not match:
        raise DownloadError(f"hub:{reference}: not of the form hub:owner/name or hub:owner/name@revision")
    repository, revision = match.groups()
    from huggingface_hub import HfApi, errors, hf_hub_download

    try:
        if not latest:
            with suppress(errors.LocalEntryNotFoundError, DownloadError):
                return _cached(repository, revision)
        try:  # mostly it has the usual name
            return Path(hf_hub_download(repository, MODEL_FILE, revision=revision))
        except errors.LocalEntryNotFoundError:  # no connection
            return _cached(repository, revision)
        except errors.EntryNotFoundError:
            file = choose(HfApi().list_repo_files(repository, revision=revision), repository)
            return Path(hf_hub_download(repository, file, revision=revision))
    except hub_errors() as error:
        raise DownloadError(f"hub:{reference}: {hub_reason(error)}") from error


def _cached(repository: str, revision: str | None) -> Path:
    """The file in the hub's cache; raises LocalEntryNotFoundError where that has nothing."""
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
    found = f"no file of weights among {len(files)} (they end in {', '.join(WEIGHTS)})"
    if candidates:
        found = f"several files of weights ({', '.join(candidates)}); download one of them and load it as a file"
    raise DownloadError(f"hub:{repository}: {found}")


def hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises for a wrong name, a refusal or a broken connection: its own errors, and those of
    requests, httpx or whatever this version of it is built on."""
    from huggingface_hub import errors

    connection = tuple(kind for kind in errors.HfHubHTTPError.__bases__ if issubclass(kind, Exception))
    return (errors.HFValidationError, OSError, *connection)


def hub_reason(error: Exception) -> str:
    """An error of huggingface_hub in one line, with the way out."""
    from huggingface_hub import errors

    reasons = {
        errors.GatedRepoError: "its owner grants access on request; ask there, then run hf auth login",
        errors.RevisionNotFoundError: "the repository has no such revision",
        errors.RepositoryNotFoundError: "no such repository, or a private one; check its name or hf auth login",
        errors.LocalEntryNotFoundError: "no connection to the hub, and the file is not in its cache yet",
    }
    known = next((reason for kind, reason in reasons.items() if isinstance(error, kind)), None)
    return known or next(iter(str(error).splitlines()), "") or type(error).__name__
