"""A small stand-in for the Hub on the loopback: it serves folders as repositories, accepts pushes, and refuses one repository as gated."""

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from filelock import FileLock

from tests.conftest import find_free_port, session_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "tokenOfTheTests"
GATED = "someone/gated"


@dataclass
class FakeHub:
    """What the stand-in holds."""

    repositories: dict[str, Path]
    """Folders by repository name."""
    uploads: Path | None
    """Where repositories can be created; None: nowhere."""
    num_broken: int
    """How many commits are still to break off."""

    def post(self, parts: list[str], body: bytes, address: str) -> tuple[int, dict]:
        """Return status and answer to a POST: validate a card, create a repository, announce files, commit."""
        if parts[1] == "validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if parts[1] == "repos":
            return self.create_repository(json.loads(body), address)
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            return 200, {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
        if self.num_broken > 0:
            self.num_broken -= 1
            return 400, {"error": "broken off"}
        for line in map(json.loads, body.splitlines()):
            path = self.repositories[name] / line["value"].get("path", "")
            if line["key"] == "file":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(line["value"]["content"]))
            if line["key"] == "deletedFile":
                path.unlink()
        return 200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{address}/{name}/commit/{COMMIT}"}

    def create_repository(self, wanted: dict, address: str) -> tuple[int, dict]:
        name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
        if name.startswith("other/"):
            return 403, {"error": "You don't have the rights"}
        if name in self.repositories:
            return 409, {"url": f"{address}/{name}"}
        assert self.uploads is not None
        self.repositories[name] = self.uploads / name
        self.repositories[name].mkdir(parents=True)
        (self.uploads / "created.json").write_text(json.dumps(wanted))
        return 200, {"url": f"{address}/{name}"}

    def describe(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of `api/models/NAME`, and of a listing of its files."""
        name = "/".join(path.split("/")[2:4])
        if name not in self.repositories:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        files = sorted(self.repositories[name].iterdir())
        if "/tree/" not in path:
            siblings = [
                {"rfilename": file.relative_to(self.repositories[name]).as_posix()}
                for file in sorted(self.repositories[name].rglob("*"))
                if file.is_file()
            ]
            # A repository that was made here is private.
            is_private = self.uploads is not None and (self.uploads / "created.json").is_file()
            about = {"id": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": is_private}
            return 200, json.dumps(about).encode(), {}
        if not path.endswith(("/tree/main", f"/tree/{COMMIT}")):
            return 404, b"{}", {"X-Error-Code": "EntryNotFound"}
        listing = [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name} for file in files]
        return 200, json.dumps(listing).encode(), {}

    def read_file(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of `NAME/resolve/REVISION/FILE`."""
        name, _, rest = path.partition("/resolve/")
        if name not in self.repositories:
            return 404, b"", {"X-Error-Code": "RepoNotFound", "X-Repo-Commit": COMMIT}
        file = self.repositories[name] / rest.partition("/")[2]
        if not file.is_file():
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
        content = file.read_bytes()
        return 200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        self.reply(*self.find_answer())

    def do_HEAD(self) -> None:
        self.reply(*self.find_answer(), is_head=True)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, b"{}", {"X-Error-Message": "Invalid credentials"})
            return
        address = f"http://{self.headers['Host']}"
        status, answer = self.hub.post(self.path.strip("/").split("/"), body, address)
        headers = {"X-Error-Message": answer["error"]} if "error" in answer else {"Content-Type": "application/json"}
        self.reply(status, json.dumps(answer).encode(), headers)

    def find_answer(self) -> tuple[int, bytes, dict[str, str]]:
        path = self.path.partition("?")[0].strip("/")
        if GATED in path:
            return 401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
        return self.hub.describe(path) if path.startswith("api/models/") and "/resolve/" not in path else self.hub.read_file(path)

    def reply(self, status: int, body: bytes, headers: dict[str, str], is_head: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not is_head:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def unreachable_hub() -> Iterator[dict[str, str]]:
    """Yield the environment variables that make `huggingface_hub` ask an address where nobody listens, with an empty cache.

    The processes of a test session take turns: address and cache are always the same, and so is the server that starts scripts with them.
    """
    folder = session_folder()
    with FileLock(folder / "hub.lock"):
        port, home = folder / "hub.port", folder / "hub"
        if not port.exists():
            port.write_text(str(find_free_port()))
        shutil.rmtree(home, ignore_errors=True)
        address = f"http://127.0.0.1:{port.read_text()}"
        yield {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}


@contextmanager
def serve_hub(repositories: dict[str, Path], uploads: Path | None = None, num_broken: int = 0) -> Iterator[dict[str, str]]:
    """Yield the environment variables that make `huggingface_hub` ask this server, with an empty cache.

    With `uploads`, a folder, repositories can be created and filled there; the first `num_broken` commits break off.
    """
    handler = type("HubHandler", (Handler,), {"hub": FakeHub(repositories, uploads, num_broken)})
    with unreachable_hub() as hub, Server(("127.0.0.1", int(hub["HF_ENDPOINT"].rpartition(":")[2])), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()
