"""One shard from its source files: a tar written whole or not at all, with what is in it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from matpac import audio
from matpac.atomic import written_whole
from matpac.audio import AudioError
from matpac.data.files import SHORTEST_SECONDS
from matpac.data.packing.encode import SUFFIXES, encode
from matpac.data.packing.plan import SourceFile
from matpac.data.packing.pool import Tick
from matpac.data.shards.index import Shard
from matpac.data.shards.tar import BLOCK, MOST_MEMBER_BYTES, ByteStream
from matpac.errors import reason_of

# An encoded clip up to this size waits in memory for its place in the tar, a longer one in a file; default.
SPOOLED_BYTES = 2**26


@dataclass(frozen=True)
class ShardTask:
    """A shard to write: its number, its clips, and how they are encoded."""

    folder: str
    number: int
    files: Sequence[SourceFile]
    encoding: str


def shard_name(number: int) -> str:
    """The file name of a tar: names sort as the numbers do up to a million."""
    return f"{number:06d}.tar"


@dataclass(frozen=True)
class Packed:
    """What became of one clip: the place of its sound in the tar and its samples, or why it was skipped."""

    number: int
    name: str = ""
    offset: int = 0
    size: int = 0
    samples: int = 0
    reason: str = ""


@dataclass(frozen=True)
class ShardDone:
    """A shard that lies there, whole, and all that was planned for it."""

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


class _Hashed:
    """A file to write that counts and hashes what passes."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self.hash, self.bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self.hash.update(content)
        self.bytes += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.bytes


def write_shard(task: ShardTask, tick: Tick) -> ShardDone:
    """Writes the tar and gives what is in it. The same task gives the same bytes.

    A file that can't be decoded is skipped, with its reason. Raises OSError where the disk refuses.
    """
    clips = []
    with written_whole(Path(task.folder) / shard_name(task.number)) as draft, draft.open("wb") as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=cast(IO[bytes], hashed), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for source in task.files:
                clips.append(_add(tar, source, task))
                tick()
    samples = [clip.samples for clip in clips if not clip.reason]
    shard = Shard(shard_name(task.number), len(samples), sum(samples), hashed.bytes, hashed.hash.hexdigest())
    return ShardDone(shard, clips)


def _add(tar: tarfile.TarFile, source: SourceFile, task: ShardTask) -> Packed:
    with SpooledTemporaryFile(SPOOLED_BYTES, dir=task.folder) as sound:
        try:
            samples = encode(source.path, sound, task.encoding)
            sound.seek(0, io.SEEK_END)
            size = sound.tell()
            if samples < SHORTEST_SECONDS * audio.SAMPLE_RATE:
                raise AudioError(f"{source.path}: too short: {samples} samples at 16 kHz")
            if size > MOST_MEMBER_BYTES:
                raise AudioError(f"{source.path}: {size} bytes are too many for a member; cut it into parts")
        except AudioError as error:
            return Packed(source.number, reason=reason_of(error, source.path))
        sound.seek(0)
        name = source.key + SUFFIXES[task.encoding]
        offset = tar.offset + BLOCK
        _add_member(tar, name, size, sound)
    about: dict[str, object] = {"source": source.source, "duration": samples / audio.SAMPLE_RATE}
    if source.labels:
        about["labels"] = source.labels
    text = json.dumps(about, ensure_ascii=False).encode()
    _add_member(tar, f"{source.key}.json", len(text), io.BytesIO(text))
    return Packed(source.number, name, offset, size, samples)


def _add_member(tar: tarfile.TarFile, name: str, size: int, content: ByteStream) -> None:
    """With nothing in its header that depends on where and when it is written."""
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, cast(IO[bytes], content))
