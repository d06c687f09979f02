"""The run folder: what is written, what survives a kill at any write, and what a resumed run finds."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from matpac.errors import Skipped
from matpac.train import run as run_module
from matpac.train.config import RunError, read_config
from matpac.train.run import Run, optimizer_tensors

IDENTITY = {"corpus": "abc"}


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing is tidied up (see `kill_at_write`)."""


def network(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
    return module, optimizer


def started(folder: Path, keep: int = 2, **config: Any) -> Run:
    run = Run(folder, resume=False, keep=keep)
    run.write_config(config)
    return run


def save(run: Run, step: int, loss: float | None = 1.0, seed: int = 0) -> Path:
    return run.save({"step": step, "loss": loss, **IDENTITY}, *network(seed), {"step": step})


def names(run: Run) -> list[str]:
    return [path.name for path in run.checkpoints]


# --- starting and resuming ---------------------------------------------------------------------------------


def test_a_run_that_is_there_is_refused_and_one_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run to resume"):
        read_config(tmp_path / "run")
    started(tmp_path / "run", recipe={"epochs": 3}, options={})
    with pytest.raises(RunError, match="--resume"):
        Run(tmp_path / "run", resume=False, keep=2)
    assert read_config(tmp_path / "run") == {"recipe": {"epochs": 3}, "options": {}}


@pytest.mark.parametrize(
    "content", [b'{"recipe": ', b"[]", b"{}", b'{"recipe": [], "options": {}}', b"\xff\xfe"], ids=str
)
def test_damaged_config(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json: damaged"):
        read_config(tmp_path)


def test_what_was_saved_is_restored_to_the_bit(tmp_path: Path) -> None:
    run = started(tmp_path)
    save(run, 10, loss=0.5)
    module, optimizer = network(seed=1)
    state = Run(tmp_path, True, 2).restore(module, optimizer, IDENTITY)
    assert (state["step"], state["loss"], state["corpus"]) == (10, 0.5, "abc")
    saved, moments = network(seed=0)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in saved.state_dict().items())
    before, after = optimizer_tensors(moments), optimizer_tensors(optimizer)
    assert before.keys() == after.keys() == {f"{n}.{m}" for n in "01" for m in ("step", "exp_avg", "exp_avg_sq")}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    save(started(tmp_path), 10)
    with pytest.raises(RunError, match=r"the corpus is not the one .* \(abc then, xyz now\)"):
        Run(tmp_path, True, 2).restore(*network(), {"corpus": "xyz"})


# --- logs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [[], [5, 10]])
def test_log_lines_after_the_checkpoint_are_dropped(kept: list[int], tmp_path: Path) -> None:
    run = started(tmp_path)
    for step in (5, 10, 15):
        run.log(step, {"loss": 1 / step})
    run.close()
    if kept:
        save(run, 10)
    log = tmp_path / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 16, "lo')  # cut by a kill
    assert Run(tmp_path, True, 2).restore(*network(), IDENTITY)["step"] == (10 if kept else 0)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == [{"step": step, "loss": 1 / step} for step in kept]


def test_each_skipped_file_is_named_once(tmp_path: Path) -> None:
    a, b, c = (Skipped(f"/sounds/{name}.wav", f"reason {name}") for name in "abc")
    run, other = started(tmp_path), Run(tmp_path, True, 2, first=False)
    run.skip([a, a, b])
    run.skip([])
    other.skip([b, c])  # another process
    assert run.skipped == {a.path, b.path, c.path}
    log = tmp_path / "left_out.jsonl"
    log.write_text(log.read_text() + '{"path": "/sounds/d')  # cut by a kill
    resumed = Run(tmp_path, True, 2)
    resumed.restore(*network(), IDENTITY)
    resumed.skip([a, b, c, Skipped("/sounds/d.wav", "reason d")])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["path"] for line in lines] == [f"/sounds/{name}.wav" for name in "abcd"]
    assert lines[0]["reason"] == "reason a"


def test_a_fresh_run_drops_what_an_earlier_start_skipped(tmp_path: Path) -> None:
    (tmp_path / "left_out.jsonl").write_text('{"path": "/old.wav", "reason": "gone"}\n')
    assert not started(tmp_path).skipped


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    other = Run(tmp_path, False, 2, first=False)
    other.write_config({})
    other.log(1, {"loss": 1.0})
    other.close()
    assert not list(tmp_path.iterdir())


# --- checkpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "keep", "kept"),
    [
        ([5.0, 4.0, 3.0, 2.0], 2, [3, 4]),
        ([1.0, 4.0, 3.0, 2.0], 2, [1, 3, 4]),
        ([3.0, 1.0, 3.0, 2.0], 1, [2, 4]),
        ([None, 4.0, 3.0, 5.0], 1, [3, 4]),  # one without a loss is not the best
        ([1.0, 2.0], 5, [1, 2]),
    ],
)
def test_the_newest_and_the_best_are_kept(
    losses: list[float | None], keep: int, kept: list[int], tmp_path: Path
) -> None:
    run = started(tmp_path, keep=keep)
    for step, loss in enumerate(losses, 1):
        save(run, step, loss)
    assert names(run) == [f"step-{step:08d}" for step in kept]
    assert run.newest == run.checkpoints[-1]


def kill_at_write(monkeypatch: pytest.MonkeyPatch, name: str, at: int) -> None:
    """The process ends at the `at`-th call of something that changes the disk, and nothing runs after it."""
    owner: Any = {"rename": Path, "rmtree": run_module.shutil}.get(name, run_module)
    real, calls = getattr(owner, name), iter(range(100))

    def killed(*arguments: Any, **options: Any) -> Any:
        if next(calls) == at:
            if name == "rmtree":  # in the middle of its work
                (Path(arguments[0]) / "model.safetensors").unlink()
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, killed)


@pytest.mark.parametrize(
    ("name", "at"),
    [("write_tensors", 0), ("write_tensors", 1), ("write_text", 0), ("rename", 0), ("rename", 1), ("rmtree", 0)],
)
def test_a_kill_anywhere_leaves_only_whole_checkpoints(
    name: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(tmp_path, keep=1)
    save(run, 1, loss=3.0)
    with monkeypatch.context() as patch:
        kill_at_write(patch, name, at)
        with pytest.raises(Killed):
            save(run, 2, loss=2.0, seed=1)  # drops the first one
    resumed = Run(tmp_path, True, 1)
    for checkpoint in resumed.checkpoints:
        assert {path.name for path in checkpoint.iterdir()} >= {
            *("model.safetensors", "optimizer.safetensors", "state.json")
        }
    module, optimizer = network(seed=2)
    step = resumed.restore(module, optimizer, IDENTITY)["step"]
    assert step in (1, 2)
    expected, _ = network(seed=step - 1)
    assert torch.equal(module.state_dict()["weight"], expected.state_dict()["weight"])
    save(resumed, 3, loss=1.0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]  # no drafts either


def full_disk(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["write_tensors", "write_text"])
def test_a_full_disk_is_one_clear_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(tmp_path)
    first = save(run, 1)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, name, full_disk)
        with pytest.raises(RunError) as error:
            save(run, 2)
    for part in (str(tmp_path / "checkpoints" / "step-00000002"), "No space left on device", str(first)):
        assert part in str(error.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_config_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {"recipe": {"epochs": 1}, "options": {}}
    run = started(tmp_path, **before)
    with monkeypatch.context() as patch:
        kill_at_write(patch, "write_text", 0)
        with pytest.raises(Killed):
            run.write_config({"recipe": {"epochs": 2}, "options": {}})
    assert read_config(tmp_path) == before
