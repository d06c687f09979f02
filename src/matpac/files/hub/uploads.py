"""A folder to a repository of the Hugging Face hub."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from matpac.errors import MatpacError
from matpac.files.hub import _known_errors, _reason


class UploadError(MatpacError):
    """Something that could not be put on the hub; the message says why, and the way out."""


@dataclass(frozen=True)
class Uploaded:
    """What was put on the hub.

    Args:
        address: of the commit, for people.
        revision: of the commit.
        files: that were sent, by name.
        kept: that were there already and stayed as they were.
    """

    address: str
    revision: str
    files: tuple[str, ...]
    kept: tuple[str, ...]


def upload(
    folder: Path,
    repository: str,
    message: str,
    private: bool = False,
    keep: Collection[str] = (),
    token: str | None = None,
    endpoint: str | None = None,
) -> Uploaded:
    """Put the files of a folder into a repository of models, in one commit; it is made where it is not there.

    Args:
        folder: whose files, without folders below.
        repository: owner/name.
        message: of the commit.
        private: where the repository is made, only its owners see it.
        keep: names of files that are left as they are where the repository has them.
        token: instead of the one of `hf auth login` or HF_TOKEN.
        endpoint: of another hub server than huggingface.co or HF_ENDPOINT.

    Raises:
        UploadError: no such owner, no right to write there, no connection, or no name of a repository.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=token)
    names = sorted(path.name for path in folder.iterdir())
    try:
        api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
        kept = sorted(set(keep) & set(names) & set(api.list_repo_files(repository)))
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, ignore_patterns=list(kept)
        )
    except _known_errors() as error:
        raise UploadError(f"hub:{repository}: {_refusal(error)}") from error
    sent = tuple(name for name in names if name not in kept)
    return Uploaded(commit.commit_url, commit.oid, sent, tuple(kept))


def _refusal(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "the hub does not let you write there; hf auth login with a token that may write, or use your name"
    return f"nothing was written ({_reason(error, None)})"
