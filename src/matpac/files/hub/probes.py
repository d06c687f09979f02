"""The published linear probes: one zip for all, and the file of one task taken out of it."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from matpac.atomic import written_whole
from matpac.errors import MatpacError
from matpac.files.hub import cache_folder
from matpac.files.hub.downloads import TIMEOUT, TRIES, Limits, download
from matpac.files.hub.receipts import DownloadError

FILE = "Weights_probes_matpac.zip"
URL = f"https://github.com/aurianworld/matpac/releases/download/Probes_weights/{FILE}"

FOLDERS = {"matpac++": "matpac++_general_audio", "matpac++-music": "matpac++_music"}
"""Encoders that have probes, and their folder in the zip (docs/method.md, section 8)."""

SUFFIXES = (".pt", ".pth", ".safetensors")

LIMITS = Limits(2**28, TRIES, TIMEOUT)
"""All probes together have about 11 MB (351 classes × 3840 × 4 bytes, twice); ours."""

LARGEST_PROBE = 2**26
"""Bytes of one probe, unpacked: AudioSet's 527 classes would take 8 MB; ours."""


@dataclass(frozen=True)
class PublishedProbe:
    """What a task's probe scores.

    Args:
        classes: how many.
        exclusive: one label at a time (softmax), or several (sigmoid; the published code applies softmax there
            too, a slip).
        folders: how its folder may be called, in small letters and digits.
        labels: names of the classes, where their order is certain: where the corpus's numbers and the alphabet
            give the same one. Empty elsewhere.
    """

    classes: int
    exclusive: bool
    folders: tuple[str, ...]
    labels: tuple[str, ...] = ()


PROBES = {
    "esc50": PublishedProbe(50, True, ("esc50",)),
    "us8k": PublishedProbe(
        10, True, ("us8k", "urbansound8k"),
        ("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling", "gun_shot",
         "jackhammer", "siren", "street_music"),
    ),
    "gtzan": PublishedProbe(
        10, True, ("gtzan",),
        ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"),
    ),
    "nsynth": PublishedProbe(
        11, True, ("nsynth",),
        ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead",
         "vocal"),
    ),
    "openmic": PublishedProbe(
        20, False, ("openmic", "openmic2018"),
        ("accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar",
         "mallet_percussion", "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet",
         "ukulele", "violin", "voice"),
    ),
    "mtt": PublishedProbe(50, False, ("mtt", "magnatagatune", "mtat")),
    "fsd50k": PublishedProbe(200, False, ("fsd50k",)),
}  # fmt: skip
"""By the name of the task; sizes and kinds as in docs/evaluation.md."""


def probe_file(encoder: str, task: str) -> Path:
    """The file of one published probe, taken out of the zip, which is downloaded on first use.

    Args:
        encoder: a key of `FOLDERS`.
        task: a key of `PROBES`.

    Raises:
        MatpacError: no such encoder or task.
        DownloadError: the zip can't be fetched, is damaged, or has not one file for this task.
    """
    if encoder not in FOLDERS:
        raise MatpacError(f"{encoder}: no published probes; there are some of {' and '.join(FOLDERS)}")
    if task not in PROBES:
        raise MatpacError(f"{task}: no published probe; there are {', '.join(PROBES)}")
    place = download(URL, cache_folder() / FILE, limits=LIMITS)
    try:
        with zipfile.ZipFile(place) as archive:
            member = _member(place, archive.infolist(), encoder, task)
            content = _content(archive, member)
    except MatpacError:
        raise
    # what zipfile raises for damage, and for encryption and compressions that it can't undo
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        reason = f"{place}: damaged or no zip ({error}); delete it, and it is downloaded again"
        raise DownloadError(reason) from error
    suffix = PurePosixPath(member.filename).suffix.lower()
    return _write(content, cache_folder() / "probes" / f"{encoder}-{task}{suffix}")


def _member(place: Path, members: list[zipfile.ZipInfo], encoder: str, task: str) -> zipfile.ZipInfo:
    """The one file of weights in the task's folder."""
    found, tasks = [], set()
    for member in members:
        path = PurePosixPath(member.filename)
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        if len(path.parts) < 3 or path.parts[-3] != FOLDERS[encoder]:
            continue
        tasks.add(path.parts[-2])
        if re.sub(r"[^a-z0-9]", "", path.parts[-2].lower()) in PROBES[task].folders:
            found.append(member)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(member.filename for member in found)
        raise DownloadError(f"{place}: several files for {task}: {names}; keep one in the zip")
    there = f"has folders for {', '.join(sorted(tasks))}" if tasks else "is not there, or empty"
    raise DownloadError(f"{place}: no probe of {encoder} for {task}; {FOLDERS[encoder]} {there}")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.file_size > LARGEST_PROBE:
        raise DownloadError(
            f"{archive.filename}: {member.filename} has {member.file_size} bytes, and no probe more than "
            f"{LARGEST_PROBE}; not unpacked"
        )
    with archive.open(member) as packed:
        return packed.read(LARGEST_PROBE)  # zipfile gives no more than file_size, and checks the sum


def _write(content: bytes, target: Path) -> Path:
    """The file under a name of ours, since names in a zip may lead anywhere; whole or not at all."""
    if target.exists() and target.read_bytes() == content:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as draft:
        draft.write_bytes(content)
    return target
