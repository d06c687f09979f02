"""Tags of sounds: the folders that a file lies in, a table, or the classes of the encoder's head."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from matpac.data.tables import is_label, read_table
from matpac.model.embedder import Embedder
from matpac.model.heads import NO_HEAD, class_names, most_probable
from matpac.search.database import SearchError, column
from matpac.search.files import Listing, TaggedFile
from matpac.search.writer import DatabaseWriter

FOLDER, HEAD = "folder", "head"
"""Values of `--tags` beside a table; a table of that name is given as "./folder"."""

TOP, THRESHOLD = 3, 0.1
"""Classes that a head's tags name; default; at most so many, each of at least this probability."""

Tags = tuple[str, ...]


class PathTags:
    """Tags that depend on the path of a file.

    Args:
        of_path: the tags of a file.
    """

    def __init__(self, of_path: Callable[[str], Tags]):
        self.of_path = of_path

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """Tags of every row of a file."""
        return [self.of_path(path)] * len(vectors)

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, TaggedFile]) -> int:
        """Correct the tags of files in the database; returns how many files had others."""
        tags, mixed = {path: self.of_path(path) for path in unchanged}, writer.database.mixed()
        other = {path: names for path, names in tags.items() if names != unchanged[path].tags or path in mixed}
        writer.retag(other)
        return len(other)


class HeadTags:
    """The most probable classes of every vector: of a window, what sounds in it.

    Raises:
        SearchError: the encoder has no head.
    """

    def __init__(self, embedder: Embedder):
        if embedder.head is None:
            raise SearchError(f"--tags {HEAD}: {embedder.card.name} has no head {NO_HEAD}")
        self.embedder = embedder

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """See `PathTags`."""
        probabilities = self.embedder.scene_probabilities(torch.tensor(vectors))
        names = class_names(self.embedder.card.labels, probabilities.shape[-1])
        return [tuple(tag.label for tag in most_probable(row, names, TOP, THRESHOLD)) for row in probabilities]

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, TaggedFile]) -> int:
        """See `PathTags`; by the stored vectors, and only rows that had others are written."""
        import pyarrow as pa

        schema = pa.schema({"path": pa.string(), "start": pa.float64(), "tags": pa.list_(pa.string())})
        retagged: set[str] = set()
        for batch in writer.database.vectors(list(unchanged)):
            rows = batch.select(schema.names).to_pylist()
            made = zip(rows, self.of("", column(batch, "vector")), strict=True)
            other = [{**row, "tags": list(names)} for row, names in made if row["tags"] != list(names)]
            if other:
                writer.retag_rows(pa.Table.from_pylist(other, schema))
                retagged.update(row["path"] for row in other)
        return len(retagged)


def open_tags(
    spec: str, listing: Listing, embedder: Embedder | None, say: Callable[[str], object]
) -> PathTags | HeadTags:
    """Tags by `folder`, `head`, or a table of `path` and labels.

    Raises:
        TableError: the table can't be read.
        SearchError: it has no column of labels or matches no file, or the encoder has no head.
    """
    if spec == FOLDER:
        return _folder_tags(listing)
    if spec == HEAD:
        assert embedder is not None
        return HeadTags(embedder)
    return _table_tags(Path(spec), listing, say)


def _folder_tags(listing: Listing) -> PathTags:
    """The names of the folders between a source and the file, outermost first."""
    roots = [source for source in listing.sources if Path(source).is_dir()]

    def of_path(path: str) -> Tags:
        root = next((root for root in roots if Path(path).is_relative_to(root)), None)
        return () if root is None else Path(path).parent.relative_to(root).parts

    return PathTags(of_path)


def _table_tags(table: Path, listing: Listing, say: Callable[[str], object]) -> PathTags:
    """The labels of a table; `say` is called if some of its rows match no file."""
    found = read_table(table, also=is_label)
    if len(found.columns) == 1:
        raise SearchError(
            f"{table}: a column label, labels or label:<class> is needed; it has {', '.join(found.header)}"
        )
    tags = {path: tuple(names) for path, names in found.labels_by_path().items()}
    unmatched = [path for path in tags if path not in listing.files]
    if unmatched:
        line = (
            f"{table}: {len(unmatched):,} of {len(tags):,} rows match no sound file of "
            f"{', '.join(listing.sources)}; the first: {unmatched[0]}"
        )
        if len(unmatched) == len(tags):
            raise SearchError(f"{line}. Paths count from the table's folder; correct them")
        say(line)
    return PathTags(lambda path: tags.get(path, ()))
