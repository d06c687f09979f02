"""Sound files by libsndfile: wav, flac, mp3, ogg, opus, aiff, au and more.

What this does beyond calling the library follows from how libsndfile 1.2.2 behaves (measured):

- a FLAC cut short raises in the middle of a read; an MP3 cut short, and an Ogg file with a damaged page, just
  end early, without an error: the frames that the header promised are compared with those that came;
- an Ogg, WAV, AIFF or AU file cut short still shows how much is left: it reads as a shorter, whole file;
- an MP3 without a Xing, Info or VBRI header has an estimated length, and libsndfile never reads past it;
- of several Ogg files or MP3s joined in one, only the first is read, without an error;
- a seek into the last page of an Ogg Vorbis file lands up to one block away from where it should;
- a seek in an MP3 starts without the bits that earlier frames lent to later ones, in Opus without the
  decoder's memory: both need to start earlier.
"""

import math
import os
import re
from collections import Counter
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile
from jaxtyping import Float32

from matpac.audio.decoder import AudioError, AudioInfo, Source, ended_early

# Frames decoded before a position in an MP3. MPEG frames borrow up to 511 bytes from earlier ones (ISO 11172-3,
# main_data_begin) and overlap by one frame; two were enough in every file tried (16 kbit/s up), eight are cheap.
MP3_PREROLL_FRAMES = 8 * 1152
# Seconds decoded before a position in Opus. RFC 7845 §4.6 asks for 80 ms; speech mode converges more slowly: in a
# file at 16 kHz the largest error was 0.074 of full scale without, 0.046 with 80 ms, 0.016 with half a second,
# 0.005 with two. In music mode there is none.
OPUS_PREROLL_SECONDS = 0.5
# An MP3's length header counts whole MPEG frames; encoders and decoders differ by up to two of them in the
# silence at both ends.
MP3_TOLERANCE_FRAMES = 2 * 1152
# Share of the bytes of an MP3 that may stay unread though they look like sound: an estimate from a constant bit
# rate is right to 1 %.
MP3_UNREAD_SHARE = 0.1
# How frames of layers II and III begin (ISO 11172-3, 13818-3, version 2.5 too): the same in all of a file, each at
# most 1729 bytes after the last. In a tag or picture behind the sound, each of these occurs only at random, every
# 65 536 bytes.
MP3_SYNC = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd]")
MP3_SYNC_BYTES = 3000
MP3_LOOK_BYTES = 2**24  # that much of what is unread is checked: pictures are smaller
# Two Ogg pages at their largest (RFC 3533 §6: 27 + 255 + 255·255 bytes), so that the last but one is found.
OGG_TAIL_BYTES = 2 * 65_307


class _Stream(soundfile.SoundFile):
    """A file read without seeks: soundfile seeks after every read of a file that it takes for seekable.

    Such a seek restarts the decoder, which at the seams of blocks gave errors up to full scale (libsndfile
    1.2.2, soundfile 0.14; MP3 at low bit rates, Opus).
    """

    def seekable(self) -> bool:
        return False


