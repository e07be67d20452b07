"""A hub on this machine: the HTTP protocol that `huggingface_hub` speaks, as far as models are concerned.

    with Hub() as hub:  # hub.url is what HF_ENDPOINT is set to

It knows users by their tokens, keeps everything in memory, counts what it is asked for, and misbehaves on demand.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.hub.manners import Faults, RefusalError, User
from tests.hub.storage import LARGE, Commit, Repository, is_large


@dataclass
class Hub:
    """The server; `with` starts and stops it."""

    users: dict[str, User] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    faults: Faults = field(default_factory=Faults)
    part_size: int | None = None
    """Large files above this size are sent in parts of it; None for whole."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}/storage"  # another host, as large files have there
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def add(self, repo_id: str, files: dict[str, bytes], branch: str = "main") -> Commit:
        """Put files into a repository, which is made if it is not there."""
        repository = self.repositories.setdefault(repo_id, Repository())
        operations: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "files"}}]
        for path, content in files.items():
            sha256 = hashlib.sha256(content).hexdigest()
            self.large[sha256] = content
            value = {"path": path, "oid": sha256}
            operations.append({"key": "lfsFile", "value": value})
        return repository.commit(branch, operations, self.large)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = urllib.parse.urlsplit(self.path).path
        try:
            for name, pattern, action in _ROUTES:
                found = re.fullmatch(pattern, path)
                if found and name.split()[0] in (method, "ANY"):
                    self.hub.seen[name] += 1
                    action(self, *map(urllib.parse.unquote, found.groups()))
                    return
            raise RefusalError(404, "", f"no route {method} {path}")
        except RefusalError as refusal:
            self._body()
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self._json({"error": refusal.message, **refusal.body}, refusal.status, headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _body(self) -> bytes:
        if getattr(self, "_read", None) is not self.raw_requestline:
            self._read = self.raw_requestline
            self._content = self._read_body(int(self.headers.get("Content-Length") or 0))
        return self._content

    def _read_body(self, length: int) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(length)
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def user(self) -> User | None:
        """Whose token came, if one did.

        Raises:
            RefusalError: If nobody's.
        """
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        return self.hub.users.get(token)

    def writer(self, namespace: str) -> User:
        user = self.user()
        if user is None:
            raise RefusalError(401, "", "Invalid username or password.")
        if not user.may_write or namespace not in (user.name, *user.organizations):
            message = f'You don\'t have the rights to create a model under the namespace "{namespace}"'
            raise RefusalError(403, "", message)
        return user

    def repository(self, repo_id: str) -> Repository:
        repository, user = self.hub.repositories.get(repo_id), self.user()
        owners = () if user is None else (user.name, *user.organizations)
        if repository is None or (repository.private and repo_id.split("/")[0] not in owners):
            raise RefusalError(404 if user else 401, "RepoNotFound", "Repository not found")
        if repository.gated and user is None:
            raise RefusalError(401, "GatedRepo", f"Access to model {repo_id} is restricted.")
        return repository

    def commit(self, repo_id: str, revision: str) -> Commit:
        commit = self.repository(repo_id).at(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def whoami(self) -> None:
        user = self.user()
        if user is None:
            raise RefusalError(401, "", "Invalid username or password.")
        role = "write" if user.may_write else "read"
        organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in user.organizations]
        token = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        self._json({"type": "user", "name": user.name, "orgs": organizations, "auth": token})

    def create(self) -> None:
        asked = json.loads(self._body())
        user = self.writer(asked.get("organization") or getattr(self.user(), "name", ""))
        repo_id = f"{asked.get('organization') or user.name}/{asked['name']}"
        if repo_id in self.hub.repositories:
            raise RefusalError(409, "", "You already created this model repo", url=f"{self.hub.url}/{repo_id}")
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repositories[repo_id] = Repository(bool(private))
        self._json({"url": f"{self.hub.url}/{repo_id}", "name": repo_id})

    def validate_yaml(self) -> None:
        front = json.loads(self._body())["content"].split("---\n")
        ok = len(front) > 2 and "license:" in front[1]
        self._json({"errors": [] if ok else [{"message": '"license" is required'}], "warnings": []})

    def info(self, repo_id: str, revision: str = "main") -> None:
        commit = self.commit(repo_id, revision)
        files = [{"rfilename": path} for path in sorted(commit.files)]
        repository = self.hub.repositories[repo_id]
        card = re.search(rb"^library_name: (\w+)", self._card(commit), re.MULTILINE)
        told = {"cardData": {"library_name": card[1].decode()}, "tags": [card[1].decode()]} if card else {"tags": []}
        self._json(
            {"_id": "0", "id": repo_id, "sha": commit.sha, "private": repository.private, **told}
            | {"siblings": files, "downloads": 0, "likes": 0}
        )

    def _card(self, commit: Commit) -> bytes:
        entry = commit.files.get("README.md")
        return b"" if entry is None else entry.content or self.hub.large[entry.sha256 or ""]

    def refs(self, repo_id: str) -> None:
        repository = self.repository(repo_id)
        kinds = {"branches": ("refs/heads", repository.branches), "tags": ("refs/tags", repository.tags)}
        told = {
            kind: [{"name": name, "ref": f"{ref}/{name}", "targetCommit": sha} for name, sha in found.items()]
            for kind, (ref, found) in kinds.items()
        }
        self._json({**told, "converts": []})

    def tree(self, repo_id: str, revision: str) -> None:
        self._json([entry.listed(path) for path, entry in sorted(self.commit(repo_id, revision).files.items())])

    def paths_info(self, repo_id: str, revision: str) -> None:
        files = self.commit(repo_id, revision).files
        body = self._body().decode()
        asked = json.loads(body)["paths"] if body.startswith("{") else urllib.parse.parse_qs(body)["paths"]
        self._json([files[path].listed(path) for path in asked if path in files])

    def preupload(self, repo_id: str, revision: str) -> None:
        self.writer(repo_id.split("/")[0])
        files = self.commit(repo_id, revision).files
        told = []
        for one in json.loads(self._body())["files"]:
            path, before = one["path"], files.get(one["path"])
            mode = "lfs" if is_large(path, one["size"]) else "regular"
            oid = None if before is None else before.etag
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": told})

    def batch(self, repo_id: str) -> None:
        self.writer(repo_id.split("/")[0])
        told = []
        for one in json.loads(self._body())["objects"]:
            oid, size = one["oid"], one["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.large:
                href = f"{self.hub.storage}/{oid}"
                verify = {"href": f"{self.hub.url}/{repo_id}.git/info/lfs/verify"}
                answer["actions"] = {"upload": {"href": href}, "verify": verify}
                if self.hub.part_size is not None and size > self.hub.part_size:
                    count = math.ceil(size / self.hub.part_size)
                    header = {str(n): f"{href}/part/{n}" for n in range(1, count + 1)}
                    header["chunk_size"] = str(self.hub.part_size)
                    answer["actions"]["upload"] = {"href": f"{href}/complete", "header": header}
            told.append(answer)
        self._json({"transfer": "basic", "objects": told})

    def put(self, oid: str) -> None:
        faults = self.hub.faults
        with self.hub.lock:
            left = faults.uploads_before_cut
            faults.uploads_before_cut = left - 1 if left else None
        if left == 0:
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self._cut()
        content = self._body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusalError(400, "", "the content is not what was announced")
        self.hub.large[oid] = content
        self._send(b"", 200, {"ETag": f'"{oid}"'})

    def put_part(self, oid: str, number: str) -> None:
        content = self._body()
        self.hub.parts.setdefault(oid, {})[int(number)] = content
        self._send(b"", 200, {"ETag": hashlib.md5(content).hexdigest()})

    def complete(self, oid: str) -> None:
        own, told = self.hub.parts.pop(oid), json.loads(self._body())["parts"]
        content = b"".join(own[part["partNumber"]] for part in told)
        etags = [hashlib.md5(own[part["partNumber"]]).hexdigest() for part in told]
        if etags != [part["etag"] for part in told] or hashlib.sha256(content).hexdigest() != oid:
            raise RefusalError(400, "", "parts are missing or wrong")
        self.hub.large[oid] = content
        self._json({"success": True})

    def verify(self, repo_id: str) -> None:
        asked = json.loads(self._body())
        if len(self.hub.large.get(asked["oid"], b"")) != asked["size"]:
            raise RefusalError(404, "", "this file has not been sent")
        self._json({})

    def make_commit(self, repo_id: str, revision: str) -> None:
        self.writer(repo_id.split("/")[0])
        repository = self.repository(repo_id)
        if self.hub.faults.errors > 0:
            self.hub.faults.errors -= 1
            raise RefusalError(500, "", "Internal Server Error")
        if revision not in repository.branches:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if self.headers["Content-Type"] != "application/x-ndjson":
            raise RefusalError(400, "", "expected application/x-ndjson")
        operations = [json.loads(line) for line in self._body().splitlines() if line]
        proposal = ""
        if urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("create_pr") == ["1"]:
            number = 1 + len([name for name in repository.branches if name.startswith("refs/pr/")])
            before, revision = repository.branches[revision], f"refs/pr/{number}"
            repository.branches[revision] = before
            proposal = f"{self.hub.url}/{repo_id}/discussions/{number}"
        try:
            commit = repository.commit(revision, operations, self.hub.large)
        except KeyError as missing:
            raise RefusalError(400, "", f"file {missing} has not been sent") from None
        url = f"{self.hub.url}/{repo_id}/commit/{commit.sha}"
        told = {"success": True, "commitOid": commit.sha, "commitUrl": url}
        self._json(told | ({"pullRequestUrl": proposal} if proposal else {}))

    def tag(self, repo_id: str, revision: str) -> None:
        self.writer(repo_id.split("/")[0])
        commit, name = self.commit(repo_id, revision), json.loads(self._body())["tag"]
        tags = self.hub.repositories[repo_id].tags
        if name in tags:
            raise RefusalError(409, "", f"Tag reference exists already: {name}")
        tags[name] = commit.sha
        self._json({})

    def branch(self, repo_id: str, name: str) -> None:
        self.writer(repo_id.split("/")[0])
        asked, repository = json.loads(self._body() or b"{}"), self.repository(repo_id)
        if name in repository.branches:
            raise RefusalError(409, "", f"Reference already exists: refs/heads/{name}")
        repository.branches[name] = self.commit(repo_id, asked.get("startingPoint") or "main").sha
        self._json({})

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        commit = self.commit(repo_id, revision)
        entry = commit.files.get(path)
        known = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if entry is None:
            self._send(b"", 404, {**known, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        elif entry.sha256 is None:
            self._send(entry.content or b"", 200, {**known, "ETag": f'"{entry.etag}"'})
        else:
            linked = {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
            location = {"Location": f"{self.hub.storage}/{entry.sha256}", "ETag": f'"{entry.etag}"'}
            self._send(b"", 302, {**known, **linked, **location})

    def download(self, oid: str) -> None:
        content, faults = self.hub.large[oid], self.hub.faults
        if faults.downloads_short:
            content = content[: len(content) // 2]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(asked[1]) if asked else 0
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{oid}"'}
        if asked:
            self.hub.seen["ranges"] += 1
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if faults.downloads_cut > 0 and self.command == "GET" and len(content) > LARGE:
            faults.downloads_cut -= 1
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin : (begin + len(content)) // 2])
            self._cut()
        self._send(content[begin:], 206 if asked else 200, headers)

    def _cut(self) -> None:
        self.wfile.flush()
        self.connection.close()
        raise ConnectionAbortedError


_REPO = r"([\w.-]+/[\w.-]+)"
_REVISION = r"([^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET whoami", r"/api/whoami-v2", _Handler.whoami),
    ("POST create", r"/api/repos/create", _Handler.create),
    ("POST validate-yaml", r"/api/validate-yaml", _Handler.validate_yaml),
    ("GET info", rf"/api/models/{_REPO}", _Handler.info),
    ("GET info", rf"/api/models/{_REPO}/revision/{_REVISION}", _Handler.info),
    ("GET refs", rf"/api/models/{_REPO}/refs", _Handler.refs),
    ("GET tree", rf"/api/models/{_REPO}/tree/{_REVISION}", _Handler.tree),
    ("POST paths-info", rf"/api/models/{_REPO}/paths-info/{_REVISION}", _Handler.paths_info),
    ("POST preupload", rf"/api/models/{_REPO}/preupload/{_REVISION}", _Handler.preupload),
    ("POST batch", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("POST verify", rf"/{_REPO}\.git/info/lfs/verify", _Handler.verify),
    ("PUT file", r"/storage/(\w+)", _Handler.put),
    ("PUT part", r"/storage/(\w+)/part/(\d+)", _Handler.put_part),
    ("POST complete", r"/storage/(\w+)/complete", _Handler.complete),
    ("ANY download", r"/storage/(\w+)", _Handler.download),
    ("POST commit", rf"/api/models/{_REPO}/commit/{_REVISION}", _Handler.make_commit),
    ("POST tag", rf"/api/models/{_REPO}/tag/{_REVISION}", _Handler.tag),
    ("POST branch", rf"/api/models/{_REPO}/branch/{_REVISION}", _Handler.branch),
    ("ANY resolve", rf"/{_REPO}/resolve/{_REVISION}/(.+)", _Handler.resolve),
]
