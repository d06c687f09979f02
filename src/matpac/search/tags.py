"""Tags of sounds: the folders that a file lies in, a table, or the classes of the encoder's head."""

from collections.abc import Callable, Sequence, Set
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from matpac.data.tables import is_label, read_table
from matpac.model.embedder import Embedder
from matpac.model.heads import NO_HEAD, class_names, most_probable
from matpac.search.database import SearchError, vectors_of
from matpac.search.writer import DatabaseWriter
from matpac.vectors.states import Listing, path_text, text_path

FOLDER, HEAD = "folder", "head"
"""Values of `--tags` beside a table; a table of that name is given as "./folder"."""

TOP, THRESHOLD = 3, 0.1
"""Classes that a head's tags name; default; at most so many, each of at least this probability."""

Tags = tuple[str, ...]

RowTags = Callable[[Sequence[str], Float32[np.ndarray, "row width"]], list[Tags]]
"""The tags of rows, by the paths of their files and their vectors."""


def open_tags(spec: str, listing: Listing, embedder: Embedder | None, say: Callable[[str], object]) -> RowTags:
    """Tags by `folder`, `head`, or a table of `path` and labels.

    Raises:
        TableError: the table can't be read.
        SearchError: it has no column of labels or matches no file, or the encoder has no head.
    """
    if spec == FOLDER:
        return path_tags(lambda path: _folders(path, listing.sources))
    if spec == HEAD:
        assert embedder is not None
        return _head_tags(embedder)
    return _table_tags(Path(spec), listing, say)


def path_tags(of_path: Callable[[str], Tags]) -> RowTags:
    """Tags that depend on the path of a file alone."""
    return lambda paths, vectors: [of_path(path) for path in paths]


def _folders(path: str, sources: Sequence[str]) -> Tags:
    """The names of the folders between a source and the file, outermost first."""
    file = Path(text_path(path))
    root = next((source for source in sources if Path(source) in file.parents), None)
    return () if root is None else tuple(map(path_text, file.parent.relative_to(root).parts))


def _head_tags(embedder: Embedder) -> RowTags:
    """The most probable classes of every vector: of a window, what sounds in it."""
    if embedder.head is None:
        raise SearchError(f"--tags {HEAD}: {embedder.card.name} has no head {NO_HEAD}")

    def of_rows(paths: Sequence[str], vectors: np.ndarray) -> list[Tags]:
        probabilities = embedder.scene_probabilities(torch.tensor(vectors))
        names = class_names(embedder.card.labels, probabilities.shape[-1])
        return [tuple(tag.label for tag in most_probable(row, names, TOP, THRESHOLD)) for row in probabilities]

    return of_rows


def _table_tags(table: Path, listing: Listing, say: Callable[[str], object]) -> RowTags:
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
    return path_tags(lambda path: tags.get(path, ()))


def update_tags(writer: DatabaseWriter, tags: RowTags, paths: Set[str], by_vectors: bool) -> int:
    """Correct the tags of files in the database, row by row.

    Args:
        writer: of the database.
        tags: what they should be.
        paths: files to correct.
        by_vectors: whether `tags` depend on vectors, which are read only then.

    Returns:
        How many files had other tags.
    """
    import pyarrow as pa

    schema = pa.schema({"path": pa.string(), "start": pa.float64(), "tags": pa.list_(pa.string())})
    corrected, retagged = [schema.empty_table()], set()
    for batch in writer.database.rows([*schema.names, *["vector"] * by_vectors]):
        batch = batch.filter(pa.array([path in paths for path in batch["path"].to_pylist()], pa.bool_()))
        vectors = vectors_of(batch) if by_vectors else np.empty((len(batch), 0), np.float32)
        rows = batch.select(schema.names).to_pylist()
        found = zip(rows, tags([row["path"] for row in rows], vectors), strict=True)
        other = [{**row, "tags": list(names)} for row, names in found if row["tags"] != list(names)]
        corrected.append(pa.Table.from_pylist(other, schema))
        retagged.update(row["path"] for row in other)
    if retagged:
        writer.retag(pa.concat_tables(corrected))
    return len(retagged)
