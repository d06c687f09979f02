"""The published probes: one member of a zip that may be anything, as a head on scenes."""

import io
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

import matpac
from helpers.local_server import local_server
from matpac import MatpacError
from matpac.files import hub, probes
from matpac.files.hub import DownloadError
from matpac.files.probes import PROBES, load_probe, probe_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError
from matpac.model.heads import SceneProbe
from matpac.tasks.corpora import FAMILIES
from matpac.tasks.music import GENRES

GENERAL = "matpac++_general_audio"
SCENE = 640
"""Numbers in a scene of the golden encoder, which stands in for matpac++ here."""


def state(classes: int, scene: int = SCENE, prefix: str = "", sign: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    matrix = sign * torch.empty(classes, scene).normal_(0, 0.1, generator=generator)
    return {f"{prefix}probe.weight": matrix, f"{prefix}probe.bias": sign * torch.linspace(-1, 1, classes)}


def torch_bytes(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


GTZAN = torch_bytes(state(10))


def write_zip(folder: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / probes.FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / probes.FILE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, golden) -> Path:
    """A cache with weights for matpac++ and matpac++-music, and an address where nobody answers."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("MATPAC_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    for name in probes.FOLDERS:
        (folder / hub.PUBLISHED[name].file).write_bytes((golden / "tiny_official.pt").read_bytes())
    with local_server() as gone:
        monkeypatch.setattr(probes, "URL", f"{gone.url}/probes.zip")
    return folder


def sound() -> Tensor:
    return torch.linspace(-1, 1, 16_000).mul(300).sin()


@pytest.mark.parametrize("task", ["gtzan", "mtt"])
def test_a_probe_scores_scenes_and_is_saved_with_its_encoder(cache, tmp_path, task):
    known = PROBES[task]
    content = state(known.classes)
    write_zip(cache, {f"{GENERAL}/{task}/probe.pt": torch_bytes(content)})
    encoder = matpac.load("matpac++", head=task)
    scene = encoder.scene(sound(), 16_000).double()
    logits = scene @ content["probe.weight"].double().T + content["probe.bias"].double()
    expected = logits.softmax(1) if known.exclusive else logits.sigmoid()
    torch.testing.assert_close(encoder.probabilities(sound(), 16_000).double(), expected, atol=1e-5, rtol=0)
    [tags] = encoder.tags(sound(), 16_000, top=1)
    best = int(expected.argmax())
    assert tags[0].label == (known.labels[best] if known.labels else f"class {best}")
    copy = matpac.load(save(encoder, tmp_path / "own.safetensors"))
    assert isinstance(copy.head, SceneProbe)
    assert copy.tags(sound(), 16_000) == encoder.tags(sound(), 16_000)
    assert (copy.card.labels, copy.card.exclusive) == (known.labels, known.exclusive)


def test_sizes_kinds_and_names_are_those_of_the_tasks():
    """docs/evaluation.md's table; names only where numbers and alphabet agree."""
    sizes = {"esc50": 50, "us8k": 10, "gtzan": 10, "nsynth": 11, "openmic": 20, "mtt": 50, "fsd50k": 200}
    assert {task: known.classes for task, known in PROBES.items()} == sizes
    assert [task for task, known in PROBES.items() if not known.exclusive] == ["openmic", "mtt", "fsd50k"]
    assert PROBES["gtzan"].labels == tuple(GENRES)
    assert PROBES["nsynth"].labels == tuple(FAMILIES)
    for known in PROBES.values():
        assert len(known.labels) in (0, known.classes)
        assert list(known.labels) == sorted(known.labels)


@pytest.mark.parametrize(
    ("folder", "file", "task"),
    [
        (f"{GENERAL}/ESC-50", "best.pth", "esc50"),
        (f"Weights_probes_matpac/{GENERAL}/UrbanSound8K", "w.safetensors", "us8k"),
        (f"a/b/{GENERAL}/MagnaTagATune", "0.PT", "mtt"),
    ],
)
def test_files_and_folders_under_other_names(cache, folder, file, task):
    content = state(PROBES[task].classes)
    packed = safetensors_bytes(content) if file.endswith("safetensors") else torch_bytes(content)
    label = folder.rpartition("/")[2]
    distractors = {
        f"__MACOSX/{GENERAL}/{label}/x.pt": b"Mac",
        f"{folder}/._hidden.pt": b"Mac",
        f"{folder}/results.json": b"{}",
        f"matpac++_music/{label}/x.pt": b"another encoder's",
        f"{GENERAL}/gtzan/x.pt": b"another task's",
    }
    write_zip(cache, {**distractors, f"{folder}/{file}": packed})
    assert load_probe(probe_file("matpac++", task)).linear.weight.equal(content["probe.weight"])


def test_downloaded_once_and_each_encoder_has_its_own(cache, monkeypatch):
    music = torch_bytes(state(10, sign=-1))
    place = write_zip(cache, {f"{GENERAL}/gtzan/p.pt": GTZAN, "matpac++_music/gtzan/p.pt": music})
    content = place.read_bytes()
    place.unlink()
    with local_server() as server:
        server.files["/probes.zip"] = content
        monkeypatch.setattr(probes, "URL", f"{server.url}/probes.zip")
        files = [probe_file(name, "gtzan") for name in (*probes.FOLDERS, "matpac++")]
        weights = [load_probe(file).linear.weight for file in files]
        assert weights[0].equal(-weights[1])
        assert files[0] == files[2]
        assert len(server.log) == 1
    write_zip(cache, {f"{GENERAL}/gtzan/p.pt": music})  # a newer one
    assert load_probe(probe_file("matpac++", "gtzan")).linear.weight.equal(weights[1])


def test_names_in_the_zip_lead_nowhere(cache, tmp_path):
    write_zip(cache, {f"../../{GENERAL}/gtzan/evil.pt": GTZAN, f"/{GENERAL}/nsynth/evil.pt": GTZAN})
    before = set(tmp_path.rglob("*"))
    expected = {cache / "probes"} | {cache / f"probes/matpac++-{task}.pt" for task in ("gtzan", "nsynth")}
    assert {probe_file("matpac++", task) for task in ("gtzan", "nsynth")} < expected
    assert set(tmp_path.rglob("*")) - before == expected


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "is not there, or empty"),
        ({f"{GENERAL}/esc50/p.pt": b"", f"{GENERAL}/nsynth/p.pt": b""}, "has folders for esc50, nsynth"),
        ({f"{GENERAL}/gtzan/1.pt": b"", f"{GENERAL}/GTZAN/2.pth": b""}, r"several files .*1\.pt.*2\.pth"),
        ({f"{GENERAL}/gtzan/p.pt": bytes(2**20)}, "1048576 bytes"),  # small in the zip
    ],
)
def test_not_one_file_for_the_task(cache, monkeypatch, members, message):
    write_zip(cache, members)
    monkeypatch.setattr(probes, "LARGEST_PROBE", 2**20 - 1)
    with pytest.raises(DownloadError, match=rf"{probes.FILE}: .*{message}"):
        probe_file("matpac++", "gtzan")
    assert not (cache / "probes").exists()


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("run!",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (state(11), "a probe of 11 classes on scenes of 640 numbers, and gtzan on matpac"),
        (state(10, 3840), "a probe of 10 classes on scenes of 3840 numbers, .* needs 10 and 640"),
        ({**state(10), "more": torch.zeros(1)}, "probe.weight and probe.bias alone"),
        ({}, "alone, not nothing"),
        ({"probe.weight": torch.zeros(10), "probe.bias": torch.zeros(10)}, "no matrix"),
        ({"probe.weight": "text", "probe.bias": torch.zeros(10)}, "no tensor"),
        ({**state(10), "probe.bias": torch.zeros(9)}, r"linear\.bias has the shape \[9\]"),
        ({**state(10), "probe.bias": torch.full((10,), torch.nan)}, "not finite"),
        ({"probe.weight": Evil(), "probe.bias": torch.zeros(10)}, "could run any code"),
        (b"<html>", "a web page"),
    ],
)
def test_what_is_no_such_probe(cache, capsys, content, message):
    packed = content if isinstance(content, bytes) else torch_bytes(content)
    write_zip(cache, {f"{GENERAL}/gtzan/p.pt": packed})
    with pytest.raises(CheckpointError, match=rf"matpac\+\+-gtzan\.pt: .*{message}"):
        matpac.load("matpac++", head="gtzan")
    assert "run!" not in capsys.readouterr().out


