"""`matpac pretrain` on shards: the same loop as on a folder, broken off and gone on with to the same bytes."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.local_server import Local, Reply, local_server
from helpers.shard_files import tar_bytes, write_shards
from helpers.sound_files import make_mixed_folder
from helpers.tiny_run import assert_same, checkpoints, killed_at, lines, make_sounds, options, tiny_recipe
from matpac import cli
from matpac.data.corpus import list_corpus
from matpac.data.crops import CropBatch
from matpac.data.files import DataError
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.shards.streams import LANES
from matpac.pretrain.job import pretrain
from matpac.pretrain.options import PretrainOptions
from matpac.pretrain.recipes import Recipe
from matpac.pretrain.setup import clip_loader, find_clips
from matpac.train.batches import fingerprint
from matpac.train.config import RunError
from matpac.train.loop import Finished
from matpac.train.run import Run

FORK = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
EPOCHS = 4
RECIPE = replace(tiny_recipe(), epochs=EPOCHS)  # 8 clips, batches of 4: 8 steps


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def shards(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "shards"
    pack(PackOptions(str(sounds), str(output), "flac", 2**16, workers=1))
    assert len(list(output.glob("*.tar"))) >= 3
    return output


def pattern(shards: Path) -> str:
    return f"{{000000..{len(list(shards.glob('*.tar'))) - 1:06d}}}.tar"


@pytest.fixture(scope="module")
def server(shards: Path) -> Iterator[Local]:
    with local_server() as local:
        local.files = {f"/{path.name}": path.read_bytes() for path in shards.iterdir()}
        yield local


@pytest.fixture(params=["files", "http"])
def data(request: pytest.FixtureRequest, shards: Path) -> str:
    """The same shards in every way in which they can be named."""
    if request.param == "http":
        return f"{request.getfixturevalue('server').url}/{pattern(shards)}"
    return f"{shards}/{pattern(shards)}" if request.param == "files" else f"local://{shards}/{pattern(shards)}"


def options_of(data: str, folder: Path, **changes: Any) -> PretrainOptions:
    return replace(options(Path(), folder, **changes), data=data)  # a URL is no Path


def run_on(data: str, folder: Path, recipe: Recipe = RECIPE, **changes: Any) -> Finished:
    return pretrain(recipe, options_of(data, folder, **changes), "tiny")


def trained(data: str, folder: Path, **changes: Any) -> None:
    assert run_on(data, folder, **changes).complete


# --- the same loop -----------------------------------------------------------------------------------------


def test_broken_in_mid_epoch_and_gone_on_with_to_the_same_weights(data: str, tmp_path: Path) -> None:
    trained(data, tmp_path / "whole", checkpoint_every=1)
    with killed_at(3):
        run_on(data, tmp_path / "broken", checkpoint_every=1)
    with killed_at(6):
        run_on(data, tmp_path / "broken", checkpoint_every=1, resume=True)
    assert checkpoints(tmp_path / "broken")[-1].name == "step-00000005"
    trained(data, tmp_path / "broken", checkpoint_every=1, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    ours, theirs = (lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "broken"))
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]
    assert [line["step"] for line in ours] == list(range(1, 9))


@FORK
def test_other_numbers_of_readers_change_nothing(data: str, tmp_path: Path) -> None:
    trained(data, tmp_path / "one", workers=1)
    if ":" in data:
        assert json.loads((tmp_path / "one" / LANES).read_text()) == {"rows": 1, "turns": 1}
    with killed_at(5):
        run_on(data, tmp_path / "other", workers=1)
    trained(data, tmp_path / "other", workers=2, resume=True)
    assert_same(tmp_path / "one", tmp_path / "other")


def batches_of(
    data: str, folder: Path, rank: int = 0, size: int = 1, first: int = 0, **changes: Any
) -> list[CropBatch]:
    fabric: Any = SimpleNamespace(
        global_rank=rank,
        world_size=size,
        device=torch.device("cpu"),
        is_global_zero=rank == 0,
        barrier=lambda: None,
    )
    given = options_of(data, folder, **changes)
    kept = Run(folder, resume=False, keep=1)
    kept.resume = first > 0
    return list(clip_loader(RECIPE, given, find_clips(RECIPE, given, kept, fabric).clips, fabric, first))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_after_a_break_by_their_bytes_for_every_process(
    data: str, accumulate: int, tmp_path: Path
) -> None:
    whole = [batches_of(data, tmp_path, rank, 2, accumulate=accumulate) for rank in range(2)]
    for first in (1, 3, 4, 7):  # four steps are two epochs
        for rank in range(2):
            again = batches_of(data, tmp_path, rank, 2, first, accumulate=accumulate)
            kept = whole[rank][first * accumulate :]
            assert len(again) == len(kept)
            for one, other in zip(again, kept, strict=True):
                assert one.waveforms.numpy().tobytes() == other.waveforms.numpy().tobytes()
                assert (one.paths, one.numbers) == (other.paths, other.numbers)
    names = [Path(path).name for rank in whole for batch in rank for path in batch.paths]
    assert {name: names.count(name) for name in names} == {f"{n:09d}.flac": EPOCHS for n in range(8)}


def test_more_processes_after_a_break_see_the_same_global_batch(data: str, tmp_path: Path) -> None:
    whole = batches_of(data, tmp_path)
    ranks = [batches_of(data, tmp_path, rank, 2, 3) for rank in range(2)]
    for number, batch in enumerate(whole[3:]):
        assert torch.equal(torch.cat([rank[number].waveforms for rank in ranks]), batch.waveforms)


# --- what is left out, and what is refused -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["{}", "local://{}"])
def test_bad_sounds_are_named_once_across_a_break(how: str, tmp_path: Path) -> None:
    mixed = make_mixed_folder(tmp_path / "mixed")
    members = [(f"{n}.{path.name}", path.read_bytes()) for n, path in enumerate(mixed.values())]
    (tmp_path / "a.tar").write_bytes(tar_bytes([*members, ("0.json", b"{}")]))
    data = how.format(tmp_path / "a.tar")
    recipe = replace(tiny_recipe(), epochs=8)
    with killed_at(8):
        run_on(data, tmp_path / "run", recipe)
    finished = run_on(data, tmp_path / "run", recipe, resume=True)
    found = lines(tmp_path / "run" / "left_out.jsonl")
    assert {Path(line["path"]).name.partition(".")[2] for line in found} == {
        *("empty.wav", "text.wav", "click.wav", "cut.flac")
    }
    assert all(line["path"].startswith(data) for line in found)
    assert finished.skipped == len(found) == 4


def test_shards_of_other_content_are_another_corpus(sounds: Path, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "shards")
    trained(str(tmp_path / "shards"), tmp_path / "run")
    shutil.rmtree(tmp_path / "shards")
    pack(PackOptions(str(sounds), str(tmp_path / "shards"), "pcm16", 2**16, workers=1))
    with pytest.raises(RunError, match="the corpus is not the one"):
        run_on(str(tmp_path / "shards"), tmp_path / "run", resume=True)


def test_shards_copied_elsewhere_are_gone_on_with(shards: Path, sounds: Path, tmp_path: Path) -> None:
    trained(str(shards), tmp_path / "whole")
    with killed_at(5):
        run_on(str(shards), tmp_path / "moved")
    shutil.copytree(shards, tmp_path / "copy")
    with pytest.raises(RunError, match="the corpus is not the one"):
        run_on(str(sounds), tmp_path / "moved", resume=True)
    trained(str(tmp_path / "copy"), tmp_path / "moved", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "moved")


def test_shards_are_the_same_corpus_wherever_they_lie(shards: Path, server: Local, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "copy")
    prints = {fingerprint(list_corpus(str(place)).clips) for place in (shards, tmp_path / "copy")}
    prints.add(fingerprint(list_corpus(f"{server.url}/{pattern(shards)}").clips))
    assert len(prints) == 1
    plain = write_shards(tmp_path / "plain", [2])
    assert len({fingerprint(list_corpus(str(plain[0])).clips), *prints}) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_bytes([("../../evil.wav", b"1")]), "names a place outside of the shard"),
        (tar_bytes([("a.wav", b"1" * 999)])[:900], "cut short: ends at byte 900"),
        (b"\x1f\x8b" + bytes(900), "compressed; unpack it"),
    ],
)
@pytest.mark.parametrize("how", ["{}", "local://{}"])
def test_hostile_shards_are_one_line_and_exit_code_2(
    content: bytes, message: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    given = [
        "pretrain",
        "--data",
        how.format(tmp_path / "a.tar"),
        "--output",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert cli.main(given) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("matpac pretrain: ")
    assert "\n" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "run"]


@FORK
@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_goes_away_is_one_clear_line(workers: int, shards: Path, tmp_path: Path) -> None:
    with local_server() as local:
        local.files = {f"/{path.name}": path.read_bytes() for path in shards.iterdir()}
        data = f"{local.url}/{pattern(shards)}"
        local.replies = [Reply(), Reply(), *[Reply(status=403)] * 99]  # index.json and clips.parquet come
        with pytest.raises(DataError) as error:
            run_on(data, tmp_path / "run", workers=workers)
    assert "cut short: ends at byte 0" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_start_that_fails_does_not_block_the_next(shards: Path, tmp_path: Path) -> None:
    data = f"local://{shards}/000000.tar"
    with pytest.raises(DataError, match="too few clips for one batch"):
        run_on(data, tmp_path / "run", replace(RECIPE, batch_size=64))
    trained(f"local://{shards}/{pattern(shards)}", tmp_path / "run")
