"""Whose head made which tags: noted in the database, so that a file that has changed is tagged by it again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.search.database import SoundDatabase
from matpac.search.encoder import reopen_embedder
from matpac.search.files import FileState
from matpac.search.tags import HEAD, HeadTags, KeptTags
from matpac.search.writer import DatabaseWriter

MAKERS = "tagged"
"""Under it the note tells whose head tagged a file or folder: path → encoder, empty for tags of another kind."""


@dataclass(frozen=True)
class Named:
    """The encoder of a call, where it needs one, and its name."""

    name: str
    embedder: Embedder | None
    device: str

    def head_of(self, maker: str, database: SoundDatabase) -> HeadTags:
        """The head of this encoder, or of the same one under another name. Raises MatpacError where it is none."""
        if self.embedder is not None and maker == self.name:
            return HeadTags(self.embedder)
        return HeadTags(reopen_embedder(database.path, database.settings, maker, self.device))


def keep_tags(
    writer: DatabaseWriter,
    known: Mapping[str, FileState],
    changed: Sequence[str],
    encoder: Named,
    say: Callable[[str], object],
) -> KeptTags:
    """Tags as they are, but those that a head made of a sound that has changed; `say` is told of a lost head."""
    noted = writer.database.note().get(MAKERS, {}) if changed else {}
    makers = {path: maker for path in changed if (maker := maker_of(path, noted))}
    heads: dict[str, HeadTags] = {}
    for maker in sorted({*makers.values()}):
        try:
            heads[maker] = encoder.head_of(maker, writer.database)
        except MatpacError as error:
            count = [*makers.values()].count(maker)
            say(
                f"{writer.path}: {count:,} changed files were tagged by the head of {maker} and have no tags now, "
                f"since it can't be had: {error} Tag anew by --tags {HEAD} and --encoder"
            )
    return KeptTags(known, {path: heads.get(maker) for path, maker in makers.items()})


def note_maker(writer: DatabaseWriter, sources: Sequence[str], maker: str) -> None:
    """Keep whose head tags these sources; empty for none, where tags stand for paths."""
    before = writer.database.note().get(MAKERS, {})
    makers = with_maker(before, sources, maker)
    if makers != before:
        writer.write_note({MAKERS: makers or None})


def maker_of(path: str, makers: Mapping[str, str]) -> str:
    """The encoder whose head made a file's tags, by the innermost place that is noted; empty for none."""
    return next((makers[place] for place in _places(path) if place in makers), "")


def with_maker(makers: Mapping[str, str], sources: Sequence[str], maker: str) -> dict[str, str]:
    """What is noted once sources are tagged anew, all that lies in them too."""
    new = set(sources)
    kept = {place: name for place, name in makers.items() if new.isdisjoint(_places(place))}
    return kept | {source: maker for source in sources if maker_of(source, kept) != maker}


def _places(path: str) -> list[str]:
    """A path and the folders that it lies in, innermost first."""
    return [path, *map(str, Path(path).parents)]