def test_a_common_prefix(tmp_path):
    (tmp_path / "p.pt").write_bytes(torch_bytes(state(4, 6, "model.head.")))
    assert load_probe(tmp_path / "p.pt").linear.bias.equal(torch.linspace(-1, 1, 4))


@pytest.mark.parametrize(
    ("source", "task", "message"),
    [
        ("matpac", "gtzan", "matpac: no published probes"),
        (Path("matpac++"), "gtzan", "no published probes"),  # a path is no published name
        ("matpac++", "esc", "esc: no published probe; .* esc50, us8k"),
        ("matpac++", "gtzan", rf"put it there: .*{probes.FILE}$"),  # no connection
    ],
)
def test_who_has_no_probe(source, task, message):
    with pytest.raises(MatpacError, match=message):
        matpac.load(source, head=task)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_damage_is_refused_or_does_not_matter(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zip")
    place = write_zip(folder, {f"{GENERAL}/gtzan/p.pt": GTZAN})
    content = bytearray(place.read_bytes())
    for place_of_damage in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place_of_damage] = data.draw(st.integers(0, 255))
    place.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("MATPAC_CACHE", str(folder))
        try:
            probe = load_probe(probe_file("matpac++", "gtzan"))
        except MatpacError:
            return
    assert probe.linear.weight.equal(state(10)["probe.weight"])
