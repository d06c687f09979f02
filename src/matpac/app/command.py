"""`matpac app`: parse, load, serve."""

import os
import signal
import socket
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any

from matpac.command_line import Parser
from matpac.errors import MatpacError
from matpac.machine import choose_device

DESCRIPTION = """A page in the browser to listen and look with an encoder: tags over time, which moments are alike,
two sounds compared; and with a database of matpac index: search by a sound, and a map that plays what is clicked.

  matpac app
  matpac app --encoder matpac++-audioset-tagger
  matpac app --encoder runs/mine --database sounds.lance

It is served to this machine alone, and nothing leaves it. --host 0.0.0.0 lets others on the network use it, and
hear every sound of the database.
Exit code: 0 when it was ended by Ctrl-C or SIGTERM, 2 for an error."""

DEFAULT = "tiny"
"""Encoder where none is named and no database remembers one: it comes with the package."""

HOST, PORT = "127.0.0.1", 7860
"""This machine alone; Gradio's own port."""

LARGEST = "500mb"
"""Of an upload: ten minutes of uncompressed stereo at 96 kHz and 24 bits are 350 MB; ours."""


def run_app(arguments: list[str]) -> int:
    """Parse, load and serve until Ctrl-C; returns the exit code."""
    parser = Parser("app", DESCRIPTION)
    parser.add_argument(
        "--encoder",
        help="tiny (comes with matpac), a published name, a file, a run folder, or hub:owner/name (default: the "
        f"database's, or {DEFAULT})",
    )
    parser.add_argument("--database", help="a folder that matpac index made")
    parser.add_argument("--host", default=HOST, help=f"address to serve (default: {HOST}, this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument("--browser", action="store_true", help="open it in a browser")
    parser.add_argument("--longest", type=float, help="seconds of a sound that it takes (default: 600)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    options = parser.parse_args(arguments)
    if options.longest is not None and not options.longest > 0:
        raise MatpacError(f"--longest {options.longest:g}: seconds above 0 are needed")
    if not 0 < options.port < 65_536:
        raise MatpacError(f"--port {options.port}: a number from 1 to 65535 is needed")
    require_own(options.host)

    require_gradio()
    from matpac.files.load import load
    from matpac.search.query import Searcher

    device = choose_device(options.device)
    searcher = Searcher(options.database, device=device) if options.database else None
    if options.encoder is not None:
        embedder = load(options.encoder, device)
    else:
        embedder = load(DEFAULT, device) if searcher is None else searcher.embedder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import: nothing leaves this machine
    from matpac.app.listening import LONGEST
    from matpac.app.page import App, build

    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # asked for, since a shell's background job ignores Ctrl-C
        signal.signal(number, lambda *_: ended.set())
    page = build(App(embedder, searcher, options.longest or LONGEST))
    sounds = f"; {Path(options.database).name}: {searcher.database.count():,} rows" if searcher else ""
    serve(page, options.host, options.port, options.browser)
    print(f"http://{options.host}:{options.port}  ({embedder.card.name}{sounds}; Ctrl-C ends it)", flush=True)
    ended.wait()
    page.close(verbose=False)
    return 0


def serve(page: Any, host: str = HOST, port: int = PORT, browser: bool = False) -> None:
    """Serve a page of `build` from a thread. Raises MatpacError where the port is taken."""
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
        reason = str(error).split(". ")[0]  # the rest is for those who program Gradio
        raise MatpacError(f"{host}:{port}: {reason}; is it in use? Try --port {port + 1}") from error


def require_own(host: str) -> None:
    """Raise a MatpacError where an address is none of this machine's."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(address)
    except (OSError, UnicodeError) as error:
        raise MatpacError(
            f"--host {host}: no address of this machine ({error}); {HOST} is this machine alone, "
            "0.0.0.0 all of its addresses"
        ) from error


def require_gradio() -> None:
    """Raise a MatpacError where it is not installed."""
    if find_spec("gradio") is None:
        raise MatpacError("the app needs Gradio: pip install 'matpac[app]'")
