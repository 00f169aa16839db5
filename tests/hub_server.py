"""A hub on the loopback address: enough of the Hugging Face Hub's protocol for ``huggingface_hub`` and ``datasets``.

It serves a folder, ``ROOT/{datasets,models}/OWNER/NAME/FILES``: information about a repository, its tree, and its files
with commit, ETag, ranges and the redirect to a store of large files. And it fails where a test asks it to.
"""

from __future__ import annotations

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

GATED, CUT, CORRUPT = "gated", "cut", "corrupt"  # faults: no access; a connection that ends early; other bytes
LARGE_FILES = (".parquet", ".safetensors", ".bin")  # kept in the store, known by their SHA-256
API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+))?(?:/(.*))?)?")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Hub:
    """A running hub.

    Attributes:
        root: folder of the repositories.
        endpoint: for ``HF_ENDPOINT``.
        store: of large files; another host, as the hub's is.
        faults: fault by repository name.
        requests: ``METHOD path`` of every request so far.
    """

    root: Path
    endpoint: str = ""
    store: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that send a command to this hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_DATASETS_CACHE": str(cache / "datasets"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """Serve ``root`` until the body ends."""
    hub = Hub(root=root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint, hub.store = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """The list of requests is log enough."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        self.hub.requests.append(f"{self.command} {path}")
        if path == "/":
            self._send(200, b"a hub")
        elif path.startswith("/store/"):
            self._file(self.hub.root / path.removeprefix("/store/"))
        elif match := API.fullmatch(path):
            self._api(*match.groups(), body=body, query=parse_qs(address.query))
        elif match := RESOLVE.fullmatch(path):
            self._resolve("datasets" if match[1] else "models", match[2], match[4])
        else:
            self._missing("Entry")

    def _api(self, kind: str, name: str, what: str | None, revision: str | None, path: str | None, *, body, query) -> None:
        folder = self._repository(kind, name)
        if folder is None:
            return
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        if what == "paths-info":
            asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode()).get("paths", [])
            self._json([_entry(folder, folder / each) for each in asked if (folder / each).is_file()])
        elif what == "tree":
            below = folder / (path or "")
            if not below.is_dir():
                return self._missing("Entry")
            deep = query.get("recursive", ["false"])[0].lower() == "true"
            entries = files if deep else sorted(below.iterdir())
            self._json([_entry(folder, each) for each in entries if below in each.parents])
        elif what == "refs":
            self._json({"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": _commit(folder)}],
                        "tags": [], "converts": []})  # fmt: skip
        else:
            gated = "manual" if self.hub.faults.get(name) == GATED else False
            siblings = [{"rfilename": file.relative_to(folder).as_posix()} for file in files]
            self._json({"id": name, "sha": _commit(folder), "private": False, "disabled": False, "gated": gated,
                        "downloads": 0, "likes": 0, "tags": [], "siblings": siblings})  # fmt: skip

    def _resolve(self, kind: str, name: str, path: str) -> None:
        folder = self._repository(kind, name)
        if folder is None:
            return
        if self.hub.faults.get(name) == GATED:
            text = f"Access to {kind[:-1]} {name} is restricted. You must be authenticated to access it."
            return self._send(401, text.encode(), {"X-Error-Code": "GatedRepo", "X-Error-Message": text})
        file = folder / path
        if not file.is_file():
            return self._missing("Entry", {"X-Repo-Commit": _commit(folder)})
        headers = {"X-Repo-Commit": _commit(folder), "Accept-Ranges": "bytes"}
        if file.suffix not in LARGE_FILES:
            return self._file(file, headers | {"ETag": f'"{_git_hash(file)}"'})
        headers |= {"X-Linked-Etag": f'"{_sha256(file)}"', "X-Linked-Size": str(file.stat().st_size)}
        self._send(302, b"", headers | {"Location": f"{self.hub.store}/store/{kind}/{name}/{path}"})

    def _repository(self, kind: str, name: str) -> Path | None:
        folder = self.hub.root / kind / name
        if folder.is_dir():
            return folder
        self._missing("Repo")
        return None

    def _file(self, file: Path, headers: dict[str, str] | None = None) -> None:
        content, name = file.read_bytes(), "/".join(file.relative_to(self.hub.root).parts[1:3])
        large = file.suffix in LARGE_FILES
        if large and self.hub.faults.get(name) == CORRUPT:
            content = content[:100] + bytes([255 - content[100]]) + content[101:]
        headers = {"ETag": f'"{_sha256(file)}"', "Accept-Ranges": "bytes", **(headers or {})}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status = 206 if asked else 200
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content = content[first : last + 1]
        cut = large and self.hub.faults.get(name) == CUT
        self._send(status, content, headers, sent=(0 if asked else len(content) // 2) if cut else None)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, what: str, headers: dict[str, str] | None = None) -> None:
        named = {"X-Error-Code": f"{what}NotFound", "X-Error-Message": f"{what} not found"}
        self._send(404, b'{"error": "not found"}', {**named, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        if sent is not None:
            self.close_connection = True


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
    size = path.stat().st_size
    entry = {"type": "file", "path": name, "oid": _git_hash(path), "size": size}
    large = {"lfs": {"oid": _sha256(path), "size": size, "pointerSize": 130}} if path.suffix in LARGE_FILES else {}
    return entry | large


def _commit(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return hashlib.sha1(b"".join(file.name.encode() + _sha256(file).encode() for file in files)).hexdigest()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git_hash(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
