"""`matpac export`: an encoder to an ONNX file."""

import argparse
import sys
from pathlib import Path

import numpy as np
from jsonargparse import ArgumentParser

from matpac import audio
from matpac.data.files import list_clips
from matpac.errors import MatpacError, Skipped, reason_of
from matpac.files.loading import load
from matpac.files.onnx.checking import CLOSE
from matpac.files.onnx.export import CALIBRATION_CHUNKS, Exported, export_onnx
from matpac.model.embedder import Embedder
from matpac.train.parsing import HelpFormatter

DESCRIPTION = """Write an encoder as one ONNX file: waveforms in, scenes and frames out, log-mel inside.

  matpac export --encoder runs/mine --output mine.onnx
  matpac export --encoder matpac++ --output matpac.files.onnx --int8
  matpac export --encoder matpac++ --output matpac.files.onnx --int8 static --calibrate recordings
  matpac embed recordings --encoder mine.onnx --output vectors.parquet

The file is compared with PyTorch's network over lengths before it is written, an 8-bit one with float32's vectors.
Exit code: 0 when it was written, 1 when sounds to calibrate with were left out (each is named), 2 for an error."""

CLIPS = CALIBRATION_CHUNKS * 4 // 3
"""Sounds drawn to calibrate with, of which every fourth is held out to compare vectors on."""


def run_export(arguments: list[str]) -> int:
    """Parse and run; returns the exit code."""
    options = _parse(arguments)
    encoder = load(options.encoder)
    sounds, left_out = ([], []) if options.calibrate is None else draw_sounds(encoder, options.calibrate)
    found = export_onnx(encoder, options.output, options.int8, sounds, options.keep_float)
    print(tell(found, encoder, "held-out" if sounds else "made-up"))
    for file in left_out:
        print(f"left out: {file.path}: {file.reason}", file=sys.stderr)
    return 1 if left_out else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="matpac export", description=DESCRIPTION, formatter_class=HelpFormatter, exit_on_error=False
    )
    parser.add_argument("--encoder", required=True, help="what matpac embed takes, ONNX files apart")
    parser.add_argument("--output", required=True, help="the file, ending on .onnx")
    parser.add_argument(
        "--int8",
        nargs="?",
        const="dynamic",
        choices=["dynamic", "static"],
        help="8-bit matrices: a quarter of the size, and faster. dynamic (also without a word): ranges follow the "
        "sound; static: ranges are fixed on sounds of --calibrate",
    )
    parser.add_argument(
        "--calibrate",
        help=f"a folder or table of sounds like yours, {CLIPS} of which are drawn, for 8 bits: outliers are "
        "smoothed by them, static ranges measured on them, and every fourth is held out to compare vectors on",
    )
    parser.add_argument(
        "--keep-float",
        "--keep_float",
        action="append",
        default=[],
        help="a layer that stays float32 in an 8-bit file, by name or pattern ('*.mlp.fc2'); may be given again",
    )
    try:
        return parser.parse_args(arguments)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise MatpacError(f"{' '.join(str(error).split())}; matpac export --help tells the options") from error


def draw_sounds(encoder: Embedder, source: str, clips: int = CLIPS) -> tuple[list[np.ndarray], list[Skipped]]:
    """A chunk's length at a random place of sounds drawn at random, always the same; and the files left out.

    Raises:
        DataError: no sound there that can be used.
    """
    window = encoder.logmel.config.window / encoder.sample_rate
    files = list_clips(source, min_seconds=window)
    random = np.random.default_rng(0)
    samples = encoder.logmel.config.samples(encoder.encoder.config.frames)
    sounds, left_out = [], list(files.skipped)
    for number in random.permutation(len(files.clips))[:clips]:
        clip = files.clips[number]
        room = clip.duration - samples / encoder.sample_rate
        try:
            sound = audio.read_crop(clip.path, max(0.0, random.uniform(0, 1) * room), samples, encoder.sample_rate)
        except audio.AudioError as error:
            left_out.append(Skipped(clip.path, reason_of(error, clip.path)))
            continue
        if len(sound) < encoder.logmel.config.window:
            left_out.append(Skipped(clip.path, "shorter than its header says, and than a window"))
            continue
        sounds.append(sound)
    if not sounds:
        raise MatpacError(f"{source}: none of its sounds can be read; the first: {left_out[0].reason}")
    return sounds, left_out


def tell(found: Exported, encoder: Embedder, sounds: str) -> str:
    """What was written and how well it agrees, in lines."""
    seconds = [samples / encoder.sample_rate for samples in found.agreement.lengths]
    lines = [
        f"{found.path}: {found.size / 1e6:.1f} MB, {found.precision}",
        f"float32 graph against PyTorch: {found.agreement.difference:.1e} at most ({CLOSE:g} allowed), "
        f"{len(seconds)} lengths from {seconds[0]:.2f} to {seconds[-1]:.2f} s",
    ]
    if found.cosines is not None:
        lines.append(
            f"8 bits against float32: cosine of scenes {found.cosines.mean:.5f}, least {found.cosines.least:.5f}, "
            f"over {found.cosines.sounds} {sounds} sounds; {len(found.layers)} layers in 8 bits, "
            f"{len(found.kept)} kept in float32"
        )
    lines.append(f"use it: matpac embed FILES --encoder {Path(found.path)} --output vectors.parquet")
    return "\n".join(lines)
