"""A local server with the part of the Hugging Face hub's API that its clients use for models and data sets.

Repositories live in memory, as commits with branches and tags. It serves listings, files (small ones itself, weights by a redirect to its
own "CDN", as the hub does) with Range, and takes pushes. It can be told to require a token (401), to be busy (429), and to break a transfer
off. `requests` lists what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_good"
LARGE = (".safetensors",)
ASKED = "revision|tree|paths-info|preupload|commit|refs"


@dataclass
class Repository:
    """One model or data set."""

    kind: str
    name: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branch or tag -> commit."""
    gated: bool = False
    private: bool = False

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit with exactly these files, and move `ref` to it."""
        digest = hashlib.sha1(repr(sorted((name, hashlib.sha1(content).hexdigest()) for name, content in files.items())).encode())
        self.commits[digest.hexdigest()] = dict(files)
        self.refs[ref] = digest.hexdigest()
        return digest.hexdigest()

    def resolve(self, revision: str) -> str | None:
        revision = revision.removeprefix("refs/heads/")
        return self.refs.get(revision) or (revision if revision in self.commits else None)


class HubServer:
    """The server's state. `url` goes into HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        """(method, path, Range header)."""
        self.busy = 0
        """The number of next requests for repositories that are answered with 429."""
        self.break_off: dict[str, int] = {}
        """File -> bytes after which its next transfer breaks off, once."""
        self.url = self.cdn = ""
        """The same server by two names, since clients treat a redirect to another host differently."""

    def add(self, kind: str, name: str, folder: Path | None = None, **more: Any) -> Repository:
        """A repository with the files of a folder; `kind` is `model` or `dataset`."""
        repository = self.repositories[kind, name] = Repository(kind, name, **more)
        if folder is not None:
            repository.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        return repository

    def asked(self, part: str) -> list[tuple[str, str, str | None]]:
        """Requests whose path contains `part`."""
        return [request for request in self.requests if part in request[1]]


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A server on a free port of this machine, for as long as the block lasts."""
    state = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    state.cdn = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    """An answer with an error status, as the hub gives it."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.headers = status, code, headers


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        path = unquote(parts.path)
        self.state.requests.append((self.command, path, self.headers.get("Range")))
        try:
            self._route(path)
        except _Refused as error:
            self._send(error.status, b"", {"X-Error-Code": error.code, "X-Error-Message": error.code, **error.headers})

    def _route(self, path: str) -> None:
        if self.state.busy > 0:
            self.state.busy -= 1
            raise _Refused(429, "TooManyRequests", **{"Retry-After": "1"})
        if path == "/api/whoami-v2":
            self._require_token()
            self._json({"name": "somebody", "type": "user", "orgs": []})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create()
        elif match := re.fullmatch(
            r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit|refs|auth-check)(?:/(.+))?)?", path
        ):
            repository = self._repository(match[1], match[2])
            getattr(self, f"_{(match[3] or 'revision').replace('-', '_')}")(repository, match[4])
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(self._repository("dataset" if match[1] else "model", match[2]), match[3], match[4])
        elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})/(.+)", path):
            contents = (content for one in self.state.repositories.values() for files in one.commits.values() for content in files.values())
            self._content(match[2], next(content for content in contents if hashlib.sha256(content).hexdigest() == match[1]), {})
        else:
            raise _Refused(404, "NotFound")

    def _require_token(self, code: str = "Unauthorized") -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _Refused(401, code)

    def _repository(self, kind: str, name: str) -> Repository:
        repository = self.state.repositories.get((kind, name))
        if repository is None:
            raise _Refused(404, "RepoNotFound")
        if repository.private:
            self._require_token("RepoNotFound")
        return repository

    def _commit_of(self, repository: Repository, revision: str | None) -> str:
        found = repository.resolve(revision or "main")
        if found is None:
            raise _Refused(404, "RevisionNotFound")
        return found

    def _revision(self, repository: Repository, revision: str | None) -> None:
        sha = self._commit_of(repository, revision)
        siblings = [{"rfilename": name} for name in sorted(repository.commits[sha])]
        about = {"id": repository.name, "sha": sha, "private": repository.private, "siblings": siblings, "tags": [], "downloads": 0}
        self._json({**about, "gated": "auto" if repository.gated else False, "disabled": False, "likes": 0})

    def _auth_check(self, repository: Repository, _: str | None) -> None:
        if repository.gated:
            self._require_token("GatedRepo")
        self._json({})

    def _refs(self, repository: Repository, _: str | None) -> None:
        branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in repository.refs.items()]
        self._json({"branches": branches, "tags": [], "converts": []})

    def _tree(self, repository: Repository, rest: str | None) -> None:
        revision, _, folder = (rest or "main").partition("/")
        sha = self._commit_of(repository, revision)
        inside = f"{folder}/" if folder else ""
        files = {name: content for name, content in repository.commits[sha].items() if name.startswith(inside)}
        if folder and not files:
            raise _Refused(404, "EntryNotFound")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {f"{inside}{part}" for name in files for part in _parents(name.removeprefix(inside))}
        shown = [_entry(name, content) for name, content in sorted(files.items()) if deep or "/" not in name.removeprefix(inside)]
        listed = sorted(folders) if deep else sorted(name for name in folders if "/" not in name.removeprefix(inside))
        self._json([*({"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in listed), *shown])

    def _paths_info(self, repository: Repository, revision: str | None) -> None:
        files = repository.commits[self._commit_of(repository, revision)]
        is_json = "json" in self.headers.get("Content-Type", "")
        paths = json.loads(self.body)["paths"] if is_json else parse_qs(self.body.decode()).get("paths", [])
        found = [_entry(path, files[path]) for path in paths if path in files]
        folders = [path for path in paths if path not in files and any(name.startswith(f"{path}/") for name in files)]
        self._json([*found, *({"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders)])

    def _file(self, repository: Repository, revision: str, name: str) -> None:
        if repository.gated:
            self._require_token("GatedRepo")
        sha = self._commit_of(repository, revision)
        content = repository.commits[sha].get(name)
        if content is None:
            raise _Refused(404, "EntryNotFound", **{"X-Repo-Commit": sha})
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            linked = {"X-Repo-Commit": sha, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self._send(302, b"", {**linked, "Location": f"{self.state.cdn}/cdn/{digest}/{name}"})
            return
        self._content(name, content, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """The bytes that the Range header asks for. A transfer that is to break off states its full length and sends less."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        begin = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1 if asked and asked[2] else len(content), len(content))
        if begin >= len(content) > 0:
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        part = content[begin:end]
        headers = {**headers, "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        short = self.state.break_off.pop(name, None) if self.command == "GET" else None
        self._send(206 if asked else 200, part, headers, short)

    def _create(self) -> None:
        self._require_token()
        wanted = json.loads(self.body)
        kind = wanted.get("type") or "model"
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
        prefix = "datasets/" if kind == "dataset" else ""
        if (kind, name) in self.state.repositories:
            raise _Refused(409, "RepoExists")
        self.state.add(kind, name, private=bool(wanted.get("private") or wanted.get("visibility") == "private")).commit({})
        self._json({"url": f"{self.state.url}/{prefix}{name}", "name": name, "id": name})

    def _preupload(self, repository: Repository, revision: str | None) -> None:
        self._require_token()
        files = json.loads(self.body)["files"]
        answer = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
        self._json({"files": answer, "commitOid": self._commit_of(repository, revision)})

    def _commit(self, repository: Repository, revision: str | None) -> None:
        self._require_token()
        files = dict(repository.commits[self._commit_of(repository, revision)])
        for line in self.body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                files.pop(entry["value"]["path"], None)
        sha = repository.commit(files, revision or "main")
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.state.url}/{repository.name}/commit/{sha}", "hookOutput": ""})

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str], short: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:short])
        if short is not None:
            self.close_connection = True


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if path.endswith(LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _parents(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
