"""Tags of sounds: the folders that a file lies in, a table, or what the encoder's head hears."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32

from matpac.downstream.tasks.columns import SEPARATOR, read_columns
from matpac.embedder import Embedder
from matpac.search.database import SearchError, column
from matpac.search.files import FileState
from matpac.search.writer import DatabaseWriter
from matpac.tags import NO_HEAD, class_names, most_probable

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
    """What files had before; none for new ones."""

    def __init__(self, known: Mapping[str, FileState]):
        self.known = known

    def of(self, path: str, vectors: Float32[np.ndarray, "row width"]) -> list[Tags]:
        """See `Tagging`."""
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
        tags = {path: self.of_path(path) for path in unchanged}
        other = {path: names for path, names in tags.items() if names != unchanged[path].tags}
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
    """A CSV, TSV or Parquet table with the columns `path`, and `label` or `labels` (joined by ;).

    Raises:
        TaskError: the table can't be read.
        SearchError: it has none of the columns, or both.
    """

    def __init__(self, table: Path):
        columns = read_columns(table)
        given = [name for name in ("label", "labels") if name in columns]
        if len(given) != 1:
            raise SearchError(
                f"{table}: one of the columns label and labels is needed; it has {', '.join(columns)}"
            )
        cells = [[cell] if given == ["label"] else cell.split(SEPARATOR) for cell in columns[given[0]]]
        paths = [os.path.abspath(table.parent / path) for path in columns["path"]]  # noqa: PTH100 (links stay)
        self.tags = {
            path: tuple(name.strip() for name in names if name.strip())
            for path, names in zip(paths, cells, strict=True)
        }

    def of_path(self, path: str) -> Tags:
        """Empty for a file without a row."""
        return self.tags.get(path, ())


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
        """Tags for files that have none, by the vectors that are there."""
        import pyarrow as pa

        bare = [path for path, state in unchanged.items() if not state.tags]
        for batch in writer.database.vectors(bare):
            kind = pa.list_(pa.string())
            tags = pa.array([list(names) for names in self.of("", column(batch, "vector"))], kind)
            writer.retag_rows(pa.table({"path": batch["path"], "start": batch["start"], "tags": tags}))
        return len(bare)


def open_tagging(
    spec: str | None, sources: Sequence[str], known: Mapping[str, FileState], embedder: Embedder | None
) -> Tagging:
    """How files are tagged: by `folder`, `head`, or a table (one of such a name is meant by "./name").

    Raises:
        SearchError, TaskError: as the classes.
    """
    if spec is None:
        return KeptTags(known)
    if spec == FOLDER:
        return FolderTags(sources)
    if spec == HEAD:
        assert embedder is not None
        return HeadTags(embedder)
    return TableTags(Path(spec))
