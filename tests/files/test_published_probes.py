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
from matpac.files.load import load_file
from matpac.files.probes import PROBES, load_probe, probe_file
from matpac.files.save import save
from matpac.files.tensor_files import CheckpointError
from matpac.model.heads import SceneProbe
from matpac.tasks.corpora import FAMILIES
from matpac.tasks.music import GENRES

GENERAL = "matpac++_general_audio"
SCENE = 640
"""Numbers in a scene of the golden encoder, which stands in for matpac++ here."""


def state(classes: int, scene: int = SCENE, prefix: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    matrix = torch.empty(classes, scene).normal_(0, 0.1, generator=generator)
    return {f"{prefix}probe.weight": matrix, f"{prefix}probe.bias": torch.linspace(-1, 1, classes)}


def torch_bytes(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def write_zip(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / probes.FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / probes.FILE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, golden) -> Path:
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


@pytest.mark.parametrize("task", PROBES)
def test_a_probe_scores_scenes(cache, task):
    known = PROBES[task]
    content = state(known.classes)
    write_zip(cache, {f"{GENERAL}/{task}/probe.pt": torch_bytes(content)})
    encoder = matpac.load("matpac++", head=task)
    scene = encoder.scene(sound(), 16_000).double()
    logits = scene @ content["probe.weight"].double().T + content["probe.bias"].double()
    expected = logits.softmax(1) if known.exclusive else logits.sigmoid()
    torch.testing.assert_close(encoder.probabilities(sound(), 16_000).double(), expected, atol=1e-5, rtol=0)
    assert encoder.card.labels == known.labels
    [tags] = encoder.tags(sound(), 16_000, top=1)
    best = int(expected.argmax())
    assert tags[0].label == (known.labels[best] if known.labels else f"class {best}")


def test_sizes_kinds_and_names_are_those_of_the_tasks():
    """docs/evaluation.md's table; names only where numbers and alphabet agree."""
    assert {task: (known.classes, known.exclusive) for task, known in PROBES.items()} == {
        "esc50": (50, True), "us8k": (10, True), "gtzan": (10, True), "nsynth": (11, True),
        "openmic": (20, False), "mtt": (50, False), "fsd50k": (200, False),
    }  # fmt: skip
    assert PROBES["gtzan"].labels == tuple(GENRES)
    assert PROBES["nsynth"].labels == tuple(FAMILIES)
    for known in PROBES.values():
        assert len(known.labels) in (0, known.classes)
        assert list(known.labels) == sorted(known.labels)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        (f"{GENERAL}/ESC-50/best.pth", "esc50"),
        (f"Weights_probes_matpac/{GENERAL}/UrbanSound8K/w.safetensors", "us8k"),
        (f"a/b/{GENERAL}/MagnaTagATune/0.PT", "mtt"),
    ],
)
def test_files_and_folders_under_other_names(cache, name, task):
    content = state(PROBES[task].classes)
    packed = safetensors_bytes(content) if name.endswith("safetensors") else torch_bytes(content)
    others = {
        f"__MACOSX/{GENERAL}/{task_folder(name)}/x.pt": b"Mac",
        f"{name.rpartition('/')[0]}/._hidden.pt": b"Mac",
        f"{name.rpartition('/')[0]}/results.json": b"{}",
        f"matpac++_music/{task_folder(name)}/x.pt": b"another encoder's",
        f"{GENERAL}/gtzan/x.pt": b"another task's",
    }
    write_zip(cache, {**others, name: packed})
    assert load_probe(probe_file("matpac++", task)).linear.weight.equal(content["probe.weight"])


def task_folder(name: str) -> str:
    """The folder that a file of the zip lies in."""
    return name.split("/")[-2]


