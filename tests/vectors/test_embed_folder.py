"""`embed_files` into a folder of parts: taken up where it was killed, and shared among processes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pyarrow import dataset

from helpers.sound_files import GOOD, make_mixed_folder, write_sound
from helpers.tiny_encoder import tiny
from matpac import MatpacError, read
from matpac.audio import read_ahead
from matpac.cli import main
from matpac.files.save import save
from matpac.machine import Share
from matpac.vectors import embed_files as module

ENCODER = tiny()
GOOD_NAMES = {*GOOD, "short_8k.wav"}
BAD_NAMES = {"empty.wav", "text.wav", "cut.flac", "click.wav"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    make_mixed_folder(root)
    write_sound(root / "short_8k.wav", 16_000, 0.6, seed=50)
    return root


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(ENCODER, tmp_path_factory.mktemp("encoder") / "tiny.safetensors"))


def embed(sources: list[Path], output: Path, **options: bool | int) -> module.Embedded:
    how = module.EmbedOptions(str(output), **options)  # type: ignore[arg-type]
    return module.embed_files([str(source) for source in sources], ENCODER, how)


def as_process(patch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    patch.setenv("RANK", str(rank))
    patch.setenv("WORLD_SIZE", str(count))


def table_of(output: Path) -> dict[str, np.ndarray]:
    """Columns, in the order of path and time; of a file or of a folder."""
    table = dataset.dataset(output).to_table()
    keys = [(name, "ascending") for name in ("path", "layer", "time") if name in table.column_names]
    table = table.sort_by(keys)
    return {name: np.stack(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names}


def assert_same(found: Path, expected: Path) -> None:
    one, other = table_of(found), table_of(expected)
    assert one.keys() == other.keys()
    for name, column in one.items():
        if name == "vector":
            np.testing.assert_allclose(column, other[name], atol=1e-5)
        else:
            assert column.tolist() == other[name].tolist()


@pytest.mark.parametrize("options", [{}, {"frames": True, "layers": True}])
@pytest.mark.parametrize("count", [1, 3, 20])
def test_parts_of_all_processes_are_the_one_table(
    count: int, options: dict, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed([folder], tmp_path / "one.parquet", **options)
    files = 0
    skipped: list[str] = []
    for rank in range(count):
        as_process(monkeypatch, rank, count)
        result = embed([folder], tmp_path / "parts", **options)
        files += result.files
        skipped += [Path(path).name for path, _ in result.skipped]
        assert result.share == Share(rank, count)
    assert files == len(GOOD_NAMES)
    assert sorted(skipped) == sorted(BAD_NAMES)
    assert_same(tmp_path / "parts", tmp_path / "one.parquet")
    told = [
        line for file in (tmp_path / "parts").glob("_left_out-*.jsonl") for line in file.read_text().splitlines()
    ]
    assert {Path(json.loads(line)["path"]).name for line in told} == BAD_NAMES


def test_a_second_call_does_only_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed([folder], tmp_path / "one.parquet")
    first = embed([folder / "album"], tmp_path / "parts")
    read_again: list[str] = []
    monkeypatch.setattr(read_ahead, "read", lambda path, rate: (read_again.append(path.name), read(path, rate))[1])
    for rank in (1, 0):  # by other processes than before
        as_process(monkeypatch, rank, 2)
        embed([folder], tmp_path / "parts")
    album = {Path(name).name for name in GOOD_NAMES if name.startswith("album/")}
    assert first.files == len(album) == 3
    assert len(read_again) == len(set(read_again))
    assert set(read_again) == {Path(name).name for name in GOOD_NAMES | BAD_NAMES} - album
    assert_same(tmp_path / "parts", tmp_path / "one.parquet")
    as_process(monkeypatch, 0, 1)
    read_again.clear()
    last = embed([folder], tmp_path / "parts")
    assert (last.files, last.found) == (0, len(GOOD_NAMES))
    assert set(read_again) == BAD_NAMES  # they may have been mended


def test_parts_of_another_encoder_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    embed([folder / "album"], tmp_path / "parts")
    how = module.EmbedOptions(str(tmp_path / "parts"))
    with pytest.raises(MatpacError, match=r"holds scenes of the last layer of encoder .* of other"):
        module.embed_files([str(folder)], tiny(name="other"), how)
    with pytest.raises(MatpacError, match="would be frames"):
        embed([folder], tmp_path / "parts", frames=True)


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 16_000, 0.5)
    write_sound(tmp_path / "b.wav", 16_000, 0.5)
    embed([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "parts")
    later = (tmp_path / "parts" / "part-0-0.parquet").stat().st_mtime + 5
    os.utime(path, (later, later))
    result = embed([path, tmp_path / "b.wav"], tmp_path / "parts")
    assert (result.files, result.found) == (0, 1)
    assert result.skipped[0][1].startswith(f"{path}: changed since its vectors were written; ")


def test_relative_names_from_another_folder_are_other_sounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("p", "q"):
        (tmp_path / place).mkdir()
        write_sound(tmp_path / place / "a.wav", 16_000, 0.5)
    monkeypatch.chdir(tmp_path / "p")
    assert embed([Path()], tmp_path / "parts").files == 1
    assert embed([Path()], tmp_path / "parts").found == 1
    monkeypatch.chdir(tmp_path / "q")
    with pytest.raises(MatpacError, match=f"its sounds from {tmp_path / 'p'}; these, from {tmp_path / 'q'}, "):
        embed([Path()], tmp_path / "parts")
    assert embed([tmp_path / "q"], tmp_path / "parts").files == 1
    monkeypatch.chdir(tmp_path / "p")
    assert embed([tmp_path / "q"], tmp_path / "parts").found == 1
    assert embed([Path()], tmp_path / "parts").found == 1


def test_a_file_that_went_is_named(tmp_path: Path) -> None:
    """A link stays in its folder when what it leads to went."""
    path = write_sound(tmp_path / "elsewhere.wav", 16_000, 0.5)
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").symlink_to(path)
    write_sound(tmp_path / "sounds" / "b.wav", 16_000, 0.5)
    embed([tmp_path / "sounds"], tmp_path / "parts")
    path.unlink()
    write_sound(tmp_path / "sounds" / "c.wav", 16_000, 0.5)
    result = embed([tmp_path / "sounds"], tmp_path / "parts")
    assert (result.files, result.found) == (1, 1)
    ((left_out, reason),) = result.skipped
    assert left_out == str(tmp_path / "sounds" / "a.wav")
    assert reason.startswith(f"{left_out}: can't be looked at (No such file or directory), ")


def test_what_cannot_be_a_folder_of_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MatpacError, match="not one of 1 files"):
        embed([folder / "empty.wav"], tmp_path / "parts")
    with monkeypatch.context() as patch:
        as_process(patch, 1, 2)
        with pytest.raises(
            MatpacError, match=r"v\.parquet: 2 processes can't write one file; name a folder: .*v/"
        ):
            embed([folder], tmp_path / "v.parquet")
        assert embed([folder / "empty.wav", folder / "text.wav"], tmp_path / "parts").files == 0
    for name in (b"s\xff.wav", b"s\xfe.wav"):
        (tmp_path / os.fsdecode(name)).write_bytes((folder / "short_8k.wav").read_bytes())
    with pytest.raises(MatpacError, match="read alike"):
        embed(sorted(tmp_path.glob("s*.wav")), tmp_path / "parts")


def test_an_output_without_suffix_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "there.parquet").mkdir()
    outputs = {"v": True, "v.parquet": False, "v.npz": False, "v.parquet/": True, "there.parquet": True}
    for output, is_folder in outputs.items():
        assert module.EmbedOptions(f"{tmp_path}/{output}").is_folder == is_folder


def test_the_command_goes_on(
    folder: Path, encoder_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--encoder", encoder_file, "--output", f"{tmp_path}/vectors/"]
    assert main(["embed", str(folder / "album"), *given]) == 0
    assert main(["embed", str(folder), *given]) == 1
    said = capsys.readouterr()
    album = sum(name.startswith("album/") for name in GOOD_NAMES)
    assert f"{len(GOOD_NAMES) - album} files, " in said.out
    assert said.out.endswith(f"{album} were there already; 4 files skipped\n")
    assert dataset.dataset(tmp_path / "vectors").count_rows() == len(GOOD_NAMES)


def test_one_command_of_several_ends_with_0(
    folder: Path,
    encoder_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """torchrun takes 1 for a failure and kills the others."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        given = ["embed", str(folder), "--encoder", encoder_file, "--output", str(tmp_path / "vectors")]
        assert main(given) == 0
        assert f"(process {rank} of 2): " in (said := capsys.readouterr()).out
        assert "skipped: " in said.err
    assert dataset.dataset(tmp_path / "vectors").count_rows() == len(GOOD_NAMES)
