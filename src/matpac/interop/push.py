"""`matpac.push_to_hub`: an encoder to a repository of the Hugging Face hub, where `hub:owner/name` loads it."""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from matpac.errors import MatpacError
from matpac.files.hub import hub_errors, hub_reason
from matpac.files.save import save
from matpac.interop.model_card import model_card
from matpac.model.embedder import Embedder

CARD_FILE = "README.md"
"""The hub's name for a repository's page."""


class UploadError(MatpacError):
    """An encoder that could not be put on the hub; the message says why, and what to do."""


@dataclass(frozen=True)
class Uploaded:
    """What was put on the hub.

    Args:
        address: of the commit, for people.
        revision: of the commit.
        files: names of those that were sent.
        kept: names of those that were there already and stayed as they were.
    """

    address: str
    revision: str
    files: tuple[str, ...]
    kept: tuple[str, ...]


def push_to_hub(
    encoder: Embedder,
    repository: str,
    private: bool = False,
    licence: str | None = None,
    about: str = "",
    message: str = "An encoder by matpac",
    token: str | None = None,
) -> Uploaded:
    """Put an encoder on the hub in one commit: weights, configuration, and a page about it.

    A page (README.md) that is there already stays as it is: somebody may have written it.

    Args:
        encoder: as `matpac.load` gives it.
        repository: owner/name; created where it does not exist.
        private: whether only its owners see a repository that is created.
        licence: of the weights, by the hub's name for it ("cc-by-4.0"); None states none. Published weights
            have their authors' licence, not yours.
        about: a paragraph for the page: what it was trained on and for, in Markdown.
        message: of the commit.
        token: instead of the one of `hf auth login` or HF_TOKEN.

    Raises:
        UploadError: not of the form owner/name, no right to write there, or no connection.
        MatpacError: the encoder's weights lie in an ONNX file.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UploadError(f"{repository!r}: a repository is named owner/name")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with TemporaryDirectory(prefix="matpac-") as folder:
        save(encoder, folder)
        (Path(folder) / CARD_FILE).write_text(model_card(encoder, repository, licence, about), encoding="utf-8")
        names = {path.name for path in Path(folder).iterdir()}
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            kept = sorted({CARD_FILE} & set(api.list_repo_files(repository)))
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=list(kept)
            )
        except hub_errors() as error:
            reason = f"nothing was written ({hub_reason(error)})"
            if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
                reason = (
                    "no permission to write there; run hf auth login with a token that may write, or use your name"
                )
            raise UploadError(f"hub:{repository}: {reason}") from error
    return Uploaded(commit.commit_url, commit.oid, tuple(sorted(names - set(kept))), tuple(kept))
