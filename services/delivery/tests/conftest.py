"""A real bare remote with a change on it, and a GitHub that behaves as documented."""

import base64
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from factory.artifact.v1 import Change
from worktree import checkout, record_change, snapshot

TOKEN = "ghp-of-the-test"


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Remote:
    """A bare repository, its snapshot, and an approved change."""

    path: Path
    bundle: bytes
    base_commit: str
    change: Change


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    work, bare = tmp_path / "work", tmp_path / "remotes" / "acme" / "shop.git"
    work.mkdir()
    bare.parent.mkdir(parents=True)
    git("init", "-q", "-b", "main", cwd=work)
    (work / "app.py").write_text("one\n")
    git("add", "-A", cwd=work)
    git("-c", "user.name=A", "-c", "user.email=a@b.invalid", "commit", "-qm", "start", cwd=work)
    git("clone", "-q", "--bare", str(work), str(bare), cwd=tmp_path)
    git("config", "http.receivepack", "true", cwd=bare)
    taken = snapshot(str(bare), "main", allowed_roots=(tmp_path,), mirror=tmp_path / "mirror")
    checkout(taken.bundle, taken.base_commit, tmp_path / "tree")
    (tmp_path / "tree" / "app.py").write_text("two\n")
    return Remote(bare, taken.bundle, taken.base_commit, record_change(tmp_path / "tree", taken.base_commit, ""))


@dataclass
class FakeGitHub:
    """Repositories over smart HTTP and the pull-request part of the REST API, with the documented shapes."""

    remotes: Path
    url: str = ""
    pulls: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    # Answers to give before any real one: (status, headers, body).
    instead: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    page_size: int = 100
    ignores_head: bool = False
    # Runs just before a POST is looked at: somebody is faster.
    before_post: Any = None

    def pull(self, branch: str, sha: str, state: str = "open") -> dict[str, Any]:
        number = len(self.pulls) + 1
        pull = {
            "number": number,
            "state": state,
            "html_url": f"{self.url}/acme/shop/pull/{number}",
            "head": {"ref": branch, "sha": sha, "label": f"acme:{branch}"},
            "base": {"ref": "main"},
        }
        self.pulls.append(pull)
        return pull

    def list(self, query: dict[str, list[str]], path: str) -> tuple[int, dict[str, str], Any]:
        head, state = query.get("head", [""])[0], query.get("state", ["open"])[0]
        found = [
            one
            for one in self.pulls
            if (self.ignores_head or not head or one["head"]["label"] == head) and state in ("all", one["state"])
        ]
        page = int(query.get("page", ["1"])[0])
        size = min(self.page_size, int(query.get("per_page", ["30"])[0]))
        headers = {}
        if len(found) > page * size:
            rest = "&".join(f"{key}={value[0]}" for key, value in query.items() if key != "page")
            headers["Link"] = (
                f'<{self.url}{path}?{rest}&page={page + 1}>; rel="next", <{self.url}{path}?page=99>; rel="last"'
            )
        return 200, headers, found[(page - 1) * size : page * size]

    def create(self, wanted: dict[str, Any], repository: str) -> tuple[int, dict[str, str], Any]:
        if self.before_post:
            self.before_post()
            self.before_post = None
        branch = wanted["head"]
        listed = git(
            "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", cwd=self.remotes / f"{repository}.git"
        )
        if not listed:
            error = {"resource": "PullRequest", "field": "head", "code": "invalid"}
            return 422, {}, {"message": "Validation Failed", "errors": [error]}
        if any(one["head"]["ref"] == branch and one["state"] == "open" for one in self.pulls):
            said = f"A pull request already exists for acme:{branch}."
            error = {"resource": "PullRequest", "code": "custom", "message": said}
            return 422, {}, {"message": "Validation Failed", "errors": [error]}
        pull = self.pull(branch, listed)
        pull.update(title=wanted["title"], body=wanted["body"])
        return 201, {}, pull


class _Served(http.server.BaseHTTPRequestHandler):
    github: FakeGitHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            sent = self._chunks()
        if parts.path.startswith("/api/v3/repos/"):
            self._answer(*self._api(parts.path, parse_qs(parts.query), sent))
        else:
            self._git(parts.path, parts.query, sent)

    def _api(self, path: str, query: dict[str, list[str]], sent: bytes) -> tuple[int, dict[str, str], Any]:
        self.github.asked.append(f"{self.command} {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {}, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
        if self.github.instead:
            return self.github.instead.pop(0)
        repository = path.removeprefix("/api/v3/repos/").removesuffix("/pulls")
        if not (self.github.remotes / f"{repository}.git").exists():
            return 404, {}, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
        return (
            self.github.list(query, path) if self.command == "GET" else self.github.create(json.loads(sent), repository)
        )

    def _chunks(self) -> bytes:
        sent = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            sent += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return sent

    def _git(self, path: str, query: str, sent: bytes) -> None:
        """git's own server side, as CGI."""
        user = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {user}":
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, {"message": "who are you"})
            return
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.github.remotes),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(sent)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "REMOTE_USER": "x-access-token",
            "REMOTE_ADDR": "127.0.0.1",
        }
        said = subprocess.run(
            ["git", "http-backend"], input=sent, capture_output=True, env=environment, check=False
        ).stdout
        head, _, content = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, status: int, headers: dict[str, str], content: Any) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def github(remote: Remote) -> Iterator[FakeGitHub]:
    fake = FakeGitHub(remote.path.parent.parent)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (_Served,), {"github": fake}))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield fake
    server.shutdown()
    server.server_close()
