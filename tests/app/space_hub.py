"""A stand-in for the Hub that also holds Spaces: repositories with folders, and the routes of Spaces."""

import json

from tests.hub import COMMIT, FakeHub


class SpaceHub(FakeHub):
    """A `FakeHub` whose repositories are Spaces."""

    def post(self, parts: list[str], body: bytes, address: str) -> tuple[int, dict]:
        """Make the folders of a commit's files before it is written."""
        if parts[-2:-1] == ["commit"] and self.num_broken == 0:
            name = "/".join(parts[2:4])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    (self.repositories[name] / line["value"]["path"]).parent.mkdir(parents=True, exist_ok=True)
        return super().post(parts, body, address)

    def create_repository(self, wanted: dict, address: str) -> tuple[int, dict]:
        """Create a Space; its address says so."""
        status, answer = super().create_repository(wanted, address)
        name = answer.get("url", "").removeprefix(f"{address}/")
        return status, answer | {"url": f"{address}/spaces/{name}"} if "url" in answer else answer

    def describe(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return the description of a Space, or all of its files."""
        name = "/".join(path.split("/")[2:4])
        if name not in self.repositories:
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
        folder = self.repositories[name]
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if "/tree/" in path:
            listing = [
                {"type": "file", "path": str(file.relative_to(folder)), "size": file.stat().st_size, "oid": COMMIT} for file in files
            ]
            return 200, json.dumps(listing).encode(), {}
        siblings = [{"rfilename": str(file.relative_to(folder))} for file in files]
        return 200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []}).encode(), {}

    def read_file(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Return a file of a Space."""
        if path.startswith("api/spaces/"):
            return self.describe(path)
        return super().read_file(path.removeprefix("spaces/"))
