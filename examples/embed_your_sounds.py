"""Vectors of a few sounds, and which of them are alike.

    python examples/embed_your_sounds.py ENCODER SOUND [SOUND …]

ENCODER is tiny (comes with matpac), a published name (matpac++), a file, a run folder or hub:owner/name.
"""

import sys

import torch

import matpac


def main(encoder_name: str, sounds: list[str]) -> None:
    """Embed the sounds and print each one's nearest other."""
    encoder = matpac.load(encoder_name)
    paths = matpac.find_audio(sounds)
    scenes = encoder.scene([matpac.read(path) for path in paths], encoder.sample_rate)  # [sound, width]

    directions = torch.nn.functional.normalize(scenes - scenes.mean(0), dim=1)
    likeness = directions @ directions.T
    likeness.fill_diagonal_(-torch.inf)
    for path, row in zip(paths, likeness, strict=True):
        nearest = int(row.argmax())
        print(f"{path.name:30} is most like {paths[nearest].name:30} (cosine {row[nearest]:.2f})")

    frames, times = encoder.frames(matpac.read(paths[0]), encoder.sample_rate)
    print(f"{paths[0].name}: {frames.shape[1]} frames of {frames.shape[2]} numbers, the first at {times[0]:.4f} s")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: embed_your_sounds.py ENCODER SOUND SOUND [SOUND …]")
    main(sys.argv[1], sys.argv[2:])