def test_downloaded_once_and_each_encoder_has_its_own(cache, monkeypatch):
    place = write_zip(
        cache,
        {
            f"{GENERAL}/gtzan/p.pt": torch_bytes(state(10)),
            "matpac++_music/gtzan/p.pt": torch_bytes({name: -tensor for name, tensor in state(10).items()}),
        },
    )
    content = place.read_bytes()
    place.unlink()
    with local_server() as server:
        server.files["/probes.zip"] = content
        monkeypatch.setattr(probes, "URL", f"{server.url}/probes.zip")
        one, other = (matpac.load(name, head="gtzan") for name in probes.FOLDERS)
        assert matpac.load("matpac++", head="gtzan").logits(sound(), 16_000).equal(one.logits(sound(), 16_000))
        torch.testing.assert_close(one.logits(sound(), 16_000), -other.logits(sound(), 16_000))
        assert len(server.log) == 1


def test_a_newer_zip_gives_its_own_probe(cache):
    for content in (state(10), {name: -tensor for name, tensor in state(10).items()}):
        write_zip(cache, {f"{GENERAL}/gtzan/p.pt": torch_bytes(content)})
        for _ in range(2):
            assert load_probe(probe_file("matpac++", "gtzan")).linear.weight.equal(content["probe.weight"])
    assert sorted(path.name for path in (cache / "probes").iterdir()) == ["matpac++-gtzan.pt"]


def test_names_in_the_zip_lead_nowhere(cache, tmp_path):
    members = {f"../../{GENERAL}/gtzan/evil.pt": state(10), f"/{GENERAL}/nsynth/evil.pt": state(11)}
    write_zip(cache, {name: torch_bytes(content) for name, content in members.items()})
    before = set(tmp_path.rglob("*"))
    for task in ("gtzan", "nsynth"):
        assert probe_file("matpac++", task) == cache / f"probes/matpac++-{task}.pt"
    made = {path.relative_to(cache).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert made == {"probes", "probes/matpac++-gtzan.pt", "probes/matpac++-nsynth.pt"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, rf"no probe of matpac\+\+ for gtzan; {GENERAL.replace('+', chr(92) + '+')} is not there, or empty"),
        ({f"{GENERAL}/esc50/p.pt": b"", f"{GENERAL}/nsynth/p.pt": b""}, "has folders for esc50, nsynth"),
        (
            {f"{GENERAL}/gtzan/1.pt": b"", f"{GENERAL}/GTZAN/2.pth": b""},
            r"several files for gtzan: .*1\.pt.*2\.pth",
        ),
    ],
)
def test_not_one_file_for_the_task(cache, members, message):
    write_zip(cache, members)
    with pytest.raises(DownloadError, match=message):
        matpac.load("matpac++", head="gtzan")


