"""The page on loopback while a run goes on: it fetches what is new, and each group when it is opened.

Nothing but the page, its index and its chunks is served, and to this machine alone; a request under another host name is refused, so
that no web site can reach it through a name of its own.
"""

from __future__ import annotations

import logging
import re
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from luffy.errors import InputError
from luffy.view.page import Shown, page

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
CHUNK = re.compile(r"/chunk/(runs|results)-(\d{1,6})-(\d{1,9})\?(\d{1,9})")


class Content:
    """What is served, kept as the runs are; safe to use from several threads."""

    def __init__(self, shown: Shown) -> None:
        self._shown, self._lock, self.version = shown, threading.Lock(), 1
        self._index = shown.index()

    def page(self) -> bytes:
        """The page itself."""
        return "".join(page(self._shown, live=True)).encode()

    def index(self) -> bytes:
        """The first chunk, read again where there is something new."""
        with self._lock:
            if self._shown.changed():
                self._shown.read()
                self._index = self._shown.index()
                self.version += 1
            return self._index

    def chunk(self, kind: str, member: int, number: int, version: int) -> bytes | None:
        """A chunk as a version of the index names it; None where that is not the present one."""
        with self._lock:
            return self._shown.chunk(kind, member, number) if version == self.version else None


class Handler(BaseHTTPRequestHandler):
    """Answers GET of ``/``, ``/index`` and ``/chunk/NAME?VERSION``."""

    content: Content

    def do_GET(self) -> None:
        """Answer one request."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host", "").lower() not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self._send(HTTPStatus.FORBIDDEN, b"this page is for this machine alone\n", "text/plain")
        elif self.path == "/":
            self._send(HTTPStatus.OK, self.content.page(), "text/html; charset=utf-8")
        elif self.path == "/index":
            self._index()
        elif match := CHUNK.fullmatch(self.path):
            self._chunk(match[1], *map(int, match.groups()[1:]))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"nothing there\n", "text/plain")

    def _index(self) -> None:
        try:
            index = self.content.index()
        except (InputError, OSError) as error:  # a run that is moved, or written by something else, meanwhile
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8")
        else:
            self._send(HTTPStatus.OK, index, "application/octet-stream")

    def _chunk(self, kind: str, member: int, number: int, version: int) -> None:
        try:
            chunk = self.content.chunk(kind, member, number, version)
        except (InputError, OSError) as error:
            self._send(HTTPStatus.NOT_FOUND, f"{error}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8")
            return
        if chunk is None:
            self._send(HTTPStatus.CONFLICT, b"the run has something new\n", "text/plain")
        else:
            self._send(HTTPStatus.OK, chunk, "application/octet-stream")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Version": str(self.content.version),
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def make_server(shown: Shown, port: int) -> ThreadingHTTPServer:
    """A server on loopback that is ready to serve.

    Args:
        shown: what is served.
        port: where; 0 takes a free one.

    Raises:
        InputError: where the port is taken.
    """
    handler = type("Handler", (Handler,), {"content": Content(shown)})
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"port {port} cannot be served ({error}); give another --port") from error


def serve(shown: Shown, port: int) -> None:
    """Serve until Ctrl-C."""
    with make_server(shown, port) as server:
        logger.info("http://%s:%d/ (Ctrl-C ends it)", LOOPBACK, server.server_address[1])
        server.serve_forever()
