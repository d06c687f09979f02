"""Tiny corpora in the layouts that people have on disk, with real column names, file names and quirks.

Sounds are 0.3 s tones whose pitch tells the class, so that a probe has something to find. Each function writes one
corpus into `root` and returns what a reader must find missing.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile

SECONDS = 0.3
RATES = (16_000, 44_100, 22_050, 48_000)


def tone(path: Path, pitch: int, rate: int = 16_000, channels: int = 1, seconds: float = SECONDS) -> None:
    """A tone of a class's pitch over noise, in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(path.name) + pitch)
    time = np.arange(round(rate * seconds)) / rate
    sound = 0.3 * np.sin(2 * np.pi * 150 * (pitch + 1) * time)[:, None] + 0.02 * random.standard_normal(
        (len(time), channels)
    )
    soundfile.write(path, sound, rate)


def table(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",", quote: bool = False) -> None:
    """A text table; every cell quoted where `quote`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        quoting = csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
        csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)


def make_esc50(root: Path) -> list[str]:
    """3 of the 50 classes × 5 folds × 3 clips; `5-9002-A-36.wav` is missing."""
    names = {0: "dog", 14: "chirping_birds", 36: "vacuum_cleaner"}
    rows = [["filename", "fold", "target", "category", "esc10", "src_file", "take"]]
    for fold in range(1, 6):
        for target, name in names.items():
            for clip in range(3):
                file = f"{fold}-{9000 + clip}-A-{target}.wav"
                rows.append([file, str(fold), str(target), name, str(target == 0), str(9000 + clip), "A"])
                if (fold, target, clip) != (5, 36, 2):
                    tone(root / "audio" / file, target % 7, 44_100)
    table(root / "meta/esc50.csv", rows)
    return [str(root / "audio/5-9002-A-36.wav")]


def make_us8k(root: Path) -> list[str]:
    """2 of the 10 classes × 10 folds × 2 clips, of mixed rates, channels and lengths."""
    rows = [["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]]
    for fold in range(1, 11):
        for number, name in ((3, "dog_bark"), (8, "siren")):
            for clip in range(2):
                file = f"{1000 * fold + number}-{number}-0-{clip}.wav"
                rows.append([file, str(1000 * fold + number), "0.0", "0.3", "1", str(fold), str(number), name])
                tone(root / f"audio/fold{fold}" / file, number, RATES[fold % 4], 1 + clip, 0.2 + 0.02 * fold)
    table(root / "metadata/UrbanSound8K.csv", rows)
    return []


def make_gtzan(root: Path, lists: bool = False, suffix: str = ".wav", folder: str = "genres") -> list[str]:
    """Ten genres × 12 clips; jazz.00001 is corrupt (there, but no sound), and a hidden file is to be left alone.

    With `lists`: 6, 2 and 3 clips a genre in the filtered lists, of which `blues.00099` is not on disk.
    """
    genres = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
    for number, genre in enumerate(genres):
        for clip in range(12):
            tone(root / folder / genre / f"{genre}.{clip:05d}{suffix}", number, 22_050)
    (root / folder / "jazz" / f"jazz.00001{suffix}").write_bytes(b"\x00\x01\x02corrupt" * 40)
    (root / folder / "rock" / f"._rock.00000{suffix}").write_bytes(b"Mac")
    if not lists:
        return []
    for part, clips in (("train", range(6)), ("valid", range(6, 8)), ("test", range(8, 11))):
        lines = [f"{genre}/{genre}.{clip:05d}.wav" for genre in genres for clip in clips]
        lines += ["blues/blues.00099.wav"] if part == "train" else []
        (root / f"{part}_filtered.txt").write_text("\n".join(lines) + "\n")
    return [str(root / folder / "blues/blues.00099.wav")]


def make_nsynth(root: Path) -> list[str]:
    """bass, organ and string, 6/2/3 clips each, and synth_lead in train alone."""
    families = {"bass": 0, "organ": 6, "string": 8, "synth_lead": 9}
    for part, clips in (("train", 6), ("valid", 2), ("test", 3)):
        notes = {}
        for family, number in families.items():
            if family == "synth_lead" and part != "train":
                continue
            for clip in range(clips):
                name = f"{family}_synthetic_{len(part):03d}-{clip:03d}-075"
                notes[name] = {
                    "note": clip, "note_str": name, "instrument_str": f"{family}_synthetic_000", "pitch": clip,
                    "instrument_family": number, "instrument_family_str": family, "sample_rate": 16000,
                    "qualities": [0, 1, 0], "qualities_str": ["dark"], "velocity": 75,
                }  # fmt: skip
                tone(root / f"nsynth-{part}/audio/{name}.wav", number)
        (root / f"nsynth-{part}/examples.json").write_text(json.dumps(notes, indent=4))
    return []


def make_openmic(root: Path) -> list[str]:
    """3 instruments, 24 clips of 12 tracks in train, 8 of 8 in test; every clip is labelled for two of three."""
    names = ["accordion", "banjo", "voice"]
    rows = [["sample_key", "instrument", "relevance", "num_responses"]]
    keys = {"train": [f"{n // 2:06d}_{3840 * (n % 2)}" for n in range(24)]}
    keys["test"] = [f"{100 + n:06d}_0" for n in range(8)]
    for part, clips in keys.items():
        for number, key in enumerate(clips):
            heard = number // 2 % 3  # by track
            tone(root / f"audio/{key[:3]}/{key}.ogg", heard, 44_100, 2)
            for asked, relevance in ((heard, "0.5"), ((heard + 1) % 3, "0.49999")):
                rows.append([key, names[asked], relevance, "3"])
        table(root / f"partitions/split01_{part}.csv", [[key] for key in clips])
    table(root / "openmic-2018-aggregated-labels.csv", rows)
    return []


def make_mtt(root: Path, base: str = "") -> list[str]:
    """52 tags, of which "rare one" and "z tie" are beyond the top 50; `2/empty.mp3` is an empty file.

    "opera" is on the second clip of each folder 0 to f, all others on the first, so 51 tags have equal counts and
    "z tie" is the last of them by name.
    """
    common = [f"tag {number:02d}" for number in range(48)]
    tags = ["opera", "rare one", "z tie", *common, "guitar"]
    rows = [["clip_id", *tags, "mp3_path"]]
    number = 0
    for folder in "0123456789abcdef":
        for clip in range(2):
            path = f"{folder}/artist-album-{clip:02d}-title-0-29.mp3" if number != 4 else "2/empty.mp3"
            on = {"guitar" if clip == 0 else "opera"} | ({"z tie", *common} if clip == 0 else set())
            on |= {"rare one"} if number == 0 else set()
            rows.append([str(number + 2), *("1" if tag in on else "0" for tag in tags), path])
            tone(root / base / path, clip)
            number += 1
    (root / base / "2/empty.mp3").write_bytes(b"")
    table(root / "annotations_final.csv", rows, "\t", quote=True)
    return []


def make_fsd50k(root: Path) -> list[str]:
    """3 classes, of which Guitar implies Music; clips of mixed length; eval clip 901 is missing."""
    mids = {"Bark": "/m/05tny_", "Guitar": "/m/0342h", "Music": "/m/04rlf"}
    dev = [["fname", "labels", "mids", "split"]]
    test = [["fname", "labels", "mids"]]
    for clip in range(16):
        names = "Bark" if clip % 2 else "Guitar,Music"
        mid = ",".join(mids[name] for name in names.split(","))
        if clip < 12:
            dev.append([str(64760 + clip), names, mid, "val" if clip % 6 > 3 else "train"])
            tone(root / f"FSD50K.dev_audio/{64760 + clip}.wav", clip % 2, 44_100, 1, 0.3 + 0.05 * clip)
        else:
            test.append([str(889 + clip), names, mid])
            if clip != 12:
                tone(root / f"FSD50K.eval_audio/{889 + clip}.wav", clip % 2, 44_100)
    table(root / "FSD50K.ground_truth/dev.csv", dev)
    table(root / "FSD50K.ground_truth/eval.csv", test)
    vocabulary = [[str(number), name, mid] for number, (name, mid) in enumerate(mids.items())]
    table(root / "FSD50K.ground_truth/vocabulary.csv", vocabulary)
    return [str(root / "FSD50K.eval_audio/901.wav")]


MTG_TAGS = {
    "genre": ("genre---rock", "genre---ambient"),
    "instrument": ("instrument---piano", "instrument---bass"),
    "moodtheme": ("mood/theme---sad", "mood/theme---film"),
    "top50tags": ("genre---rock", "instrument---piano"),
}


def make_mtg(root: Path, base: str = "audio", low: bool = False, data: str = "") -> list[str]:
    """All four tag sets on the same 8/4/4 tracks, tags as the tail of the line; the last test track is missing."""
    head = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    number = 200
    lines: dict[str, list[list[str]]] = {}
    for part, count in (("train", 8), ("validation", 4), ("test", 4)):
        for clip in range(count):
            number += 1
            path = f"{number % 100:02d}/{number}.mp3"
            for subset, (one, other) in MTG_TAGS.items():
                tags = [one, other] if clip % 4 == 3 else [(one, other)[clip % 2]]
                row = [f"track_{number:07d}", "artist_000001", "album_000002", path, "0.3", *tags]
                lines.setdefault(f"autotagging_{subset}-{part}", []).append(row)
            if number != 216:
                file = path.replace(".mp3", ".low.mp3") if low else path
                tone(root / base / file, clip % 2, 44_100, 2)
    for name, rows in lines.items():
        table(root / data / f"splits/split-0/{name}.tsv", [head, *rows], "\t")
    return [str(root / base / "16/216.mp3")]


AUDIOSET = {"/m/09x0r": "Speech", "/m/05zppz": "Male speech, man speaking", "/t/dd00128": "Fireworks"}
"""In the order of `index`, which is not that of the mids."""
AUDIOSET_NAMES = ("{}.flac", "Y{}.wav", "{}_30000.ogg", "Y{}_30.000_40.000.mp3")
"""What people call clips."""


def make_audioset(root: Path, unbalanced: bool = True) -> list[str]:
    """Balanced set of 40 clips, unbalanced of 6, eval of 6; the second of each is missing.

    YTIDs begin with -, _ or Y as some do; male speech is speech; files lie in folders of their own.
    """
    speech, male, fireworks = AUDIOSET
    missing = []
    for part, count in (("balanced_train", 40), ("unbalanced_train", 6 * unbalanced), ("eval", 6)):
        lines = ["# Segments csv created Sun Mar  5 10:54:31 2017", f"# num_ytids={count}"]
        lines.append("# YTID, start_seconds, end_seconds, positive_labels")
        for clip in range(count):
            name = f"{'-_Yb'[clip % 4]}{part[:3]}{clip:07d}"
            mids = fireworks if clip % 2 else f"{speech},{male}" if clip % 4 else speech
            lines.append(f'{name}, 30.000, 40.000, "{mids}"')
            if clip == 1:
                missing.append(str(root / name))
            else:
                tone(root / f"{part}_segments" / AUDIOSET_NAMES[clip // 2 % 4].format(name), clip % 2)
        if count:
            root.mkdir(parents=True, exist_ok=True)
            (root / f"{part}_segments.csv").write_text("\n".join(lines) + "\n")
    rows = [[str(number), *pair] for number, pair in enumerate(AUDIOSET.items())]
    table(root / "class_labels_indices.csv", [["index", "mid", "display_name"], *rows])
    return missing


def make_audioset20k(root: Path) -> list[str]:
    """The same with the unbalanced set beside it, which is not used."""
    return [path for path in make_audioset(root) if "unb" not in path]


def make_folder(root: Path, parts: Sequence[str] = ("",), clips: int = 10) -> list[str]:
    """Classes cat and dog in each part, a sound deeper inside, an empty folder, one sound beside the classes."""
    for part in parts:
        for number, name in enumerate(("cat", "dog")):
            for clip in range(clips):
                inside = name if clip else f"{name}/more"
                tone(root / part / inside / f"{clip}.flac", number, RATES[clip % 4], 1 + clip % 2)
        (root / part / "nothing").mkdir()
        tone(root / part / "stray.wav", 3)
    return []


def make_table(path: Path, columns: dict[str, Sequence[str]]) -> list[str]:
    """A table and the sounds in its column `path`, in the format of the suffix; the pitch changes with the row."""
    for number, name in enumerate(columns["path"]):
        tone(path.parent / name, number % 2)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: list(cells) for name, cells in columns.items()}), path)
    else:
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        table(path, rows, "\t" if path.suffix == ".tsv" else ",")
    return []


MAKERS: dict[str, Callable[[Path], list[str]]] = {
    "esc50": make_esc50,
    "us8k": make_us8k,
    "gtzan": make_gtzan,
    "nsynth": make_nsynth,
    "openmic": make_openmic,
    "mtt": make_mtt,
    "fsd50k": make_fsd50k,
    "mtg_genre": make_mtg,
    "mtg_instrument": make_mtg,
    "mtg_moodtheme": make_mtg,
    "mtg_top50": make_mtg,
    "audioset": make_audioset,
    "audioset20k": make_audioset20k,
    "folder": make_folder,
}
"""By name of the task; `table` needs its columns said (`make_table`)."""
