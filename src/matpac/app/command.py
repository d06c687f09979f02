"""`matpac app`: a page in the browser."""

import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

from matpac.errors import MatpacError

DEFAULT = "tiny"
"""Encoder if none is named and no database stores one; default; it comes with the package."""

HOST, PORT = "127.0.0.1", 7860
"""This machine only; Gradio's own port."""

LARGEST = "500mb"
"""Largest upload; default; ten minutes of uncompressed stereo at 96 kHz and 24 bits take 350 MB."""


def app(
    *,
    encoder: str | None = None,
    database: str | None = None,
    host: str = HOST,
    port: int = PORT,
    browser: bool = False,
    longest: float = 600.0,
    device: str = "auto",
) -> int:
    """Serve a page in the browser: tags of a sound over time, its similar moments, two sounds compared.

      matpac app
      matpac app --encoder matpac++-audioset-tagger
      matpac app --encoder runs/mine --database sounds.lance

    With a database of matpac index also: search by a sound, and a map that plays what is clicked. The page is
    served to this machine only, and nothing leaves it. --host 0.0.0.0 lets others on the network use it, and hear
    every sound of the database.
    Exit code: 0 when it was ended by Ctrl-C or SIGTERM, 2 for an error.

    Args:
        encoder: tiny (comes with matpac), a published name, a file, a run folder, or hub:owner/name (default: the
            database's, or tiny)
        database: a folder that matpac index made
        host: address to serve; 127.0.0.1 is this machine only
        port: port to serve
        browser: open the page in a browser
        longest: longest sound that the page takes, in seconds
        device: cpu, cuda, mps, or auto
    """
    if not longest > 0:
        raise MatpacError(f"--longest {longest:g}: give seconds above 0")
    if not 0 < port < 65_536:
        raise MatpacError(f"--port {port}: give a number from 1 to 65535")
    require_own(host)
    if find_spec("gradio") is None:
        raise MatpacError("the app needs Gradio: pip install 'matpac[app]'")
    from matpac.files.load import load
    from matpac.machine import choose_device
    from matpac.search.query import Searcher

    where = choose_device(device)
    searcher = Searcher(database, device=where) if database else None
    if encoder is not None:
        embedder = load(encoder, where)
    else:
        embedder = load(DEFAULT, where) if searcher is None else searcher.embedder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import: nothing leaves this machine
    from matpac.app.page import App, build

    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # asked for, since a shell's background job ignores Ctrl-C
        signal.signal(number, lambda *_: ended.set())
    page = build(App(embedder, searcher, longest))
    sounds = f"; {Path(database).name}: {searcher.database.count():,} rows" if database and searcher else ""
    serve(page, host, port, browser)
    print(f"http://{host}:{port}  ({embedder.card.name}{sounds}; Ctrl-C ends it)", flush=True)
    ended.wait()
    page.close(verbose=False)
    return 0


def serve(page: Any, host: str = HOST, port: int = PORT, browser: bool = False) -> None:
    """Serve a page of `build` from a thread. Raises MatpacError if the port is in use."""
    import gradio as gr

    try:
        page.queue(default_concurrency_limit=1).launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            max_file_size=LARGEST,
            footer_links=[],
            ssr_mode=False,
            theme=gr.themes.Base(),
        )
    except OSError as error:
        reason = str(error).split(". ")[0]  # the rest is for programmers of Gradio
        raise MatpacError(f"{host}:{port}: {reason}; is it in use? Try --port {port + 1}") from error


def require_own(host: str) -> None:
    """Raise a MatpacError if an address is not one of this machine's."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        raise MatpacError(
            f"--host {host}: not an address of this machine ({error}); {HOST} is this machine only, "
            "0.0.0.0 all of its addresses"
        ) from error
