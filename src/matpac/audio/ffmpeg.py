"""Sound files by FFmpeg (PyAV, the optional `matpac[av]`): m4a, webm, the sound of videos."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from matpac.audio.decoder import AudioError, AudioInfo, ended_early

AV_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".mov", ".aac", ".webm", ".mkv", ".mka", ".wma", ".amr", ".3gp", ".avi", ".ac3"}
)
# Seconds decoded before a position, since decoders need some past: Opus 80 ms (RFC 7845 §4.6), more in speech
# mode (see sndfile.py), AAC one block.
PREROLL_SECONDS = 0.5
# Containers round their durations, and the last block of AAC is padded.
LENGTH_TOLERANCE = 0.02
LENGTH_TOLERANCE_SECONDS = 0.1


def import_av() -> Any | None:
    """PyAV, or None where it is not installed (it is optional and slow to import)."""
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return None
    return av


class AvDecoder:
    """A file that only FFmpeg reads.

    Positions after a seek are as exact as the container's clock: to the frame in m4a and mp4, to 1 ms in WebM. AAC
    files made with noise substitution differ a little at each decoding: the decoder draws that noise at random.
    """

    def __init__(self, path: Path, av: Any) -> None:
        self._av = av
        try:
            self._container = av.open(str(path), metadata_errors="replace")  # which need not be UTF-8
        except (av.error.FFmpegError, OSError) as error:
            raise _no_sound(path, error) from error
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{path}: no sound in this file; remove it")
        self._stream = self._container.streams.audio[0]
        self._position = 0
        codec = self._stream.codec_context
        if codec is None or not codec.sample_rate or not codec.layout.nb_channels:
            self._container.close()
            raise _no_sound(path, "no decoder for its codec")
        try:  # FFmpeg takes any few bytes for some format, and notices when it looks for packets
            self._rate = int(codec.sample_rate)
            channels = int(codec.layout.nb_channels)
            self._rest = np.zeros((0, channels), np.float32)
            self.info = AudioInfo(str(path), self._rate, channels, self._length())
            self._start_decoding()
        except (av.error.FFmpegError, OSError) as error:
            self._container.close()
            raise _no_sound(path, error) from error

    def seek(self, frame: int) -> None:
        start = max(0.0, frame / self._rate - PREROLL_SECONDS)
        try:
            self._container.seek(int(start / self._stream.time_base) + self._first_tick(), stream=self._stream)
        except self._av.error.FFmpegError as error:
            raise ended_early(self.info, self._position, f"no seek: {error}") from error
        self._start_decoding()
        landed = self._fill(1)
        self._position = frame if landed is None else landed
        if self._position < frame:
            self.read(frame - self._position)
        if self._position > frame:
            raise ended_early(self.info, self._position, f"no seek to {frame / self._rate:.2f} s")

    def read(self, frames: int) -> Float32[np.ndarray, "frames channels"]:
        self._fill(frames)
        block, self._rest = self._rest[:frames], self._rest[frames:]
        self._position += len(block)
        shortest = self.info.frames * (1 - LENGTH_TOLERANCE) - LENGTH_TOLERANCE_SECONDS * self._rate
        if len(block) < frames and self._position < shortest:
            raise ended_early(self.info, self._position, "the file ends before its header says")
        return block

    def close(self) -> None:
        self._container.close()

    def _start_decoding(self) -> None:
        self._rest = self._rest[:0]
        self._decoded = self._container.decode(self._stream)
        self._as_float = self._av.AudioResampler(format="flt")  # packed: PyAV's planes end at the eighth channel

    def _first_tick(self) -> int:
        return self._stream.start_time or 0

    def _fill(self, frames: int) -> int | None:
        """Decode until `frames` frames wait; returns the number of the first one decoded now, if any."""
        parts, have, first = [self._rest], len(self._rest), None
        try:
            while have < frames and (frame := next(self._decoded, None)) is not None:
                if first is None and frame.pts is not None:
                    first = round((frame.pts - self._first_tick()) * frame.time_base * self._rate)
                self._check_kind(frame, self._position + have)
                for piece in self._as_float.resample(frame):
                    parts.append(piece.to_ndarray().reshape(-1, self.info.channels))
                    have += piece.samples
        except AudioError:
            raise
        except (self._av.error.FFmpegError, ValueError) as error:
            raise ended_early(self.info, self._position + have, str(error)) from error
        self._rest = np.concatenate(parts)
        return first if first is None else max(first, 0)

    def _check_kind(self, frame: Any, position: int) -> None:
        """Raise AudioError where the sound continues at another rate or with other channels: joined files."""
        kind = (self.info.sample_rate, self.info.channels)
        now = (frame.sample_rate, frame.layout.nb_channels)
        if now != kind:
            raise AudioError(
                f"{self.info.path}: {kind[0]} Hz × {kind[1]} channels become {now[0]} Hz × {now[1]} at about "
                f"{position / self._rate:.2f} s; convert it: ffmpeg -i OLD NEW.flac"
            )

    def _length(self) -> int:
        """Frames by the header; by the packets where it has none, or FFmpeg guesses from the bit rate."""
        stream, container = self._stream, self._container
        if container.format.name not in ("aac", "mp3"):
            if stream.duration is not None:
                return round(stream.duration * stream.time_base * self._rate)
            if container.duration is not None:
                return round(container.duration * self._rate / self._av.time_base)
        ticks = sum(packet.duration or 0 for packet in container.demux(stream))
        container.seek(0)
        return round(ticks * stream.time_base * self._rate)


def _no_sound(path: Path, reason: object) -> AudioError:
    return AudioError(
        f"{path}: not a sound file that can be read here ({reason}); remove it or convert it to FLAC"
    )