class SndfileDecoder:
    """A file that libsndfile reads; raises soundfile.LibsndfileError where it cannot be opened."""

    def __init__(self, path: Source) -> None:
        self._path = path
        self._position = 0
        self._bytes = (
            None  # a stream that libsndfile reads; always for an MP3, since it shows how far decoding got
        )
        if isinstance(path, Path):
            # bytes: names of files need not be UTF-8, and soundfile accepts only such text
            name = os.fsencode(path) if os.name == "posix" else str(path)
            self._sound = _Stream(name)  # pyright: ignore[reportArgumentType]
        else:
            self._read_from(path)
        if self._sound.format == "MP3" and self._bytes is None:
            self.close()
            self._read_from(path)
        self.info = AudioInfo(str(path), self._sound.samplerate, self._sound.channels, self._sound.frames)

    def seek(self, frame: int) -> None:
        start = frame - self._preroll()
        if self._sound.subtype == "VORBIS":
            start = min(start, _last_page_start(self._path))
        start = max(start, 0)
        try:
            self._sound.seek(start)
        except soundfile.LibsndfileError as error:
            raise ended_early(
                self.info, self._position, f"no seek to {frame / self.info.sample_rate:.2f} s"
            ) from error
        self._position = start
        if start < frame:
            self.read(frame - start)

    def read(self, frames: int) -> Float32[np.ndarray, "frames channels"]:
        try:
            there = min(frames, self.info.frames - self._position)
            block = self._sound.read(there, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ended_early(self.info, self._position, error.error_string.strip()) from error
        self._position += len(block)
        if len(block) < frames:
            self._check_end()
        return block

    def close(self) -> None:
        self._sound.close()
        if self._bytes is not None:
            self._bytes.close()

    def _read_from(self, path: Source) -> None:
        self._bytes = _open(path)
        try:
            self._sound = _Stream(cast(BinaryIO, self._bytes))
        except soundfile.LibsndfileError:
            self._bytes.close()
            raise

    def _preroll(self) -> int:
        if self._sound.format == "MP3":
            return MP3_PREROLL_FRAMES
        if self._sound.subtype == "OPUS":
            return math.ceil(OPUS_PREROLL_SECONDS * self.info.sample_rate)
        return 0

    def _check_end(self) -> None:
        if self._sound.format == "MP3":
            self._check_end_of_mp3()
            return
        if self._position < self.info.frames:
            raise ended_early(self.info, self._position, "the file ends before its header says")
        if self._sound.format == "OGG" and _has_second_stream(self._path):
            raise AudioError(
                f"{self.info.path}: several Ogg files joined in one, of which only the first "
                f"{self.info.duration:.2f} s can be read; convert it: ffmpeg -i OLD.ogg NEW.flac"
            )

    def _check_end_of_mp3(self) -> None:
        has_length = _has_length_header(self._path)
        if has_length and self._position < self.info.frames - MP3_TOLERANCE_FRAMES:
            raise ended_early(self.info, self._position, "the file ends before its header says")
        assert self._bytes is not None
        left = _sound_left(self._path, self._bytes.tell()) / _size(self._path)
        if left > MP3_UNREAD_SHARE:
            reason = (
                "several MP3s joined in one, or a wrong length header"
                if has_length
                else "damaged, or an MP3 of variable bit rate without length header"
            )
            raise AudioError(
                f"{self.info.path}: {reason}: {left:.0%} of the file lies after the "
                f"{self._position / self.info.sample_rate:.2f} s that can be read; "
                "convert it: ffmpeg -i OLD.mp3 NEW.flac"
            )


def _open(path: Source) -> BufferedIOBase:
    return path.open("rb") if isinstance(path, Path) else path.open()


def _size(path: Source) -> int:
    return path.stat().st_size if isinstance(path, Path) else path.size


def _has_length_header(path: Source) -> bool:
    """Whether the first MPEG frame after the ID3v2 tag carries the file's length."""
    with _open(path) as file:
        start = file.read(10)
        if start[:3] == b"ID3":  # ID3v2.4 §3.1: four bytes of seven bits
            size = sum(byte << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        frame = file.read(2048)  # longer than any MPEG layer III frame
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))


def _sound_left(path: Source, place: int) -> int:
    """Bytes of an MP3 after a position, 0 where they hold no sound but tags, pictures or padding."""
    with _open(path) as file:
        file.seek(place)
        rest = file.read(MP3_LOOK_BYTES)
    frames = max(Counter(MP3_SYNC.findall(rest)).values(), default=0)
    return _size(path) - place if frames * MP3_SYNC_BYTES > len(rest) else 0


def _has_second_stream(path: Source) -> bool:
    """Whether streams begin in the middle of an Ogg file, after the pages with which the first ones begin.

    RFC 3533 §4: the first pages of streams that run side by side, as in a video, all come before any other page.
    """
    with _open(path) as file:
        inside = False
        while len(header := file.read(27)) == 27 and header.startswith(b"OggS"):  # §6: 27 bytes, table of lengths
            begins = bool(header[5] & 2)
            if begins and inside:
                return True
            inside = not begins
            file.seek(sum(file.read(header[26])), os.SEEK_CUR)
    return False


def _last_page_start(path: Source) -> int:
    """Frames that end before the last page of an Ogg file, 0 where that is not found."""
    with _open(path) as file:
        file.seek(max(0, _size(path) - OGG_TAIL_BYTES))
        tail = file.read()
    ends = []
    place = tail.find(b"OggS")
    while place >= 0:
        ends.append(int.from_bytes(tail[place + 6 : place + 14], "little", signed=True))  # RFC 3533 §6: granule
        place = tail.find(b"OggS", place + 4)
    earlier = [end for end in ends[:-1] if end >= 0]  # −1: no packet ends on that page
    return earlier[-1] if earlier else 0
