"""Tags of sounds: the folders that a file lies in, a table, or what the encoder's head hears."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32

from matpac.data.tables import is_label, read_table
from matpac.model.embedder import Embedder
from matpac.model.heads import NO_HEAD, class_names, most_probable
from matpac.search.database import SearchError, column
from matpac.search.files import FileState, Listing
from matpac.search.writer import DatabaseWriter

FOLDER, HEAD = "folder", "head"
"""What `--tags` may be beside a table."""

TOP, THRESHOLD = 3, 0.1
"""Classes that a head's tags name: at most so many, each of at least so much probability; ours."""

Tags = tuple[str, ...]


@runtime_checkable
class Tagging(Protocol):
    """Where tags come from."""

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """Tags of every row of a file that is written."""
        ...

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, FileState]) -> int:
        """Give files that are in the database the tags that they should have; how many had others."""
        ...


class KeptTags:
    """What files had before; none for new ones.

    Args:
        known: what files had.
        heads: for files whose tags a head made, that head, which makes them anew; None for no tags.
    """

    def __init__(self, known: Mapping[str, FileState], heads: "Mapping[str, HeadTags | None]"):
        self.known, self.heads = known, heads

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """See `Tagging`."""
        if path in self.heads:
            head = self.heads[path]
            return [()] * len(vectors) if head is None else head.of(path, vectors)
        return [self.known[path].tags if path in self.known else ()] * len(vectors)

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, FileState]) -> int:
        """Nothing to do."""
        return 0


class PathTags(ABC):
    """Tags that stand for a path: by folders or a table."""

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """See `Tagging`."""
        return [self.of_path(path)] * len(vectors)

    @abstractmethod
    def of_path(self, path: str) -> Tags:
        """Of a file."""

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, FileState]) -> int:
        """See `Tagging`."""
        tags, mixed = {path: self.of_path(path) for path in unchanged}, writer.database.mixed()
        other = {path: names for path, names in tags.items() if names != unchanged[path].tags or path in mixed}
        writer.retag(other)
        return len(other)


class FolderTags(PathTags):
    """The names of the folders between a source and the file, outermost first."""

    def __init__(self, sources: Sequence[str]):
        self.roots = [source for source in sources if Path(source).is_dir()]

    def of_path(self, path: str) -> Tags:
        """Empty for a file that lies in the source itself, or is one."""
        for root in self.roots:
            if Path(path).is_relative_to(root):
                return Path(path).parent.relative_to(root).parts
        return ()


class TableTags(PathTags):
    """A CSV, TSV or Parquet table with a column `path`, and `label`, `labels` (joined by ;) or `label:<class>`.

    Raises:
        TableError: the table can't be read.
        SearchError: it has no column of labels.
    """

    def __init__(self, table: Path):
        found = read_table(table, also=is_label)
        if len(found.columns) == 1:
            raise SearchError(
                f"{table}: a column label, labels or label:<class> is needed; it has {', '.join(found.header)}"
            )
        self.table = table
        self.tags = {path: tuple(names) for path, names in found.labels_by_path().items()}

    def of_path(self, path: str) -> Tags:
        """Empty for a file without a row."""
        return self.tags.get(path, ())

    def require_files(self, listing: Listing, say: Callable[[str], object]) -> None:
        """Tell of rows that match none of the files listed. Raises SearchError where no row matches one."""
        unmatched = [path for path in self.tags if path not in listing.files]
        if not unmatched:
            return
        rows = f"{self.table}: {len(unmatched):,} of {len(self.tags):,} rows match no sound file of"
        told = f"{rows} {', '.join(listing.sources)}; the first: {unmatched[0]}"
        if len(unmatched) == len(self.tags):
            raise SearchError(f"{told}. Paths count from the table's folder; correct them")
        say(told)


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
        """See `Tagging`."""
        probabilities = self.embedder.scene_probabilities(torch.tensor(vectors))
        names = class_names(self.embedder.card.labels, probabilities.shape[-1])
        return [tuple(tag.label for tag in most_probable(row, names, TOP, THRESHOLD)) for row in probabilities]

    def update(self, writer: DatabaseWriter, unchanged: Mapping[str, FileState]) -> int:
        """Tags by the vectors that are there; only rows that had others are written."""
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


def open_tagging(
    spec: str, listing: Listing, embedder: Embedder | None, say: Callable[[str], object] = print
) -> Tagging:
    """How files are tagged: by `folder`, `head`, or a table (one of such a name is meant by "./name").

    Raises:
        SearchError, TableError: as the classes, and for a table that matches no file.
    """
    if spec == FOLDER:
        return FolderTags(listing.sources)
    if spec == HEAD:
        assert embedder is not None
        return HeadTags(embedder)
    table = TableTags(Path(spec))
    table.require_files(listing, say)
    return table
