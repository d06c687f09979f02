"""The cache of features: resumed after a kill, shared by processes, never used when stale or damaged."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from helpers.made_task import (
    LOGMEL,
    TINY,
    Mean,
    named,
    never,
    one_at_a_time,
    task_from,
    task_of,
    write,
)
from helpers.tiny_encoder import tiny
from matpac import MatpacError
from matpac.probe import feature_cache, features
from matpac.probe.encoders import (
    named_embedder,
)
from matpac.probe.features import embed_task
from matpac.probe.token_features import embed_tokens
from matpac.vectors import road


def test_a_second_time_nothing_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    first = embed_task(task, TINY, tmp_path / "cache")
    monkeypatch.setattr(features, "fill", never)
    again = embed_task(task, TINY, tmp_path / "cache")
    assert again.key == first.key
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert not again.vectors.flags.writeable
    names = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert names == [".clips", ".json", ".lock", ".npy"]
    (tmp_path / "link").symlink_to(tmp_path / "sounds")
    assert embed_task(task_from(tmp_path / "link", 3), TINY, tmp_path / "cache").key == first.key


def test_two_versions_of_a_corpus_share_nothing(tmp_path: Path) -> None:
    """Files of equal names, sizes and times, with other sound in them."""
    for seed, version in enumerate(("clean", "noisy")):
        for number in range(3):
            path = tmp_path / version / f"{number:03}.wav"
            write(path, 0.3, seed=10 * seed + number)
            os.utime(path, ns=(0, 10**9))
        task = task_from(tmp_path / version, 3)
        found = embed_task(task, LOGMEL, tmp_path / "cache")
        np.testing.assert_allclose(found.vectors, one_at_a_time(task, LOGMEL), atol=1e-5)


def test_what_the_features_depend_on_changes_the_key(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    cache = tmp_path / "cache"
    found = [
        embed_task(task, TINY, cache),
        embed_task(task, named_embedder("tiny", tiny()), cache),  # other weights
        embed_task(task, TINY, cache, layers=True),
        embed_task(task, TINY, cache, dtype="float16"),
        embed_task(task_of(tmp_path / "sounds", [0.3] * 3, 0.25), TINY, cache),
    ]
    os.utime(task.paths[1], ns=(0, 10**9))
    found.append(embed_task(task, TINY, cache))
    write(Path(task.paths[1]), 0.4, 48_000)
    os.utime(task.paths[1], ns=(0, 10**9))
    found.append(embed_task(task, TINY, cache))
    assert len({one.key for one in found}) == len(found)
    np.testing.assert_allclose(found[-1].vectors, one_at_a_time(task, TINY), atol=1e-5)
    assert found[3].vectors.dtype == np.float16
    np.testing.assert_array_equal(found[3].vectors, found[0].vectors.astype(np.float16))
    assert found[2].vectors.shape == (3, 2, 16)


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [0.3] * 11
    task = task_of(tmp_path / "sounds", lengths)
    Path(task.paths[1]).write_bytes(b"no sound")
    monkeypatch.setattr(feature_cache, "BLOCK_ROWS", 4)
    monkeypatch.setattr(road, "LIST_CLIPS", 1)

    class Killed(Mean):
        def one(self, clip: np.ndarray) -> Tensor:
            if len(self.asked) == 9:  # clip 9, since clip 1 is not asked
                raise KeyboardInterrupt
            return super().one(clip)

    with pytest.raises(KeyboardInterrupt):
        embed_task(task, named(Killed()), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*[0-9a-f].npy"))
    fresh = Mean()
    found = embed_task(task, named(fresh), tmp_path / "cache")
    assert len(fresh.asked) == 11 - 8  # 2 blocks were there
    np.testing.assert_allclose(found.vectors, one_at_a_time(found.task, named(Mean())), atol=1e-5)
    assert [Path(path).name for path, _ in found.task.missing] == ["001.wav"]


def test_a_process_killed_hard_goes_on(tmp_path: Path) -> None:
    task_of(tmp_path / "sounds", [0.2] * 6)
    script = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        from helpers import made_task as here
        from matpac.probe import feature_cache, features
        from matpac.vectors import road
        feature_cache.BLOCK_ROWS, road.LIST_CLIPS = 2, 1
        class Killed(here.Mean):
            def one(self, clip):
                if len(self.asked) == 6:
                    os._exit(9)
                return super().one(clip)
        root = Path(sys.argv[2])
        features.embed_task(here.task_from(root / "sounds", 6), here.named(Killed()), root / "cache")
    """)
    tests = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", script, tests, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    fresh = Mean()
    task = task_from(tmp_path / "sounds", 6)
    found = embed_task(task, named(fresh), tmp_path / "cache")
    assert sum(fresh.asked) == 2
    np.testing.assert_allclose(found.vectors, one_at_a_time(task, named(Mean())), atol=1e-5)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "a bit of the last row": lambda array, state: flip(array, -2),
    "a bit of the first row": lambda array, state: flip(array, 130),
    "a bit of the header": lambda array, state: flip(array, 20),
    "cut short": lambda array, state: os.truncate(array, array.stat().st_size - 1),
    "too long": lambda array, state: array.write_bytes(array.read_bytes() + b"0"),
    "empty": lambda array, state: os.truncate(array, 0),
    "no array": lambda array, state: array.unlink(),
    "no state": lambda array, state: state.unlink(),
    "state cut short": lambda array, state: os.truncate(state, 40),
    "state not JSON": lambda array, state: state.write_bytes(b"\xff\xfe"),
    "state of another kind": lambda array, state: state.write_text("[]"),
    "a number of the state": lambda array, state: (
        state.write_text(state.read_text().replace('"total": 7', '"total": 6')) and None
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_computed_anew(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK_ROWS", 3)
    task = task_of(tmp_path / "sounds", [0.2] * 7)
    cache = tmp_path / "cache"
    before = embed_task(task, named(Mean()), cache)
    expected = np.array(before.vectors)
    (array,), (state,) = cache.glob("*.npy"), cache.glob("*.json")
    del before
    content = state.read_text() + array.read_bytes().hex()
    DAMAGE[damage](array, state)
    encoder = Mean()
    found = embed_task(task, named(encoder), cache)
    assert sum(encoder.asked) == 7
    np.testing.assert_array_equal(found.vectors, expected)
    assert state.read_text() + array.read_bytes().hex() == content


def test_damage_in_an_unfinished_array_costs_the_blocks_from_there_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK_ROWS", 2)
    monkeypatch.setattr(feature_cache.FeatureFile, "_publish", lambda self: None)
    task = task_of(tmp_path / "sounds", [0.2] * 6)
    with pytest.raises(FileNotFoundError):
        embed_task(task, named(Mean()), tmp_path / "cache")
    monkeypatch.undo()
    (partial,) = (tmp_path / "cache").glob("*.partial.npy")
    flip(partial, 128 + 3 * 8)  # the second block
    encoder = Mean()
    found = embed_task(task, named(encoder), tmp_path / "cache")
    assert sum(encoder.asked) == 4
    np.testing.assert_allclose(found.vectors, one_at_a_time(task, named(Mean())), atol=1e-5)
    # and without damage, a run killed just before its last step has only that to do
    monkeypatch.setattr(feature_cache.FeatureFile, "_publish", lambda self: None)
    with pytest.raises(FileNotFoundError):
        embed_task(task, named(Mean()), tmp_path / "other")
    monkeypatch.undo()
    monkeypatch.setattr(features, "fill", never)
    np.testing.assert_array_equal(embed_task(task, named(Mean()), tmp_path / "other").vectors, found.vectors)


def test_lengths_and_failures_of_damaged_blocks_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(tmp_path / "sounds", [0.3, 1.1, 0.4, 0.9, 0.2, 0.5])
    Path(task.paths[3]).write_bytes(b"no sound")
    whole = embed_tokens(task, TINY, tmp_path / "whole")
    monkeypatch.setattr(feature_cache, "BLOCK_ROWS", 2)
    monkeypatch.setattr(feature_cache.FeatureFile, "_publish", lambda self: None)
    with pytest.raises(FileNotFoundError):
        embed_tokens(task, TINY, tmp_path / "cache")
    monkeypatch.undo()
    (partial,), (state,) = (tmp_path / "cache").glob("*.partial.npy"), (tmp_path / "cache").glob("*.json")
    flip(partial, 128 + 2 * whole.frames[0].nbytes)  # the second block, of clips 2 and 3
    found = embed_tokens(task, TINY, tmp_path / "cache")
    np.testing.assert_array_equal(found.lengths, whole.lengths)
    np.testing.assert_allclose(found.frames, whole.frames, atol=4e-3)
    failed = json.loads(state.read_text())["state"]["failed"]
    assert [clip for clip, _ in failed] == [3]


def test_an_older_array_stays_whole_for_who_has_it_open(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 3)
    first = embed_task(task, named(Mean()), tmp_path / "cache")
    (state,) = (tmp_path / "cache").glob("*.json")
    state.unlink()
    kept = np.array(first.vectors)
    embed_task(task, named(Mean()), tmp_path / "cache")
    np.testing.assert_array_equal(first.vectors, kept)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.3] * 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(MatpacError, match=r"can't be written .*choose another cache"):
        embed_task(task, LOGMEL, tmp_path / "file" / "cache")


def test_two_at_once_compute_once(tmp_path: Path) -> None:
    class Slow(Mean):
        def embed(self, clips: Sequence[np.ndarray | Tensor]) -> Tensor:
            time.sleep(0.05)
            return super().embed(clips)

    task = task_of(tmp_path / "sounds", [0.2] * 5)
    encoders = [Slow() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: embed_task(task, named(one), tmp_path / "cache"), encoders))
    assert sorted(sum(one.asked) for one in encoders) == [0, 0, 0, 5]
    for one in found:
        np.testing.assert_array_equal(one.vectors, found[0].vectors)


def test_the_json_says_what_it_is_of(tmp_path: Path) -> None:
    task = task_of(tmp_path / "sounds", [0.2] * 3)
    embed_task(task, TINY, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("made-tiny-scenes-*.json")
    about = json.loads(path.read_text())["state"]["about"]
    assert (about["task"], about["encoder"], about["encoder_key"]) == ("made", "tiny", TINY.key)
    assert (about["unit_seconds"], about["dtype"], about["kind"]) == (None, "float32", "scenes")


def test_what_waits_for_the_disk_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "BLOCK_BYTES", 2 * 2 * 4)  # two rows of two float32
    task = task_of(tmp_path / "sounds", [0.2] * 5)
    embed_task(task, named(Mean()), tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.json")
    assert [block[0] for block in json.loads(path.read_text())["state"]["blocks"]] == [2, 4, 5]
