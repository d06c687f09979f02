"""A web server on this machine that can break off, lie and fail, and that stands in for the Hugging Face hub."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Reply:
    """How to answer one request for a file; the default is as a good server does.

    Args:
        status: of an error.
        cut: the connection is closed after that many bytes.
        length: a wrong Content-Length; -1 for none at all.
        location: redirect there.
    """

    status: int = 200
    cut: int | None = None
    length: int | None = None
    location: str = ""


@dataclass
class Local:
    """What the server has, was asked for, and answers next.

    Args:
        url: its address.
        files: by their path.
        replies: to the next requests for files.
        log: command and path of every request.
        repositories: of the hub: files by repository.
        commit: of every repository.
        created: what every new repository was asked to be.
        messages: of commits.
        upload_status: the answer to every upload.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commit: str = COMMIT
    created: list[dict] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    upload_status: int = 200


def _handler(local: Local) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            local.log.append((self.command, self.path))
            path = self.path.partition("?")[0]
            if path in local.files:
                self._file(local.files[path], local.replies.pop(0) if local.replies else Reply())
            else:
                self._hub(path)

        do_HEAD = do_GET

        def _file(self, content: bytes, reply: Reply) -> None:
            if reply.location:
                self.send_response(302)
                self.send_header("Location", reply.location)
                content = b""
            elif reply.status != 200:
                self.send_response(reply.status)
                content = b"sorry"
            else:
                self.send_response(200)
            if reply.length != -1:
                self.send_header("Content-Length", str(len(content) if reply.length is None else reply.length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[: reply.cut])
            self.close_connection = True

        def _hub(self, path: str) -> None:
            """The two requests that huggingface_hub makes to load: a list of files, and a file."""
            for name, files in local.repositories.items():
                if re.fullmatch(rf"/api/models/{name}/tree/(main|v1)", path):
                    tree = [{"type": "file", "oid": "0", "size": len(b), "path": f} for f, b in files.items()]
                    return self._answer(200, json.dumps(tree).encode())
                if found := re.fullmatch(rf"/{name}/resolve/(main|v1|{COMMIT})/(.+)", path):
                    if found[2] in files:
                        return self._answer(200, files[found[2]])
                    return self._answer(404, b"", "EntryNotFound")
                if re.match(rf"/(api/models/)?{name}/", path):
                    return self._answer(404, b"", "RevisionNotFound")
            return self._answer(404, b"no such file", "RepoNotFound" if "/resolve/" in path else "")

        def do_POST(self) -> None:
            """What huggingface_hub sends to create a repository and to commit files."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path, answer = self.path.partition("?")[0], {}
            if local.upload_status != 200:
                return self._answer(local.upload_status, b'{"error": "not for you"}')
            if path == "/api/validate-yaml":
                answer = {"errors": [], "warnings": []}
            elif path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization', 'me')}/{asked['name']}"
                local.created.append(asked)
                local.repositories.setdefault(name, {})
                answer = {"url": f"{local.url}/{name}", "name": name}
            elif re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                plan = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                answer = {"files": [{"path": file["path"], **plan} for file in json.loads(body)["files"]]}
            elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "header":
                        local.messages.append(line["value"]["summary"])
                    else:
                        content = base64.b64decode(line["value"]["content"])
                        local.repositories[found[1]][line["value"]["path"]] = content
                address = f"{local.url}/{found[1]}/commit/{local.commit}"
                answer = {"commitUrl": address, "commitOid": local.commit, "pullRequestUrl": None}
            return self._answer(200 if answer else 404, json.dumps(answer).encode())

        def _answer(self, status: int, body: bytes, code: str = "") -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", local.commit)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has seen enough hangs up; the test decides whether it should have."""


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


def use_as_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """Let huggingface_hub take a server for the hub, and a folder for its cache."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
