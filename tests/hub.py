"""A small stand-in for the Hub on the loopback: serves folders as repositories, and refuses one as gated."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_" + "tokenOfTheTests"
GATED = "someone/gated"


@contextmanager
def serve_hub(repositories: dict[str, Path], uploads: Path | None = None, num_broken: int = 0) -> Iterator[dict[str, str]]:
    """Yield the environment variables that make `huggingface_hub` ask this server.

    With `uploads`, a folder, repositories can be made and filled there; the first `num_broken` commits break off.
    """
    state = {"num_broken": num_broken}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, b"{}", {"X-Error-Message": "Invalid credentials"})
                return
            parts = self.path.strip("/").split("/")
            name = "/".join(parts[2:4])
            if parts[1] == "validate-yaml":
                answer: dict = {"errors": [], "warnings": []}
            elif parts[1] == "repos":
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
                if name.startswith("other/"):
                    self.reply(403, b"{}", {"X-Error-Message": "You don't have the rights"})
                    return
                if name in repositories:
                    self.reply(409, json.dumps({"url": f"{self.address()}/{name}"}).encode(), {})
                    return
                assert uploads is not None
                repositories[name] = uploads / name
                repositories[name].mkdir(parents=True)
                (uploads / "created.json").write_text(json.dumps(wanted))
                answer = {"url": f"{self.address()}/{name}"}
            elif parts[4] == "preupload":
                files = json.loads(body)["files"]
                answer = {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            else:
                if state["num_broken"] > 0:
                    state["num_broken"] -= 1
                    self.reply(400, b"{}", {"X-Error-Message": "broken off"})
                    return
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        (repositories[name] / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
                answer = {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.address()}/{name}/commit/{COMMIT}"}
            self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def address(self) -> str:
            return f"http://127.0.0.1:{self.server.server_port}"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            if GATED in path:
                self.reply(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."})
                return
            repository, _, rest = path.removeprefix("api/models/").partition("/resolve/")
            if path.startswith("api/models/"):
                name = "/".join(path.split("/")[2:4])
                if name not in repositories:
                    self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                    return
                if "/tree/" in path:
                    listing = [
                        {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in repositories[name].iterdir()
                    ]
                    is_top = path.endswith("/tree/main") or path.endswith(f"/tree/{COMMIT}")
                    self.reply(
                        200 if is_top else 404,
                        json.dumps(listing).encode() if is_top else b"{}",
                        {} if is_top else {"X-Error-Code": "EntryNotFound"},
                    )
                    return
                files = [{"rfilename": file.name} for file in sorted(repositories[name].iterdir())]
                self.reply(200, json.dumps({"id": name, "sha": COMMIT, "siblings": files, "tags": []}).encode() if with_body else b"", {})
                return
            file = repositories.get(repository, Path("/nowhere")) / rest.partition("/")[2]
            if not file.is_file():
                code = "EntryNotFound" if repository in repositories else "RepoNotFound"
                self.reply(404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT})
                return
            content = file.read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.reply(200, content if with_body else b"", {**headers, "Content-Length": str(len(content))})

        def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    finally:
        server.shutdown()
