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


def take_upload(
    parts: list[str], body: bytes, address: str, repositories: dict[str, Path], uploads: Path | None, broken: Iterator[int]
) -> tuple[int, dict]:
    """Return status and answer to what the client posts: a card to check, a repository to make, files to announce, a commit."""
    if parts[1] == "validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if parts[1] == "repos":
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
        if name.startswith("other/"):
            return 403, {"error": "You don't have the rights"}
        if name in repositories:
            return 409, {"url": f"{address}/{name}"}
        assert uploads is not None
        repositories[name] = uploads / name
        repositories[name].mkdir(parents=True)
        (uploads / "created.json").write_text(json.dumps(wanted))
        return 200, {"url": f"{address}/{name}"}
    name = "/".join(parts[2:4])
    if parts[4] == "preupload":
        files = json.loads(body)["files"]
        return 200, {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
    if next(broken, None) is not None:
        return 400, {"error": "broken off"}
    for line in map(json.loads, body.splitlines()):
        if line["key"] == "file":
            (repositories[name] / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
    return 200, {"success": True, "commitOid": COMMIT, "commitUrl": f"{address}/{name}/commit/{COMMIT}"}


@contextmanager
def serve_hub(repositories: dict[str, Path], uploads: Path | None = None, num_broken: int = 0) -> Iterator[dict[str, str]]:
    """Yield the environment variables that make `huggingface_hub` ask this server.

    With `uploads`, a folder, repositories can be made and filled there; the first `num_broken` commits break off.
    """
    broken = iter(range(num_broken))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, b"{}", {"X-Error-Message": "Invalid credentials"})
                return
            status, answer = take_upload(self.path.strip("/").split("/"), body, self.address(), repositories, uploads, broken)
            headers = {"X-Error-Message": answer["error"]} if "error" in answer else {"Content-Type": "application/json"}
            self.reply(status, json.dumps(answer).encode(), headers)

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
