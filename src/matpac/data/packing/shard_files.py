"""One shard from its source files: a tar written whole or not at all, with what is in it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

import numpy as np
import soundfile
from jaxtyping import Float32, Int16

from matpac import audio
from matpac.atomic import written_whole
from matpac.audio import AudioError
from matpac.data.files import SHORTEST_SECONDS
from matpac.data.packing.plan import SourceFile
from matpac.data.packing.pool import Tick
from matpac.data.shards.index import Shard
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES, READ_BYTES
from matpac.errors import reason_of

CONTAINERS = {"flac": "FLAC", "pcm16": "WAV"}  # encodings, and libsndfile's names of their files
SUFFIXES = {"flac": ".flac", "pcm16": ".wav"}
# libsndfile reads a 16-bit sample n as n / 32768, so that a 16-bit file at 16 kHz is packed without loss.
FULL_SCALE = 32_768
# An encoded clip up to this size waits in memory for its place in the tar, a longer one in a file; default.
SPOOLED_BYTES = 2**26


@dataclass(frozen=True)
class Packed:
    """The result for one clip: the place of its sound in the tar and its samples, or why it was skipped."""

    number: int
    name: str = ""
    offset: int = 0
    size: int = 0
    samples: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ShardDone:
    """A whole shard, and the results for all files that were planned for it."""

    shard: Shard
    clips: list[Packed]

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "ShardDone":
        """The object from its text."""
        said = json.loads(text)
        return ShardDone(Shard(**said["shard"]), [Packed(**clip) for clip in said["clips"]])


def shard_name(number: int) -> str:
    """The file name of a tar: names sort as the numbers do up to a million."""
    return f"{number:06d}.tar"


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(READ_BYTES):
            found.update(content)
    return found.hexdigest()


def write_shard(folder: Path, encoding: str, files: Sequence[SourceFile], tick: Tick) -> ShardDone:
    """Writes the tar of the files of one shard and returns its content. The same files give the same bytes.

    A file that can't be decoded is skipped, with its reason. Raises OSError where the disk refuses.
    """
    name, clips = shard_name(files[0].shard), []
    with written_whole(folder / name) as draft:
        with tarfile.open(draft, "w", format=tarfile.USTAR_FORMAT) as tar:
            for source in files:
                clips.append(_add(tar, source, folder, encoding))
                tick()
        size, digest = draft.stat().st_size, hash_of(draft)
    samples = [clip.samples for clip in clips if not clip.reason]
    return ShardDone(Shard(name, len(samples), sum(samples), size, digest), clips)


def _add(tar: tarfile.TarFile, source: SourceFile, folder: Path, encoding: str) -> Packed:
    with SpooledTemporaryFile(SPOOLED_BYTES, dir=str(folder)) as sound:
        try:
            samples = encode(source.path, sound, encoding)
            sound.seek(0, io.SEEK_END)
            size = sound.tell()
            if samples < SHORTEST_SECONDS * audio.SAMPLE_RATE:
                raise AudioError(f"{source.path}: too short: {samples} samples at 16 kHz")
            if size > MOST_MEMBER_BYTES:
                raise AudioError(f"{source.path}: {size} bytes are too many for a member; cut it into parts")
        except AudioError as error:
            return Packed(source.number, reason=reason_of(error, source.path))
        sound.seek(0)
        name, offset = source.key + SUFFIXES[encoding], tar.offset + BLOCK
        _add_member(tar, name, size, sound)
    about: dict[str, object] = {"source": source.source, "duration": samples / audio.SAMPLE_RATE}
    if source.labels:
        about["labels"] = source.labels
    text = json.dumps(about, ensure_ascii=False).encode()
    _add_member(tar, f"{source.key}.json", len(text), io.BytesIO(text))
    return Packed(source.number, name, offset, size, samples)


def _add_member(tar: tarfile.TarFile, name: str, size: int, content: object) -> None:
    """Adds a member, with nothing in its header that depends on where and when it is written."""
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, cast(IO[bytes], content))


def encode(path: str, target: object, encoding: str) -> int:
    """Writes a file's sound to a binary file: mono, 16 kHz, 16 bits. Returns its samples. Raises AudioError."""
    rate, container, samples = audio.SAMPLE_RATE, CONTAINERS[encoding], 0
    with soundfile.SoundFile(cast(Any, target), "w", rate, 1, subtype="PCM_16", format=container) as sound:
        for block in audio.blocks(path):
            sound.write(to_16_bits(block))
            samples += len(block)
    return samples


def to_16_bits(waveform: Float32[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    """The nearest 16-bit samples; what is beyond full scale is clipped."""
    return np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
