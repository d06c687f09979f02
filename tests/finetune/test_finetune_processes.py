"""Fine-tuning by two processes, as torchrun starts them."""

import json
from pathlib import Path

import pytest

from helpers.tagging_corpora import encoder_file, tone_table
from helpers.tiny_run import call

LAUNCHER = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


@pytest.mark.slow
def test_two_processes_share_batches_and_evaluation(tmp_path: Path) -> None:
    encoder, table = encoder_file(tmp_path / "encoder.safetensors"), tone_table(tmp_path / "sounds", clips=42)
    (tmp_path / "sounds" / "003.flac").write_bytes(b"nothing")  # of the test part, by its header
    output = tmp_path / "run"
    arguments = ["finetune", "--encoder", encoder, "--task", "table", "--root", table, "--output", output]
    arguments += ["--epochs", 20, "--batch_size", 8, "--workers", 0, "--device", "cpu", "--frames", 48]
    arguments += ["--optimizer.learning_rate", 3e-3, "--optimizer.layer_decay", 1]
    code, errors = call([str(argument) for argument in arguments], LAUNCHER)
    assert code == 1, errors  # one clip was skipped
    assert (tmp_path / "run" / "results.json").exists(), errors
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert record["tested"] == 9
    assert record["used"] == 41
    assert record["test"] > 0.8
    left_out = (tmp_path / "run" / "left_out.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)["path"]).name for line in left_out] == ["003.flac"]
