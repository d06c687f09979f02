"""The local stand-in for the hub, taking uploads too: what `huggingface_hub` sends."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from unittest.mock import patch

from helpers import local_server


@dataclass
class Uploads:
    """The server's files, and what was asked of it.

    Args:
        local: repositories by name, as `local_server` serves them.
        created: what every new repository was asked to be.
        messages: of the commits.
        status: answered to every upload instead of taking it.
    """

    local: local_server.Local
    created: list[dict] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    status: int = 200


@contextmanager
def upload_server() -> Iterator[Uploads]:
    """Runs until the block is left."""
    plain, uploads = local_server._handler, None

    def handler(local: local_server.Local) -> type[BaseHTTPRequestHandler]:
        nonlocal uploads
        uploads = Uploads(local)
        return _taking(plain(local), uploads)

    with patch.object(local_server, "_handler", handler), local_server.local_server():
        assert uploads is not None
        yield uploads


def _taking(kind: type[BaseHTTPRequestHandler], uploads: Uploads) -> type[BaseHTTPRequestHandler]:
    class Taking(kind):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if uploads.status != 200:
                return self._json(uploads.status, {"error": "not for you"})
            path = self.path.partition("?")[0]
            if path == "/api/validate-yaml":
                return self._json(200, {"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization', 'me')}/{asked['name']}"
                uploads.created.append(asked)
                uploads.local.repositories.setdefault(name, {})
                return self._json(200, {"url": f"{uploads.local.url}/{name}", "name": name})
            if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
                return self._json(200, {"files": files})
            if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
                for line in body.splitlines():
                    self._commit(uploads.local.repositories[found[1]], json.loads(line))
                commit = uploads.local.commit
                address = f"{uploads.local.url}/{found[1]}/commit/{commit}"
                return self._json(200, {"commitUrl": address, "commitOid": commit, "pullRequestUrl": None})
            return self._json(404, {"error": path})

        def _commit(self, files: dict[str, bytes], line: dict) -> None:
            value = line["value"]
            if line["key"] == "header":
                uploads.messages.append(value["summary"])
            elif line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                raise AssertionError(line)

        def _json(self, status: int, answer: dict) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Taking
