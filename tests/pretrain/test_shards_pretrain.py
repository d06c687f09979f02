"""`matpac pretrain` on shards: the same loop as on a folder, interrupted and resumed to the same weights."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.local_server import local_server
from helpers.shard_files import write_shards
from helpers.tiny_run import assert_same, checkpoints, killed_at, lines, make_sounds, options, tiny_recipe
from matpac.data.corpus import list_corpus
from matpac.data.packing.pack import PackOptions, pack
from matpac.data.shards.streams import LANES
from matpac.pretrain.job import pretrain
from matpac.train.batches import fingerprint
from matpac.train.config import RunError
from matpac.train.loop import Finished


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def shards(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "shards"
    pack(PackOptions(str(sounds), str(output), "flac", 2**16, workers=1))
    assert len(list(output.glob("*.tar"))) >= 3
    return output


@pytest.fixture(scope="module")
def address(shards: Path) -> Iterator[str]:
    """The same shards, streamed from a server."""
    with local_server() as local:
        local.files = {f"/{path.name}": path.read_bytes() for path in shards.iterdir()}
        yield f"{local.url}/{{000000..{len(list(shards.glob('*.tar'))) - 1:06d}}}.tar"


def run(data: Path | str, folder: Path, **changes: Any) -> Finished:
    """Three epochs of two steps."""
    given = replace(options(Path(), folder, **changes), data=str(data))  # a URL is no Path
    return pretrain(tiny_recipe(), given, "tiny")


@pytest.mark.parametrize("streamed", [False, True])
def test_interrupted_within_an_epoch_it_resumes_to_the_same_weights(
    streamed: bool, shards: Path, address: str, tmp_path: Path
) -> None:
    data = address if streamed else shards
    run(data, tmp_path / "whole", checkpoint_every=1)
    with killed_at(4):
        run(data, tmp_path / "broken", checkpoint_every=1)
    assert checkpoints(tmp_path / "broken")[-1].name == "step-00000003"
    assert run(data, tmp_path / "broken", checkpoint_every=1, resume=True).complete
    assert_same(tmp_path / "whole", tmp_path / "broken")
    one, other = (lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "broken"))
    assert [line["loss"] for line in one] == [line["loss"] for line in other]
    assert [line["step"] for line in one] == list(range(1, 7))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_another_number_of_readers_changes_nothing(address: str, tmp_path: Path) -> None:
    run(address, tmp_path / "one", workers=1)
    assert json.loads((tmp_path / "one" / LANES).read_text()) == {"rows": 1, "turns": 1}
    with killed_at(5):
        run(address, tmp_path / "other", workers=1)
    run(address, tmp_path / "other", workers=2, resume=True)
    assert_same(tmp_path / "one", tmp_path / "other")


def test_a_run_resumes_on_a_copy_of_its_shards_and_on_nothing_else(
    shards: Path, sounds: Path, tmp_path: Path
) -> None:
    run(shards, tmp_path / "whole")
    with killed_at(5):
        run(shards, tmp_path / "moved")
    shutil.copytree(shards, tmp_path / "copy")
    pack(PackOptions(str(sounds), str(tmp_path / "other"), "pcm16", 2**16, workers=1))
    for data in (sounds, tmp_path / "other"):
        with pytest.raises(RunError, match="the corpus is not the one"):
            run(data, tmp_path / "moved", resume=True)
    run(tmp_path / "copy", tmp_path / "moved", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "moved")


def test_shards_are_the_same_corpus_wherever_they_lie(shards: Path, address: str, tmp_path: Path) -> None:
    other = write_shards(tmp_path / "plain", [2])[0]
    prints = [fingerprint(list_corpus(str(place)).clips) for place in (shards, address, other)]
    assert prints[0] == prints[1] != prints[2]
