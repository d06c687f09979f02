"""Encoders on the hub: pushed to a stand-in, loaded from it, and the page that goes with them."""

import re

import pytest
import torch
import yaml
from safetensors.torch import save_file

import matpac
from helpers.local_server import Local, local_server, use_as_hub
from helpers.published_files import published_state
from helpers.tiny_encoder import tiny
from matpac.files.onnx.export import export_onnx
from matpac.interop.model_card import LABELS_SHOWN, model_card
from matpac.interop.push import UploadError, push_to_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with local_server() as local:
        use_as_hub(monkeypatch, local.url, tmp_path / "hub")
        yield local


def test_what_was_pushed_is_loaded_again(hub: Local) -> None:
    encoder = tiny(classes=3, labels=("a", "b", "c"), exclusive=True, step=7)
    done = push_to_hub(encoder, "me/mine", message="first", private=True)
    assert sorted(done.files) == ["README.md", "config.json", "model.safetensors"]
    assert done.kept == ()
    assert hub.messages == ["first"]
    asked = hub.created[0]  # of one version of huggingface_hub or of an earlier one
    assert asked.get("visibility") == "private" or asked.get("private") is True
    assert done.address.endswith(done.revision)
    copy = matpac.load("hub:me/mine")
    sound = torch.linspace(-1, 1, 9000).sin()
    assert copy.logits(sound, 16_000).equal(encoder.logits(sound, 16_000))
    assert (copy.card.labels, copy.card.exclusive, copy.card.step) == (("a", "b", "c"), True, 7)


def test_a_page_that_is_there_stays(hub: Local) -> None:
    push_to_hub(tiny(), "me/mine")
    hub.repositories["me/mine"]["README.md"] = b"written by hand"
    before = hub.repositories["me/mine"]["model.safetensors"]
    done = push_to_hub(tiny(), "me/mine")
    assert done.kept == ("README.md",)
    assert hub.repositories["me/mine"]["README.md"] == b"written by hand"
    assert hub.repositories["me/mine"]["model.safetensors"] != before


@pytest.mark.parametrize("status", [401, 403])
def test_no_right_to_write(hub: Local, status: int) -> None:
    hub.upload_status = status
    with pytest.raises(UploadError, match=r"^hub:me/mine: no permission .*$"):
        push_to_hub(tiny(), "me/mine")


def test_no_connection(tmp_path, monkeypatch) -> None:
    with local_server() as gone:
        use_as_hub(monkeypatch, gone.url, tmp_path)
    with pytest.raises(UploadError, match="hub:me/mine: nothing was written"):
        push_to_hub(tiny(), "me/mine")


@pytest.mark.parametrize("name", ["mine", "a/b/c", "", "../x/y", "me/ mine"])
def test_no_name_of_a_repository(name: str) -> None:
    with pytest.raises(UploadError, match="owner/name"):
        push_to_hub(tiny(), name)


def test_an_onnx_file_is_not_pushed_as_weights_but_loaded_from_the_hub(hub: Local, tmp_path) -> None:
    encoder = tiny()
    export_onnx(encoder, tmp_path / "x.onnx")
    with pytest.raises(matpac.MatpacError, match=r"x\.onnx: its weights lie in an ONNX file"):
        push_to_hub(matpac.load(tmp_path / "x.onnx"), "me/mine")
    assert not hub.created
    hub.repositories["me/onnx"] = {"x.onnx": (tmp_path / "x.onnx").read_bytes(), "README.md": b""}
    copy = matpac.load("hub:me/onnx")
    assert copy.card.name == "hub:me/onnx"
    sound = torch.linspace(-1, 1, 9000).sin()
    torch.testing.assert_close(copy.scene(sound, 16_000), encoder.scene(sound, 16_000), atol=1e-4, rtol=1e-4)


def split(card: str) -> tuple[dict, str]:
    found = re.fullmatch(r"---\n(.+?)\n---\n(.+)", card, re.DOTALL)
    assert found
    return yaml.safe_load(found[1]), found[2]


def test_the_page_is_filled_from_the_encoder(tmp_path) -> None:
    encoder = tiny(step=1234)
    header, page = split(model_card(encoder, "me/mine", "cc-by-4.0", "Trained on **bats**."))
    assert header["license"] == "cc-by-4.0"
    assert (header["library_name"], header["pipeline_tag"]) == ("matpac", "feature-extraction")
    assert page.startswith("\n# mine\n")
    assert "Trained on **bats**." in page
    assert 'matpac.load("hub:me/mine")' in page
    for shown in ("width 16, 2 blocks of 2 heads", "0.3", "1,234", "(bands × width: 1 × 16)", "16 bands of 50"):
        assert shown in page, shown
    assert "Classes" not in page
    assert "license" not in split(model_card(encoder, "me/mine"))[0]


@pytest.mark.parametrize("classes", [3, LABELS_SHOWN + 5])
def test_the_page_of_a_tagger_lists_its_classes(classes: int) -> None:
    names = tuple(f"label {number:02}" for number in range(classes))
    header, page = split(model_card(tiny(classes, labels=names), "me/mine"))
    assert header["pipeline_tag"] == "audio-classification"
    assert sum(name in page for name in names) == min(classes, LABELS_SHOWN)
    assert (" and 5 more" in page) == (classes > LABELS_SHOWN)
    assert "any number of them" in page
    assert "encoder.tags(" in page
    assert "one of them" in model_card(tiny(3, labels=names[:3], exclusive=True), "me/mine")
    assert "3, without names" in model_card(tiny(3), "me/mine")


def test_the_pages_example_runs(tmp_path, monkeypatch) -> None:
    encoder = tiny(3)
    example = re.search(r"```python\n(.+?)```", model_card(encoder, "me/mine"), re.DOTALL)
    assert example
    monkeypatch.setattr(matpac, "load", lambda source: {"hub:me/mine": encoder}[source], raising=False)
    monkeypatch.setattr(matpac, "read", lambda file: torch.zeros(16_000).numpy(), raising=False)
    names: dict = {}
    exec(example[1], names)  # noqa: S102 (what our own page tells people to type)
    assert names["scene"].shape == (1, encoder.width)
    assert len(names["tags"]) == 3


@pytest.mark.parametrize("file", ["weights.pt", "model.safetensors"])
def test_published_files_on_the_hub_under_any_common_prefix(hub: Local, tmp_path, file: str) -> None:
    state = published_state(64, 1, 32, classes=3)
    prefixed = {f"module.net.{name}": tensor for name, tensor in state.items()}
    (save_file if file.endswith("safetensors") else torch.save)(prefixed, tmp_path / file)
    hub.repositories["them/theirs"] = {file: (tmp_path / file).read_bytes()}
    encoder = matpac.load("hub:them/theirs")
    assert encoder.card.source == "published"
    torch.save(state, tmp_path / "plain.pt")
    sound = torch.linspace(-1, 1, 9000).sin()
    assert encoder.logits(sound, 16_000).equal(matpac.load(tmp_path / "plain.pt").logits(sound, 16_000))
