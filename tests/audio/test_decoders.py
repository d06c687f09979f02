"""Decoders: seeks and blocks in compressed files, damage of every kind, formats that only PyAV reads."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from helpers.sound_files import cut_file, make_mixed_folder, make_sound, write_sound
from matpac import audio


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_mixed_folder(tmp_path_factory.mktemp("mixed"))


# --- blocks and crops -----------------------------------------------------------------------------------------

# What makes places hard to find: pages and bits that lean on others, at low bit rates.
LOW = {"bitrate_mode": "CONSTANT", "compression_level": 0.95}
COMPRESSED = [
    ("flac", 44_100, {}),
    ("ogg", 16_000, {}),
    ("ogg", 44_100, {}),
    ("ogg", 48_000, {}),
    ("mp3", 16_000, {}),
    ("mp3", 24_000, LOW),
    ("mp3", 44_100, {}),
    ("mp3", 48_000, LOW),
]


def write_pulses(path: Path, rate: int, options: dict) -> Path:
    """9.3 s of sound that comes and goes, stereo: bit rates and reservoirs have work to do."""
    sound = make_sound(rate, 9.3, 2, seed=3, floor=0.2)
    gate = np.sin(np.arange(len(sound)) / rate * 7) > 0
    soundfile.write(path, sound * (0.95 * gate + 0.05)[:, None], rate, **options)
    return path


@pytest.mark.parametrize(("suffix", "rate", "options"), COMPRESSED)
def test_blocks_and_crops_of_compressed_files_equal_the_whole_up_to_the_last_sample(
    tmp_path: Path, suffix: str, rate: int, options: dict
) -> None:
    path = write_pulses(tmp_path / f"a.{suffix}", rate, options)
    decoded = soundfile.read(path, dtype="float32")[0].mean(axis=1)  # in one read
    whole = soxr.resample(decoded, rate, 16_000, quality="HQ")
    np.testing.assert_allclose(np.concatenate(list(audio.blocks(path, 0.03))), whole, atol=1e-5)
    for start in (*np.linspace(0, 9.0, 31), 9.1, 9.2, 9.25, 9.29):
        first = round(float(start) * 16_000)
        crop = audio.read_crop(path, float(start), 4_800)
        assert len(crop) == min(4_800, len(whole) - first)
        np.testing.assert_allclose(crop, whole[first : first + 4_800], atol=2e-5, err_msg=f"at {start} s")


@pytest.mark.parametrize(("rate", "limit"), [(48_000, 1e-4), (16_000, 0.03)])
def test_crops_of_opus_are_near_the_whole_and_blocks_equal_it(tmp_path: Path, rate: int, limit: float) -> None:
    path = tmp_path / "a.opus"
    time = np.arange(5 * rate) / rate
    sweep = 0.3 * np.sin(2 * np.pi * 220 * time * (1 + 0.05 * time))  # one voice over noise: speech mode at 16 kHz
    noise = 0.05 * np.random.default_rng(1).standard_normal(len(time))
    soundfile.write(path, sweep + noise, rate, format="OGG", subtype="OPUS")
    decoded = soundfile.read(path, dtype="float32")[0]
    whole = soxr.resample(decoded, rate, 16_000, quality="HQ")
    np.testing.assert_allclose(np.concatenate(list(audio.blocks(path, 0.02))), whole, atol=1e-5)
    for start in np.linspace(0, 4.4, 24):
        first = round(float(start) * 16_000)
        crop = audio.read_crop(path, float(start), 8_000)
        assert np.abs(crop - whole[first : first + 8_000]).max() < limit


# --- bad files ---------------------------------------------------------------------------------------------


# FFmpeg opens a few bytes of anything as raw audio, and fails at its first seek.
FEW = {"text.m4a": b"words", "nothing.flac": b"nothing", "a.flac": b"a", "zeros.flac": bytes(100)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, "not a sound file") for name in FEW),
        ("cut.mp3", r"only about 1\.\d\d s of 2\.20 s can be read"),
        ("empty.wav", r"empty file \(0 bytes\); copy or download it again"),
        ("text.wav", r"not a sound file.*remove it"),
        ("cut.flac", r"only about \d\.\d\d s of 2\.00 s can be read.*copy or download it again"),
        ("missing.wav", "no such file; check the path"),
        ("album", "a folder, not a sound file"),
    ],
)
def test_bad_files_say_what_is_wrong(mixed: dict[str, Path], tmp_path: Path, name: str, message: str) -> None:
    path = mixed["text.wav"].parent / name
    if name in FEW:
        path = tmp_path / name
        path.write_bytes(FEW[name])
    elif name == "cut.mp3":
        path = cut_file(mixed["album/mono_16k.mp3"], tmp_path / "cut.mp3", 0.6)
        with pytest.raises(audio.AudioError, match=r"cut\.mp3"):
            audio.read_crop(path, 1.9, 1_000)
    with pytest.raises(audio.AudioError, match=f"^{path}: .*{message}"):
        audio.read(path)
    with pytest.raises(audio.AudioError, match=f"^{path}: "):
        list(audio.blocks(path, 0.2))


def test_crop_of_a_cut_flac_is_right_or_an_error(mixed: dict[str, Path]) -> None:
    whole = audio.read(mixed["mono_48k.flac"])
    np.testing.assert_allclose(audio.read_crop(mixed["cut.flac"], 0.1, 4_000), whole[1_600:5_600], atol=1e-5)
    for start in (0.9, 1.6):
        with pytest.raises(audio.AudioError, match=r"cut\.flac: damaged or cut short"):
            audio.read_crop(mixed["cut.flac"], start, 8_000)


def test_damage_in_the_middle_of_an_ogg_is_an_error(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.ogg", 44_100, 6.0)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3_000] = np.random.default_rng(0).bytes(3_000)
    path.write_bytes(content)
    with pytest.raises(audio.AudioError, match=r"a\.ogg: damaged or cut short"):
        audio.read(path)


def joined(target: Path, *parts: Path) -> Path:
    """The files one after the other, as `cat` and radio recorders write them."""
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_joined_ogg_files_are_an_error(tmp_path: Path, subtype: str) -> None:
    paths = [tmp_path / "a.ogg", tmp_path / "b.ogg"]
    for seed, path in enumerate(paths):
        soundfile.write(path, make_sound(48_000, 2.0, seed=seed), 48_000, format="OGG", subtype=subtype)
        assert len(audio.read(path)) == 32_000
    for parts in (paths, [paths[0]] * 2):  # also where both streams have the same number
        path = joined(tmp_path / "joined.ogg", *parts)
        with pytest.raises(audio.AudioError, match=r"joined\.ogg: several Ogg files .*first 2\.00 s.*ffmpeg -i"):
            audio.read(path)
    assert len(audio.read_crop(path, 0.5, 8_000)) == 8_000


def ogg_pages(path: Path) -> list[bytes]:
    content, pages = path.read_bytes(), []
    while content:
        lengths = content[27 : 27 + content[26]]  # RFC 3533 §6
        size = 27 + len(lengths) + sum(lengths)
        pages.append(content[:size])
        content = content[size:]
    return pages


def test_an_ogg_of_streams_side_by_side_is_no_joined_one(tmp_path: Path) -> None:
    first, other = (ogg_pages(write_sound(tmp_path / f"{seed}.ogg", 16_000, 2.0, seed=seed)) for seed in (0, 1))
    path = tmp_path / "both.ogg"
    path.write_bytes(b"".join([first[0], other[0], *first[1:-1], *other[1:], first[-1]]))
    np.testing.assert_array_equal(audio.read(path), audio.read(tmp_path / "0.ogg"))


def test_joined_mp3s_are_an_error_and_what_lies_behind_the_sound_is_not(tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"{seed}.mp3", 44_100, 2.0, seed=seed) for seed in (0, 1)]
    with pytest.raises(audio.AudioError, match=r"joined\.mp3: several MP3s joined.*5\d% .* 2\.\d\d s .*ffmpeg -i"):
        audio.read(joined(tmp_path / "joined.mp3", *paths))
    whole, size = audio.read(paths[0]), paths[0].stat().st_size
    picture = np.random.default_rng(0).bytes(3 * size)
    tag = b"TAG" + bytes(125)
    for behind in (tag, b"APETAGEX" + picture + tag, bytes(size), b"words " * size):
        path = tmp_path / "tagged.mp3"
        path.write_bytes(paths[0].read_bytes() + behind)
        np.testing.assert_array_equal(audio.read(path), whole)


def test_cut_wav_reads_as_the_shorter_file_that_it_is(tmp_path: Path) -> None:
    whole = write_sound(tmp_path / "whole.wav", 16_000, 4.1, 2)
    path = cut_file(whole, tmp_path / "cut.wav")
    part = audio.read(path)
    np.testing.assert_array_equal(part, audio.read(whole)[: len(part)])
    assert audio.info(path).duration == pytest.approx(2.05, abs=0.01)


def test_mp3_without_length_header(tmp_path: Path) -> None:
    constant = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
    soundfile.write(tmp_path / "a.mp3", make_sound(44_100, 4.0), 44_100, **constant)
    steady = strip_xing(tmp_path / "a.mp3", tmp_path / "steady.mp3")
    assert len(audio.read(steady)) == pytest.approx(64_000, abs=2_000)
    loud = strip_xing(vbr_mp3(tmp_path / "loud.mp3", quiet_first=False), tmp_path / "loud_bare.mp3")
    with pytest.raises(audio.AudioError, match=r"loud_bare\.mp3: .*variable bit rate.*ffmpeg -i"):
        audio.read(loud)
    quiet = strip_xing(vbr_mp3(tmp_path / "quiet.mp3", quiet_first=True), tmp_path / "quiet_bare.mp3")
    assert len(audio.read(quiet)) == pytest.approx(5 * 16_000, abs=2_500)  # though estimated as far longer
    assert audio.info(quiet).duration > 6


def vbr_mp3(path: Path, quiet_first: bool) -> Path:
    """Five seconds at 44.1 kHz, variable bit rate: one of silence and four of noise, or the other way round."""
    noise = 0.5 * make_sound(44_100, 4.0, floor=1.0)[:, 0]
    parts = [np.zeros(44_100, np.float32), noise]
    sound = np.concatenate(parts if quiet_first else [noise[:44_100], np.zeros(4 * 44_100, np.float32)])
    soundfile.write(path, sound, 44_100, bitrate_mode="VARIABLE", compression_level=0.2)
    return path


def test_a_file_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2), np.float32), 16_000)
    with pytest.raises(audio.AudioError, match=r"none\.wav: no samples"):
        audio.read(tmp_path / "none.wav")
    with pytest.raises(audio.AudioError, match=r"none\.wav: no samples"):
        audio.read_crop(tmp_path / "none.wav", 0.0, 400)


def strip_xing(path: Path, target: Path) -> Path:
    """The MP3 without the frame that tells its length."""
    content = path.read_bytes()
    place = max(content.find(b"Xing"), content.find(b"Info"))
    assert 0 < place < 200
    first = content.index(b"\xff", 0)
    following = content.index(content[first : first + 2], place)
    target.write_bytes(content[following:])
    return target


# --- formats that only PyAV reads --------------------------------------------------------------------------


def endless_flac(path: Path) -> Path:
    """A FLAC as written to a pipe: its header has no length (RFC 9639 §8.2: 36 bits, 0 for unknown)."""
    content = bytearray(write_sound(path, 16_000, 1.0).read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return path


def test_files_that_need_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song, endless = tmp_path / "song.m4a", endless_flac(tmp_path / "pipe.flac")
    assert audio.info(endless).duration == pytest.approx(1.0)
    np.testing.assert_allclose(audio.read(endless), make_sound(16_000, 1.0)[:, 0], atol=1e-4)
    monkeypatch.setitem(sys.modules, "av", None)
    song.write_bytes(b"\x00\x00\x00\x1cftypM4A \x00\x00\x02\x00" + bytes(200))
    for path in (song, endless):
        with pytest.raises(audio.AudioError, match=rf"{path.name}: .*matpac\[av\]"):
            audio.read(path)


def encode(path: Path, codec: str, rate: int, seconds: float, channels: int = 2, title: str = "") -> np.ndarray:
    """Writes a sound with PyAV; returns it, [samples, channels]."""
    sound = make_sound(rate, seconds, channels, seed=8)
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w") as container:
        options = {"aac_pns": "0"} if codec == "aac" else {}  # no noise drawn by the decoder
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
        for begin in range(0, len(sound), 960):
            block = np.ascontiguousarray(sound[begin : begin + 960].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sound


@pytest.mark.parametrize(
    ("name", "codec", "rate", "clock"),
    [("a.m4a", "aac", 44_100, 0), ("a.mp4", "aac", 32_000, 0), ("a.webm", "libopus", 48_000, 16)],
)
def test_pyav_reads_whole_and_parts(tmp_path: Path, name: str, codec: str, rate: int, clock: int) -> None:
    """`clock`: how many samples a millisecond has, where the container counts in those."""
    sound = encode(tmp_path / name, codec, rate, 4.0)
    expected = soxr.resample(sound.mean(axis=1), rate, 16_000, quality="HQ")
    whole = audio.read(tmp_path / name)
    assert audio.info(tmp_path / name).channels == 2
    assert audio.info(tmp_path / name).duration == pytest.approx(4.0, abs=0.1)
    assert np.corrcoef(whole[: len(expected)], expected[: len(whole)])[0, 1] > 0.9
    for start in (0.0, 0.31, 1.7, 3.2):
        first = round(start * 16_000)
        crop = audio.read_crop(tmp_path / name, start, 8_000)
        places = range(max(0, first - clock), first + clock + 1)
        assert min(np.abs(crop - whole[place : place + 8_000]).max() for place in places) < 2e-4


def test_pyav_reads_a_file_whose_title_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    encode(path, "aac", 44_100, 1.0, title="Caf#")
    content = path.read_bytes()
    assert content.count(b"Caf#") == 1
    path.write_bytes(content.replace(b"Caf#", "Café".encode("latin-1")))
    assert len(audio.read(path)) == pytest.approx(16_000, abs=1_000)


def test_pyav_names_a_codec_that_it_has_no_decoder_for(tmp_path: Path) -> None:
    path = tmp_path / "odd.caf"
    soundfile.write(path, make_sound(16_000, 1.0), 16_000, format="CAF")
    path.write_bytes(path.read_bytes().replace(b"lpcm", b"zzzz", 1))
    with pytest.raises(audio.AudioError, match=r"odd\.caf: .*no decoder for its codec.*convert it to FLAC"):
        audio.info(path)


@pytest.mark.parametrize(
    ("rate", "channels", "change"),
    [(32_000, 2, "44100 Hz × 2 channels become 32000 Hz × 2"), (44_100, 1, "become 44100 Hz × 1")],
)
def test_pyav_names_sound_that_goes_on_in_another_way(
    tmp_path: Path, rate: int, channels: int, change: str
) -> None:
    encode(tmp_path / "a.aac", "aac", 44_100, 2.0)
    encode(tmp_path / "b.aac", "aac", rate, 2.0, channels)
    path = joined(tmp_path / "joined.aac", tmp_path / "a.aac", tmp_path / "b.aac")
    with pytest.raises(audio.AudioError, match=rf"joined\.aac: .*{change} at about 2\.\d\d s; .*ffmpeg -i"):
        audio.read(path)
    assert len(audio.read_crop(path, 0.5, 8_000)) == 8_000


def test_pyav_reads_more_than_eight_channels(tmp_path: Path) -> None:
    """Of which only the first eight have pointers in FFmpeg's frame itself."""
    sound = (make_sound(16_000, 0.5, 16, seed=9) * 20_000).astype(np.int16)
    with av.open(str(tmp_path / "many.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="hexadecagonal")
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="hexadecagonal")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert audio.info(tmp_path / "many.mkv").channels == 16
    np.testing.assert_allclose(audio.read(tmp_path / "many.mkv"), sound.mean(axis=1) / 2**15, atol=1e-6)
