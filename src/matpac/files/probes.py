"""The published linear probes: one zip for all of them, the file of one task in it, and the probe in that."""

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from matpac.atomic import written_whole
from matpac.errors import MatpacError
from matpac.files.hub import DownloadError, cache_folder, download
from matpac.files.tensor_files import CheckpointError, fill, open_tensors, some
from matpac.model.heads import SceneProbe

FILE = "Weights_probes_matpac.zip"
URL = f"https://github.com/aurianworld/matpac/releases/download/Probes_weights/{FILE}"

FOLDERS = {"matpac++": "matpac++_general_audio", "matpac++-music": "matpac++_music"}
"""Encoders with probes, and their folder in the zip (docs/method.md, section 8)."""

WEIGHT, BIAS = "probe.weight", "probe.bias"

LARGEST_PROBE = 2**26
"""Bytes of one probe, unpacked; default: AudioSet's 527 classes would take 8 MB."""


@dataclass(frozen=True)
class PublishedProbe:
    """What a task's probe scores.

    Args:
        classes: number of them.
        exclusive: one label at a time (softmax), or several (sigmoid; the published code applies softmax there
            too, by mistake).
        labels: names of the classes, where their order is certain because the corpus's numbers and the alphabet
            agree; empty elsewhere.
        folders: further names of its folder than the task's own, in lower-case letters and digits.
    """

    classes: int
    exclusive: bool
    labels: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


_US8K = "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren"
_GTZAN = "blues classical country disco hiphop jazz metal pop reggae rock"
_NSYNTH = "bass brass flute guitar keyboard mallet organ reed string synth_lead vocal"
_OPENMIC = "accordion banjo bass cello clarinet cymbals drums flute guitar mallet_percussion mandolin organ piano"
_OPENMIC += " saxophone synthesizer trombone trumpet ukulele violin voice"

PROBES = {
    "esc50": PublishedProbe(50, True),
    "us8k": PublishedProbe(10, True, (*_US8K.split(), "street_music"), ("urbansound8k",)),
    "gtzan": PublishedProbe(10, True, tuple(_GTZAN.split())),
    "nsynth": PublishedProbe(11, True, tuple(_NSYNTH.split())),
    "openmic": PublishedProbe(20, False, tuple(_OPENMIC.split()), ("openmic2018",)),
    "mtt": PublishedProbe(50, False, folders=("magnatagatune", "mtat")),
    "fsd50k": PublishedProbe(200, False),
}
"""By name of the task; sizes and kinds as in docs/evaluation.md."""


def probe_file(encoder: str, task: str) -> Path:
    """The file of one published probe, taken from the zip, which is downloaded on first use.

    Args:
        encoder: a key of `FOLDERS`.
        task: a key of `PROBES`.

    Raises:
        MatpacError: no such encoder or task.
        DownloadError: the zip can't be fetched, is damaged, or has not exactly one file for this task.
    """
    if encoder not in FOLDERS:
        raise MatpacError(f"{encoder}: no published probes; they exist for {' and '.join(FOLDERS)}")
    if task not in PROBES:
        raise MatpacError(f"{task}: no published probe; choose from {', '.join(PROBES)}")
    place = download(URL, cache_folder() / FILE, largest=2**28)  # all probes together have about 11 MB
    try:
        with zipfile.ZipFile(place) as archive:
            member = _member(place, archive.infolist(), encoder, task)
            content = archive.read(member)  # no more than its file_size, and its checksum is verified
    except MatpacError:
        raise
    # raised by zipfile for damage, and for encryption and compressions that it can't undo
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise DownloadError(f"{place}: damaged or no zip ({error}); delete it to download it again") from error
    # under a name of its own, since names in a zip may lead anywhere
    target = cache_folder() / "probes" / f"{encoder}-{task}{PurePosixPath(member.filename).suffix.lower()}"
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as draft:
            draft.write_bytes(content)
    return target


def _member(place: Path, members: list[zipfile.ZipInfo], encoder: str, task: str) -> zipfile.ZipInfo:
    """The one file of weights in the task's folder."""
    weights = re.compile(rf"(?:.*/)?{re.escape(FOLDERS[encoder])}/([^/]+)/[^./][^/]*\.(?i:pt|pth|safetensors)")
    tasks, found = set(), []
    for member in members:
        if (match := weights.fullmatch(member.filename)) and "__MACOSX/" not in member.filename:
            tasks.add(match[1])
            if re.sub(r"[^a-z0-9]", "", match[1].lower()) in (task, *PROBES[task].folders):
                found.append(member)
    if not found:
        there = f"has folders for {', '.join(sorted(tasks))}" if tasks else "is not there, or empty"
        raise DownloadError(f"{place}: no probe of {encoder} for {task}; {FOLDERS[encoder]} {there}")
    names, size = ", ".join(member.filename for member in found), found[0].file_size
    if len(found) > 1:
        raise DownloadError(f"{place}: several files for {task}: {names}; keep one in the zip")
    if size > LARGEST_PROBE:
        raise DownloadError(f"{place}: {names} has {size} bytes, more than {LARGEST_PROBE}; not unpacked")
    return found[0]


def load_probe(path: Path) -> SceneProbe:
    """The probe in a file: `probe.weight` and `probe.bias` on the scene; their names may have a common prefix.

    Raises:
        CheckpointError: the file is no probe, is damaged, would run code, or holds anything else; names it.
        OSError: it can't be read.
    """
    with open_tensors(path) as (content, _):
        names = [str(name) for name in content]
        [prefix, *more] = [name.removesuffix(WEIGHT) for name in names if name.endswith(WEIGHT)] or [""]
        if more or sorted(names) != [prefix + BIAS, prefix + WEIGHT]:
            raise CheckpointError(
                f"{path}: a probe holds {WEIGHT} and {BIAS} alone, not {some(names) or 'nothing'}"
            )
        matrix, bias = content[prefix + WEIGHT], content[prefix + BIAS]
        if (
            not isinstance(matrix, Tensor)
            or not isinstance(bias, Tensor)
            or matrix.ndim != 2
            or not matrix.numel()
        ):
            raise CheckpointError(f"{path}: {prefix}{WEIGHT} is no matrix [class, scene], or {BIAS} no tensor")
        with torch.device("meta"):
            probe = SceneProbe(matrix.shape[1], matrix.shape[0])
        fill(probe, {"linear.weight": matrix, "linear.bias": bias}, str(path))
    return probe
