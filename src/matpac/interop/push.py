"""`matpac.push_to_hub`: an encoder to a repository of the Hugging Face hub, where `hub:owner/name` loads it."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from matpac.files.checkpoint import save
from matpac.files.hub.uploads import Uploaded, UploadError, upload
from matpac.interop.model_card import model_card
from matpac.model.embedder import Embedder

CARD_FILE = "README.md"
"""The hub's name for a repository's page."""


def push_to_hub(
    encoder: Embedder,
    repository: str,
    private: bool = False,
    licence: str | None = None,
    about: str = "",
    message: str = "An encoder by matpac",
    token: str | None = None,
    endpoint: str | None = None,
) -> Uploaded:
    """Put an encoder on the hub: weights, configuration, and a page about it.

    A page (README.md) that is there already stays as it is: somebody may have written it.

    Args:
        encoder: as `matpac.load` gives it.
        repository: owner/name; made where it is not there.
        private: a repository that is made is seen by its owners alone.
        licence: of the weights, by the hub's name for it ("cc-by-4.0"); None says nothing of it. Published weights
            have their authors' licence, not yours.
        about: a paragraph for the page: what it was trained on and for, in Markdown.
        message: of the commit.
        token: instead of the one of `hf auth login` or HF_TOKEN.
        endpoint: of another hub server than huggingface.co or HF_ENDPOINT.

    Raises:
        UploadError: not of the form owner/name, no right to write there, or no connection.
        CheckpointError: an encoder that can't be saved (ONNX).
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UploadError(f"{repository!r}: a repository is named owner/name")
    with TemporaryDirectory(prefix="matpac-") as folder:
        save(encoder, folder)
        page = model_card(encoder, repository, licence, about)
        (Path(folder) / CARD_FILE).write_text(page, encoding="utf-8")
        return upload(Path(folder), repository, message, private, [CARD_FILE], token, endpoint)
