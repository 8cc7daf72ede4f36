"""A small stand-in for the Hub on the loopback: serves folders as repositories, and refuses one as gated."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "someone/gated"


@contextmanager
def serve_hub(repositories: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Yield the environment variables that make `huggingface_hub` ask this server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(with_body=True)

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
