"""`matpac app` in its own process, and the requests of a browser as plain HTTP."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

PATIENCE = 240
"""Seconds until it must serve, on a busy machine."""


class PageError(Exception):
    """An error that the page reported."""


@dataclass(frozen=True)
class Asked:
    """A running page."""

    address: str
    process: "subprocess.Popen[str]"
    log: Path

    def config(self) -> dict[str, Any]:
        """The page's components."""
        return json.loads(_fetch(Request(f"{self.address}/config")))

    def upload(self, path: Path) -> dict[str, Any]:
        """Upload a file; the page's functions take the result."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        [kept] = json.loads(_fetch(Request(f"{self.address}/gradio_api/upload", body, kind)))
        return {"path": kept, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    def call(self, function: str, *given: Any) -> list[Any]:
        """Call a function of the page. Raises PageError with the page's message."""
        address = f"{self.address}/gradio_api/call/{function}"
        body = json.dumps({"data": given}).encode()
        event = json.loads(_fetch(Request(address, body, {"Content-Type": "application/json"})))["event_id"]
        reply = _fetch(Request(f"{address}/{event}"))
        found = re.search(r"event: (complete|error)\ndata: (.*)\n", reply)
        assert found is not None, reply
        answer = json.loads(found[2])
        if found[1] == "error":
            raise PageError(answer["error"] if isinstance(answer, dict) else str(answer))
        return answer


def _fetch(request: Request) -> str:
    with urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Asked]:
    """Run `matpac app` with these options; ended by Ctrl-C."""
    port = free_port()
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "matpac", "app", "--port", str(port), "--device", "cpu", *options]
    with (folder / "page.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, env=environment)
        try:
            page = Asked(f"http://127.0.0.1:{port}", process, folder / "page.log")
            _wait(page)
            yield page
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait(60)


def _wait(page: Asked) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        assert page.process.poll() is None, page.log.read_text()
        assert time.monotonic() < end, page.log.read_text()
        try:
            _fetch(Request(f"{page.address}/gradio_api/info"))
        except (URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
