"""The page: its tabs, and what happens when something is dropped, searched or clicked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from matpac.app.collection import Place, draw_map, play
from matpac.app.listening import LONGEST, Heard, hear, read_at_most
from matpac.app.pictures import alike_picture, compared, heard_picture
from matpac.errors import MatpacError
from matpac.model.embedder import Embedder
from matpac.model.heads import TOP as TAGS
from matpac.report.maps import MOST_VECTORS, SoundMap
from matpac.report.style import printable
from matpac.search.command import clock
from matpac.search.query import TOP, Match, Searcher

FORGOTTEN = 3600
"""Seconds after which uploads are deleted, and between two checks; default; an hour's use of a sound."""

MOST_MATCHES = 100
"""Upper end of the slider; default; more rows are not read."""

LISTEN = "A sound as the encoder sees it. Drop a file (WAV, FLAC, MP3, Ogg; of any rate) or record one."
ALIKE = "Which moments are alike: the diagonal is the sound itself, blocks and stripes are what repeats."
COMPARE = "Two sounds: how similar they are as a whole, and which moment of one is like which of the other."
SEARCH = "The sounds of the database that are most like a sound. Click a row to hear it."
MAP = (
    "Every dot is a sound; sounds that are similar to the encoder lie together. Click one to hear it. Drawing "
    f"takes up to half a minute; of more than {MOST_VECTORS:,} sounds a random sample is shown."
)
CONDITION = "SQL on path, start, end, duration (s), size (bytes) and tags: duration < 5 AND array_has(tags, 'dog')"


@dataclass(frozen=True, eq=False)
class App:
    """What the page works with.

    Args:
        embedder: the encoder of the tabs Listen and Compare.
        searcher: the database of the tabs Search and Map; without it there are no such tabs.
        longest: longest sound that it takes, in seconds.
    """

    embedder: Embedder
    searcher: Searcher | None = None
    longest: float = LONGEST

    def listen(self, path: str | None) -> tuple[dict[str, float] | None, str, str]:
        """Tags, picture over time, and picture of similar moments; nothing once the sound is removed."""
        if path is None:
            return None, "", ""
        heard = self._hear(path)
        tags = {tag.label: tag.probability for tag in heard.tags} or None
        return tags, heard_picture(heard), alike_picture(heard, heard)

    def compare(self, one: str | None, other: str | None) -> tuple[str, str]:
        """The similarity in words, and the picture."""
        first, second = self._hear(one), self._hear(other)
        return compared(first, second), alike_picture(first, second)

    def search(self, path: str | None, top: float, where: str) -> tuple[list[list[str]], list[Match]]:
        """Rows of the table, and their matches."""
        assert self.searcher is not None
        with shown_errors():
            rate = self.searcher.embedder.sample_rate
            waveform = read_at_most(_required(path), rate, self.longest)
            matches = self.searcher.similar(waveform, rate, top=int(top), where=where.strip() or None)
        return [[f"{match.similarity:.4f}", *_shown(match)] for match in matches], matches

    def draw(self) -> tuple[Image.Image, tuple[SoundMap, list[Place]]]:
        """The picture of the map, and the places of the sounds in it."""
        assert self.searcher is not None
        with shown_errors():
            drawn, places = draw_map(self.searcher)
        return Image.open(BytesIO(drawn.png)), (drawn, places)

    def _hear(self, path: str | None) -> Heard:
        with shown_errors():
            return hear(self.embedder, _required(path), self.longest)


def build(app: App) -> gr.Blocks:
    """The page; `gr.Blocks.launch` serves it."""
    with gr.Blocks(title="matpac", analytics_enabled=False, delete_cache=(FORGOTTEN, FORGOTTEN)) as page:
        gr.Markdown(f"# matpac\n{_about(app)}")
        with gr.Tab("Listen"):
            _listen_tab(app)
        with gr.Tab("Compare"):
            _compare_tab(app)
        if app.searcher is not None:
            with gr.Tab("Search"):
                _search_tab(app)
            with gr.Tab("Map"):
                _map_tab(app)
    return page


