"""Names for your sounds, and what sounds when in the first of them.

    python examples/tag_your_sounds.py ENCODER SOUND [SOUND …]

ENCODER has a head: matpac++-audioset-tagger, a run of `matpac finetune`, or a file of such an encoder.
"""

import sys

import matpac


def main(encoder_name: str, sounds: list[str]) -> None:
    """Print the tags of every sound, and a timeline of the first."""
    encoder = matpac.load(encoder_name)
    paths = matpac.find_audio(sounds)
    waveforms = [matpac.read(path) for path in paths]
    for path, tags in zip(paths, encoder.tags(waveforms, encoder.sample_rate, top=3), strict=True):
        print(f"{path.name:30} " + ", ".join(f"{tag.label} {tag.probability:.2f}" for tag in tags))

    print(f"\n{paths[0].name} over time:")
    for part in matpac.timeline(encoder, waveforms[0], encoder.sample_rate, matpac.TimelineConfig(threshold=0.3)):
        print(f"  {part.start:7.2f} – {part.end:7.2f} s  {part.label} (at most {part.peak:.2f})")

    # the same as numbers, to do something else with: [1, T, class] every 160 ms, and their times
    probabilities, times = encoder.frame_probabilities(waveforms[0], encoder.sample_rate)
    print(f"{probabilities.shape[1]} frames × {probabilities.shape[2]} classes, the first at {times[0]:.4f} s")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: tag_your_sounds.py ENCODER SOUND [SOUND …]")
    main(sys.argv[1], sys.argv[2:])
