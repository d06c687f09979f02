"""Fine-tuning in processes of its own: two of them, as torchrun starts them, and compiled steps."""

import json
from pathlib import Path

import pytest
import torch

from helpers.tagging_corpora import encoder_file, tone_table
from helpers.tiny_run import TORCHRUN, call
from matpac.files.tensor_files import read_tensors

pytestmark = pytest.mark.slow


def finetune(folder: Path, output: str, *more: object, launcher: tuple[str, ...] = ()) -> tuple[int, str]:
    """Run the command on `folder`'s sounds; exit code and standard error."""
    encoder, table = encoder_file(folder / "encoder.safetensors"), folder / "sounds" / "tones.csv"
    arguments = ["finetune", "--encoder", encoder, "--task", "table", "--root", table, "--output", folder / output]
    arguments += ["--batch_size", 8, "--workers", 0, "--device", "cpu", "--frames", 48]
    arguments += ["--optimizer.learning_rate", 3e-3, "--optimizer.layer_decay", 1, *more]
    return call([str(argument) for argument in arguments], launcher)


def test_two_processes_share_batches_and_evaluation(tmp_path: Path) -> None:
    tone_table(tmp_path / "sounds", clips=42)
    (tmp_path / "sounds" / "003.flac").write_bytes(b"nothing")  # of the test part, by its header
    code, errors = finetune(tmp_path, "run", "--epochs", 20, launcher=TORCHRUN)
    assert code == 1, errors  # one clip was skipped
    assert (tmp_path / "run" / "results.json").exists(), errors
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["tested"] == 9
    assert record["used"] == 41
    assert record["test"] > 0.8
    left_out = (tmp_path / "run" / "left_out.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["path"]).name for line in left_out] == ["003.flac"]


def test_compiled_steps_are_the_same_up_to_rounding(tmp_path: Path) -> None:
    """With all that changes from step to step: patches, dropped branches, micro-batches."""
    tone_table(tmp_path / "sounds", clips=16)
    rich = ["--epochs", 3, "--augmentation.patchout", 0.5, "--augmentation.drop_path", 0.5, "--accumulate", 2]
    results = []
    for output, compiled in (("eager", "false"), ("compiled", "true")):
        code, errors = finetune(tmp_path, output, *rich, "--result", "last", "--compile", compiled)
        assert code == 0, errors
        results.append(read_tensors(tmp_path / output / "model.safetensors")[0])
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-3, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
