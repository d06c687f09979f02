"""The clips of whatever a person calls a corpus: a folder, a table, a sound file, or shards."""

from pathlib import Path

from matpac.data.files import Corpus, list_clips
from matpac.data.shards.addresses import names_shards
from matpac.data.shards.listing import list_shards

CACHES = {False: "clips.parquet", True: "shards.parquet"}


def list_corpus(data: str, folder: Path | None = None) -> Corpus:
    """The clips that `data` names; what reading their headers took is kept in `folder`, for the next call.

    Raises:
        DataError: nothing there that can be used.
    """
    shards = names_shards(data)
    cache = None if folder is None else folder / CACHES[shards]
    return list_shards(data, cache) if shards else list_clips(data, cache)