def test_too_large_is_not_unpacked(cache, monkeypatch):
    """Also where it would be small in the zip."""
    write_zip(cache, {f"{GENERAL}/gtzan/p.pt": bytes(2**20)})
    assert (cache / probes.FILE).stat().st_size < 5000
    monkeypatch.setattr(probes, "LARGEST_PROBE", 2**20 - 1)
    with pytest.raises(DownloadError, match="has 1048576 bytes, more than 1048575; not unpacked"):
        probe_file("matpac++", "gtzan")
    assert not (cache / "probes").exists()


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("run!",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch_bytes(state(11)), "a probe of 11 classes on scenes of 640 numbers, and gtzan on matpac"),
        (torch_bytes(state(10, 3840)), "a probe of 10 classes on scenes of 3840 numbers, .* needs 10 and 640"),
        (
            torch_bytes({**state(10), "more": torch.zeros(1)}),
            "a probe holds probe.weight and probe.bias alone, not",
        ),
        (torch_bytes({"probe.weight": torch.zeros(10, SCENE)}), "alone, not probe.weight"),
        (torch_bytes({}), "alone, not nothing"),
        (torch_bytes({"probe.weight": torch.zeros(10), "probe.bias": torch.zeros(10)}), "no matrix"),
        (torch_bytes({"probe.weight": "text", "probe.bias": torch.zeros(10)}), "no tensor"),
        (torch_bytes({**state(10), "probe.bias": torch.zeros(9)}), r"linear\.bias has the shape \[9\]"),
        (torch_bytes({**state(10), "probe.bias": torch.full((10,), torch.nan)}), "not finite"),
        (torch_bytes({"probe.weight": Evil(), "probe.bias": torch.zeros(10)}), "could run any code"),
        (b"<html>", "a web page"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_such_probe(cache, capsys, content, message):
    write_zip(cache, {f"{GENERAL}/gtzan/p.pt": content})
    with pytest.raises(CheckpointError, match=rf"matpac\+\+-gtzan\.pt: .*{message}"):
        matpac.load("matpac++", head="gtzan")
    assert "run!" not in capsys.readouterr().out


def test_a_common_prefix(tmp_path):
    (tmp_path / "p.pt").write_bytes(torch_bytes(state(4, 6, "model.head.")))
    assert load_probe(tmp_path / "p.pt").linear.bias.equal(torch.linspace(-1, 1, 4))


def test_who_has_no_probe(golden):
    with pytest.raises(MatpacError, match=r"matpac: no published probes; they exist for matpac\+\+ and"):
        matpac.load("matpac", head="gtzan")
    with pytest.raises(MatpacError, match="esc: no published probe; choose from esc50, us8k"):
        matpac.load("matpac++", head="esc")
    with pytest.raises(MatpacError, match="no published probes"):
        matpac.load(golden / "tiny_official.pt", head="gtzan")


def test_a_path_is_no_published_name(tmp_path, monkeypatch, golden):
    monkeypatch.chdir(tmp_path)
    save(load_file(golden / "tiny_official.pt"), "matpac++")
    with pytest.raises(MatpacError, match=r"\./matpac\+\+: no published probes"):
        matpac.load(Path("matpac++"), head="gtzan")


def test_without_a_connection_it_says_where_to_put_the_zip(cache):
    with pytest.raises(DownloadError, match=rf"put it there: {cache / probes.FILE}$"):
        matpac.load("matpac++", head="gtzan")


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -40])
def test_a_damaged_zip(cache, cut):
    place = write_zip(cache, {f"{GENERAL}/gtzan/p.pt": torch_bytes(state(10))})
    place.write_bytes(place.read_bytes()[:cut])
    with pytest.raises(DownloadError, match=r"damaged or no zip .*; delete it"):
        probe_file("matpac++", "gtzan")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_damage_is_refused_or_does_not_matter(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zip")
    place = write_zip(folder, {f"{GENERAL}/gtzan/p.pt": torch_bytes(state(10))})
    content = bytearray(place.read_bytes())
    for place_of_damage in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place_of_damage] = data.draw(st.integers(0, 255))
    place.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("MATPAC_CACHE", str(folder))
        try:
            probe = load_probe(probe_file("matpac++", "gtzan"))
        except MatpacError:
            return
    assert probe.linear.weight.equal(state(10)["probe.weight"])


def test_a_probe_is_saved_with_its_encoder(cache, tmp_path):
    write_zip(cache, {f"{GENERAL}/gtzan/p.pt": torch_bytes(state(10))})
    encoder = matpac.load("matpac++", head="gtzan")
    copy = matpac.load(save(encoder, tmp_path / "own.safetensors"))
    assert isinstance(copy.head, SceneProbe)
    assert copy.tags(sound(), 16_000) == encoder.tags(sound(), 16_000)
    assert (copy.card.labels, copy.card.exclusive) == (tuple(GENRES), True)


def test_a_saved_probe_of_another_width_is_refused(cache, tmp_path):
    encoder = load_file(cache / hub.PUBLISHED["matpac++"].file)
    encoder.head = SceneProbe(SCENE + 1, 3)
    file = save(encoder, tmp_path / "own.safetensors")
    with pytest.raises(CheckpointError, match="a head on scenes of 641 numbers, and its encoder's have 640"):
        load_file(file)