def _about(app: App) -> str:
    text = f"Encoder: **{printable(app.embedder.card.name, 60)}**, vectors of {app.embedder.width:,} numbers"
    if app.searcher is not None:
        settings = app.searcher.database.settings
        name = printable(app.searcher.database.path.name, 60)
        text += f"; database: **{name}**, {app.searcher.database.count():,} {settings.rows}"
    return text


def _listen_tab(app: App) -> None:
    gr.Markdown(LISTEN)
    sound = _sound("sound")
    tags = gr.Label(label="tags", num_top_classes=TAGS, visible=app.embedder.head is not None)
    if app.embedder.head is None:
        gr.Markdown(
            "This encoder has no head, so it gives no tags: fine-tune one (`matpac finetune`), or start "
            "the page with `--encoder matpac++-audioset-tagger`."
        )
    over_time = gr.HTML(label="over time")
    gr.Markdown(ALIKE)
    alike = gr.HTML(label="moments that are alike")
    sound.change(app.listen, sound, [tags, over_time, alike], api_name="listen")


def _compare_tab(app: App) -> None:
    gr.Markdown(COMPARE)
    with gr.Row():
        one = _sound("one")
        other = _sound("another")
    button = gr.Button("Compare", variant="primary")
    verdict, picture = gr.Markdown(), gr.HTML(label="moments that are alike")
    button.click(app.compare, [one, other], [verdict, picture], api_name="compare")


def _search_tab(app: App) -> None:
    gr.Markdown(SEARCH)
    with gr.Row():
        query = _sound("like this")
        with gr.Column():
            top = gr.Slider(1, MOST_MATCHES, TOP, step=1, label="matches")
            where = gr.Textbox(label="only where", placeholder=CONDITION)
            button = gr.Button("Search", variant="primary")
    found = gr.State([])
    table = gr.Dataframe(
        headers=["similarity", "place", "sound", "tags", "folder"], type="array", interactive=False, wrap=True
    )
    player = gr.Audio(label="no match chosen", interactive=False, autoplay=True, buttons=["download"])
    button.click(app.search, [query, top, where], [table, found], api_name="search")

    def chosen(matches: list[Match], event: gr.SelectData) -> dict[str, Any]:
        row = event.row_value[1:]  # not its number, since the table may have been sorted
        return _player(next(match for match in matches if _shown(match) == row))

    table.select(chosen, found, player, api_visibility="private")


def _map_tab(app: App) -> None:
    gr.Markdown(MAP)
    button = gr.Button("Draw the map", variant="primary")
    drawn: gr.State = gr.State(None)
    picture = gr.Image(label="map", interactive=False, format="png", buttons=["download", "fullscreen"])
    player = gr.Audio(label="no sound chosen", interactive=False, autoplay=True, buttons=["download"])
    button.click(app.draw, None, [picture, drawn], api_visibility="private")

    def clicked(shown: tuple[SoundMap, list[Place]], event: gr.SelectData) -> dict[str, Any]:
        sounds, places = shown
        number = sounds.at(*event.index)
        return gr.skip() if number is None else _player(places[number])

    picture.select(clicked, drawn, player, api_visibility="private")


def _sound(label: str) -> gr.Audio:
    """A field to drop or record a sound; its file is passed on unchanged."""
    return gr.Audio(type="filepath", label=label, sources=["upload", "microphone"], buttons=[])


def _player(place: Place | Match) -> dict[str, Any]:
    """The player with this sound in it."""
    with shown_errors():
        sound = play(place.path, place.start, place.end)
    return gr.update(value=sound, label="  ·  ".join([part for part in _shown(place) if part]))


def _shown(place: Place | Match) -> list[str]:
    """Place in the file, its name, tags, folder."""
    path = Path(place.path)
    return [
        f"{clock(place.start)} – {clock(place.end)}",
        printable(path.name),
        printable(", ".join(place.tags)),
        printable(str(path.parent)),
    ]


def _required(path: str | None) -> str:
    """The path; raises MatpacError if no sound was dropped."""
    if path is None:
        raise MatpacError("no sound yet: drop a file, or record one")
    return path


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show errors in the input on the page; others are defects and leave a traceback on the terminal."""
    try:
        yield
    except MatpacError as error:
        # Gradio shows it as HTML, and it names files
        raise gr.Error(escape(str(error), quote=False), duration=None, print_exception=False) from error
