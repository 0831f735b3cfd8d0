"""A server that speaks the part of the Hugging Face Hub's HTTP interface that a download uses.

Taken as truth: the client's own requests (huggingface_hub 2.4: `hf_api.py` for model_info and list_repo_tree,
`file_download.py` for the headers of `resolve`, `utils/_http.py` for what X-Error-Code means), and the hub's
documentation (https://huggingface.co/docs/hub/api). These are:

    GET  /api/models/REPO[/revision/REVISION]   the commit, as `sha`
    GET  /api/models/REPO/tree/REVISION         the files; those in Git LFS, as every large binary one, with `lfs`
    HEAD and GET /REPO/resolve/REVISION/FILE    302 to another host, with X-Repo-Commit, X-Linked-Etag, X-Linked-Size

Errors: 401 RepoNotFound without credentials, 404 RevisionNotFound and EntryNotFound, and 403 GatedRepo from `resolve`
alone: whoever has no access to a gated model may list it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """Models by name, each with its files by revision; `requests` are those that came."""

    models: dict[str, dict[str, Files]]
    gated: tuple[str, ...] = ()
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Hub:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                status, headers, body = hub.answer(path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def elsewhere(self) -> str:
        """As another host, which gets no credentials."""
        return f"http://localhost:{self._server.server_port}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        blobs = {digest(data): data for of in self.models.values() for files in of.values() for data in files.values()}
        if path.startswith("/cdn/"):
            return 200, {"ETag": f'"{path[5:]}"'}, blobs[path[5:]]
        api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        repo = f"{owner}/{name}"
        if repo not in self.models:
            return error(401, "RepoNotFound")
        what, revision, *parts = rest or ["revision", "main"]
        commits = {commit(revision): files for revision, files in self.models[repo].items()}
        sha = revision if revision in commits else commit(revision)
        if sha not in commits:
            return error(404, "RevisionNotFound")
        files = commits[sha]
        if api and what == "tree":
            return 200, {}, json.dumps([entry(name, data) for name, data in files.items()]).encode()
        if api:
            siblings = [{"rfilename": name} for name in files]
            return 200, {}, json.dumps({"id": repo, "sha": sha, "siblings": siblings, "tags": []}).encode()
        if repo in self.gated:
            return error(403, "GatedRepo")
        if "/".join(parts) not in files:
            return error(404, "EntryNotFound", {"X-Repo-Commit": sha})
        data = files["/".join(parts)]
        linked = {"X-Linked-Etag": f'"{digest(data)}"', "X-Linked-Size": str(len(data))}
        return 302, {"Location": f"{self.elsewhere}/cdn/{digest(data)}", "X-Repo-Commit": sha, **linked}, b""


def entry(name: str, data: bytes) -> dict[str, object]:
    """A file as the tree lists it."""
    oid = hashlib.sha1(data).hexdigest()
    return {
        "type": "file",
        "oid": oid,
        "size": len(data),
        "path": name,
        "lfs": {"oid": digest(data), "size": len(data), "pointerSize": 134},
    }


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def error(status: int, code: str, more: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    return status, {"X-Error-Code": code, "X-Error-Message": code, **(more or {})}, b"{}"
