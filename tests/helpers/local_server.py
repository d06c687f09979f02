"""A web server on this machine that can break off, lie and fail, and one that speaks like the hub."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Reply:
    """How to answer one request; the default is as a good server does.

    Args:
        status: of an error.
        cut: the connection is closed after that many bytes.
        length: a wrong Content-Length; -1 for none at all.
        location: send there.
    """

    status: int = 200
    cut: int | None = None
    length: int | None = None
    location: str = ""


@dataclass
class Local:
    """Files by their path, with what was asked for and what to answer next."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"one"'
    replies: list[Reply] = field(default_factory=list)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT


def _handler(local: Local) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            local.log.append((self.command, self.path, self.headers.get("Range")))
            path = self.path.partition("?")[0]
            if path in local.files:
                self._file(local.files[path], local.replies.pop(0) if local.replies else Reply())
            else:
                self._hub(path)

        do_HEAD = do_GET

        def _file(self, content: bytes, reply: Reply) -> None:
            start = 0
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if reply.location:
                self.send_response(302)
                self.send_header("Location", reply.location)
                content = b""
            elif reply.status != 200:
                self.send_response(reply.status)
                content = b"sorry"
            elif wanted and self.headers.get("If-Range") == local.etag:
                start = int(wanted[1])
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            if local.etag:
                self.send_header("ETag", local.etag)
            body = content[start:]
            if reply.length != -1:
                self.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: reply.cut])
            self.close_connection = True

        def _hub(self, path: str) -> None:
            """The two requests that huggingface_hub makes: a list of files, and a file."""
            for name, files in local.repositories.items():
                if found := re.fullmatch(rf"/api/models/{name}/tree/(main|v1)", path):
                    tree = [{"type": "file", "oid": "0", "size": len(b), "path": f} for f, b in files.items()]
                    return self._answer(200, json.dumps(tree).encode())
                if found := re.fullmatch(rf"/{name}/resolve/(main|v1|{COMMIT})/(.+)", path):
                    if found[2] in files:
                        return self._answer(200, files[found[2]])
                    return self._answer(404, b"", "EntryNotFound")
                if re.match(rf"/(api/models/)?{name}/", path):
                    return self._answer(404, b"", "RevisionNotFound")
            return self._answer(404, b"no such file", "RepoNotFound" if "/resolve/" in path else "")

        def _answer(self, status: int, body: bytes, code: str = "") -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", local.commit)
            self.send_header("Content-Length", str(len(body)))
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has seen enough hangs up; the test says whether it should have."""


@contextmanager
def local_server() -> Iterator[Local]:
    """Runs until the block is left."""
    local = Local()
    with _Server(("127.0.0.1", 0), _handler(local)) as server:
        local.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield local
        finally:
            server.shutdown()
            thread.join()
