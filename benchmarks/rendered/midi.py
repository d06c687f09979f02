"""A standard MIDI file from notes: format 0, one track, one tick per millisecond."""

import struct
from collections.abc import Iterable, Sequence

from .clips import Note

TICKS = 1000
"""Ticks per quarter note; with one quarter note per second (below) a tick is a millisecond."""

TEMPO = b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big")
"""Meta event: microseconds per quarter note."""

ALL_SOUND_OFF, RESET_CONTROLLERS = 120, 121
"""Controllers: immediate silence, and reset."""

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0


def variable_length(number: int) -> bytes:
    """A number from 0 in groups of seven bits, the highest bit set in all but the last."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | (number & 0x7F))
    return bytes(reversed(groups))


def midi_bytes(scenes: Sequence[Iterable[Note]], apart: int) -> bytes:
    """Scenes one after the other, every `apart` milliseconds; each starts in silence.

    Notes on one channel of a scene must have one program. A final silence makes the file as long as all scenes.
    """
    events: list[tuple[int, int, bytes]] = []
    for number, notes in enumerate(scenes):
        start = number * apart
        events += [
            (start, 0, bytes([CONTROL | channel, controller, 0]))
            for channel in range(16)
            for controller in (ALL_SOUND_OFF, RESET_CONTROLLERS)
        ]
        events += _scene(list(notes), start, apart)
    return _file(events, len(scenes) * apart)


def _scene(notes: list[Note], start: int, apart: int) -> list[tuple[int, int, bytes]]:
    """Time, order at that time, message; notes end before the next scene, and before another note starts."""
    programs = {note.channel: note.program for note in notes}
    if any(programs[note.channel] != note.program for note in notes):
        raise ValueError("notes on one channel have different programs")
    events = [(start, 1, bytes([PROGRAM | channel, program])) for channel, program in programs.items()]
    for note in notes:
        if not 0 <= note.start < apart or not 0 <= note.pitch < 128 or not 0 < note.velocity < 128:
            raise ValueError(f"not a note of MIDI within {apart} ms: {note}")
        off = start + min(note.start + note.length, apart - 1)
        events.append((off, 2, bytes([NOTE_OFF | note.channel, note.pitch, 0])))
        events.append((start + note.start, 3, bytes([NOTE_ON | note.channel, note.pitch, note.velocity])))
    return events


def _file(events: list[tuple[int, int, bytes]], end: int) -> bytes:
    track, now = [b"\x00" + TEMPO], 0
    for time, _, message in sorted(events):
        track.append(variable_length(time - now) + message)
        now = time
    track.append(variable_length(end - now) + b"\xff\x2f\x00")
    body = b"".join(track)
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS)
    return header + struct.pack(">4sI", b"MTrk", len(body)) + body
