"""Files of tensors: written whole or not at all, and nothing else is opened or run."""

import os
import pickle
import struct
import tempfile
import zipfile
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from helpers.published_files import published_state
from helpers.tiny_encoder import tiny
from matpac.files.load import load_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError, read_tensors, write_tensors


def test_any_tensors(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "shared": shared,
        "again": shared,
        "across": shared.T,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "whole": torch.tensor(3),
        "empty": torch.empty(0),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"any": [1, None]})
    copy, description = read_tensors(tmp_path / "x.safetensors")
    assert description == {"any": [1, None]}
    assert copy.keys() == tensors.keys()
    assert all(copy[name].equal(tensor.data) for name, tensor in tensors.items())


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.zeros(3)}, {})
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode, "others may read it as any new file"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"a": torch.ones(3)}, {})
    assert read_tensors(path)[0]["a"].equal(torch.zeros(3))
    assert set(tmp_path.iterdir()) == {path, tmp_path / "any"}


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="can't be written"):
        write_tensors(tmp_path / "nowhere" / "x.safetensors", {"a": torch.zeros(3)}, {})
    with pytest.raises(ValueError, match="JSON"):
        write_tensors(tmp_path / "x.safetensors", {}, {"a": float("nan")})


# files that are something else


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["enc.pt", "enc.safetensors"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle 2", "pickle 5"])
def test_a_hostile_pickle_is_not_run(tmp_path, kind, name):
    content = published_state(64, 1, 16) | {"extra": Hostile(tmp_path / "written")}
    path = tmp_path / name
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(content["extra"], protocol=int(kind[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(
        CheckpointError, match=r"objects besides tensors( \((posix|nt)\.system\)|, or is damaged); .*not opened"
    ):
        load_file(path)
    assert not (tmp_path / "written").exists()


def test_a_whole_training_checkpoint_says_how_to_take_its_weights_out(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_last.pt"
    torch.save({"args": Namespace(arch="x"), "model": published_state(64, 1, 16)}, path)
    with pytest.raises(CheckpointError, match=r"objects besides tensors \(argparse\.Namespace\)") as caught:
        load_file(path)
    command = str(caught.value).split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    exec(command, {})  # noqa: S102 (the very command that the message gives)
    assert load_file(tmp_path / "weights.pt").encoder.config.width == 64


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_shapes_that_the_file_does_not_fill(tmp_path, device):
    """Pickles of a few bytes that claim terabytes."""
    rows = torch.zeros(1, device=device).expand(1, 5 * 10**12 + 1, 64)
    state = published_state(64, 2, 32) | {"pos_embed": rows}
    for content in (state, {"model": state}):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"x\.pt: pos_embed is not stored"):
            load_file(tmp_path / "x.pt")


@pytest.mark.filterwarnings("ignore")  # both are deprecated
@pytest.mark.parametrize("kind", ["nested", "quantized"])
def test_tensors_of_other_kinds(tmp_path, kind):
    if kind == "nested":
        odd = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    else:
        odd = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
    torch.save({"weight": odd}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"odd\.pt: "):
        load_file(tmp_path / "odd.pt")


def test_what_unpacks_to_more_than_it_is(tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain:
        members = {member.filename: plain.read(member) for member in plain.infolist()}
    for name, packing in {"packed.pt": zipfile.ZIP_DEFLATED, "long.pt": zipfile.ZIP_STORED}.items():
        with zipfile.ZipFile(tmp_path / name, "w", packing) as file:
            for member, content in members.items():
                file.writestr(member, b"a" * (2**24 + 1) if member.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match=r"packed\.pt: \S+ is compressed"):
        load_file(tmp_path / "packed.pt")
    with pytest.raises(CheckpointError, match=r"long\.pt: \S+ has 16777217 bytes"):
        load_file(tmp_path / "long.pt")


def test_published_tensors_as_safetensors(tmp_path):
    save_file(published_state(64, 2, 32, classes=5), tmp_path / "x", {"format": "pt"})
    encoder = load_file(tmp_path / "x")
    assert encoder.card.source == "published"
    assert encoder.head is not None
    assert encoder.head.linear.out_features == 5
    with pytest.raises(CheckpointError, match="not in matpac's own format"):
        read_tensors(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"RIFF....WAVE", "no checkpoint"),
        (struct.pack("<Q", 1000) + b'{"a":', "damaged or cut short"),
        (struct.pack("<Q", 2) + b"{}" + b"left over", "damaged or cut short"),
        (struct.pack("<Q", 2) + b"{}", "no MATPAC encoder"),
        (b"PK\x03\x04 a zip of something", "no PyTorch checkpoint"),
        (b"\x80\x02.", "no PyTorch checkpoint|besides tensors"),
        (pickle.dumps([1, 2]), "damaged|holds one list"),
    ],
)
def test_other_files(tmp_path, content, message):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"x\.pt: .*({message})"):
        load_file(tmp_path / "x.pt")


@pytest.fixture(scope="module")
def small_files(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("small")
    save(tiny(2), folder / "own.safetensors")
    for name in ("zip", "legacy"):
        torch.save(published_state(64, 1, 16), folder / name, _use_new_zipfile_serialization=name == "zip")
    return [(folder / name).read_bytes() for name in ("own.safetensors", "zip", "legacy")]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_load_or_are_refused(small_files, data):
    content = bytearray(small_files[data.draw(st.integers(0, 2))])
    # the beginning and the end have all the structure
    places = st.integers(0, 3000) | st.integers(len(content) - 3000, len(content) - 1)
    for place in data.draw(st.lists(places.filter(lambda i: 0 <= i < len(content)), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.pt")
        path.write_bytes(content)
        with suppress(CheckpointError):
            load_file(path)
