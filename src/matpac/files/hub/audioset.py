"""The names of AudioSet's classes: the file in the cache, or downloaded into it."""

from pathlib import Path

from matpac.files.hub import cache_folder
from matpac.files.hub.downloads import Limits, download

URL = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/class_labels_indices.csv"
"""AudioSet's download page links it (research.google.com/audioset/download.html)."""

FILE = "class_labels_indices.csv"

CLASSES = 527
"""Of AudioSet, and so of the published tagger's head."""

LIMITS = Limits(largest=2**20, tries=1, timeout=10.0)
"""The file has 15 kB; names are no reason to keep anyone waiting, so it is tried once; ours."""


def audioset_label_file() -> Path:
    """AudioSet's `class_labels_indices.csv`, downloaded on first use.

    Raises:
        DownloadError: it is not there and can't be fetched; says where to put it by hand.
    """
    return download(URL, cache_folder() / FILE, limits=LIMITS)
