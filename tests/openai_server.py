"""A server of the OpenAI protocol on the loopback address, whose answers depend on problem and seed alone, and which fails where asked.

It answers ``What is A plus B?`` with a thought and a box; by chance of (problem, seed) wrong, cut off, empty, or a refusal. ``fault``
names what goes wrong with a try of a request, so that the next try can go right.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from luffy.digests import uniform

Fault = Callable[[str, int], str | None]  # (problem and seed, number of the try) -> name of a fault
SLOW_S = 3.0


def right_answer(question: str) -> int:
    return sum(map(int, re.findall(r"\d+", question)))


def answer_to(question: str, seed: int) -> tuple[str, str]:
    """Text and finish reason."""
    draw, total = uniform("answer", question, seed), right_answer(question)
    if draw < 0.05:
        return "", "stop"
    if draw < 0.1:
        return "I'm sorry, but I can't help with that.", "stop"
    if draw < 0.15:
        return f"<think>\n{total} or so, let me see", "length"
    if draw < 0.2:
        return f"without a thought: \\boxed{{{total}}}", "stop"
    if draw < 0.4:
        return f"<think>\nguess {seed}\n</think>\n\\boxed{{{total + 1}}}", "stop"
    return f"<think>\n{'so ' * (1 + seed % 7)}{seed}\n</think>\n\\boxed{{{total}}}", "stop"


@dataclass
class Teacher:
    """A running server.

    Attributes:
        answer: text and finish reason of (question, seed).
        fault: what goes wrong with a try; None: nothing does.
        key: bearer token that it wants; "" wants none.
        models: that it has.
        delay_s: before an answer.
        url: its base URL.
        tries: of each problem and seed.
        answered: whole answers to each problem and seed.
        bodies: of the requests so far.
        busiest: most requests at once.
    """

    answer: Callable[[str, int], tuple[str, str]] = answer_to
    fault: Fault = lambda key, tries: None
    key: str = ""
    models: tuple[str, ...] = ("expert",)
    delay_s: float = 0.0
    logprobs: Callable[[str], list[tuple[str, float]]] | None = None
    url: str = ""
    tries: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    active: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed, and let go of what is too large."""


@contextmanager
def serving(**settings: Any) -> Iterator[Teacher]:
    """Serve until the body ends."""
    teacher = Teacher(**settings)
    with _listening(teacher, type("Handler", (_Handler,), {"teacher": teacher})):
        yield teacher


@contextmanager
def _listening(teacher: Teacher, handler: type[BaseHTTPRequestHandler]) -> Iterator[None]:
    """Answer on loopback, at ``teacher.url``, until the body ends."""
    server = _Server(("127.0.0.1", 0), handler)
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    teacher: Teacher
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """The counters are log enough."""

    def do_GET(self) -> None:
        if self._has_key():
            self._json(200, {"object": "list", "data": [{"id": name} for name in self.teacher.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._has_key():
            return
        question = body["messages"][-1]["content"]
        name = f"{question}|{body.get('seed')}"
        with self.teacher.lock:
            self.teacher.bodies.append(body)
            self.teacher.tries[name] += 1
            tries = self.teacher.tries[name]
            self.teacher.active += 1
            self.teacher.busiest = max(self.teacher.busiest, self.teacher.active)
        try:
            time.sleep(self.teacher.delay_s)
            self._answer(question, body, name, self.teacher.fault(name, tries))
        finally:
            with self.teacher.lock:
                self.teacher.active -= 1

    def _answer(self, question: str, body: dict[str, Any], name: str, fault: str | None) -> None:
        if fault == "429":
            return self._json(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.05"})
        if fault == "500":
            return self._json(500, {"error": {"message": f"broken, you sent {self.headers.get('Authorization')}"}})
        if fault and fault.startswith("400"):
            return self._json(400, {"error": {"message": fault[3:]}})
        if fault == "no_json":
            return self._send(200, "text/event-stream", b"data: {not json\n\n")
        if fault == "html":
            return self._send(200, "text/html", b"<html><script>alert(1)</script></html>")
        text, end = self.teacher.answer(question, body.get("seed", 0))
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault == "plain":  # one JSON object, as servers do that cannot stream
            return self._plain(text, end)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while fault == "huge":
            self._event({"choices": [{"delta": {"content": "x" * 60_000}}]})
        pieces = re.findall(r"\S+\s*|\s+", text) or [""]
        for number, piece in enumerate(pieces):
            if fault == "cut" and number >= len(pieces) // 2:
                return None
            self._event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        drawn = self.teacher.logprobs(text) if self.teacher.logprobs and body.get("logprobs") else []
        content = [{"token": token, "logprob": number} for token, number in drawn]
        self._event({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": content}, "finish_reason": end}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": len(pieces)}})
        self.wfile.write(b"data: [DONE]\n\n")
        self.teacher.answered[name] += 1
        return None

    def _plain(self, text: str, end: str) -> None:
        message = {"role": "assistant", "content": text.partition("</think>\n")[2], "reasoning_content": "apart"}
        self._json(200, {"choices": [{"index": 0, "message": message, "finish_reason": end}]})

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _has_key(self) -> bool:
        right = not self.teacher.key or self.headers.get("Authorization") == f"Bearer {self.teacher.key}"
        if not right:
            self._json(401, {"error": {"message": f"Incorrect API key provided: {self.headers.get('Authorization')}"}})
        return right

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def proxying(upstream: str, fault: Fault) -> Iterator[Teacher]:
    """A proxy before another server (its base URL), that fails as :func:`serving`'s server does; what goes through is that server's own."""
    teacher = Teacher(fault=fault)
    host = upstream.removeprefix("http://").partition("/")[0]

    class Proxy(_Handler):
        def do_GET(self) -> None:
            self._forward(None, None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            name = f"{asked['messages'][-1]['content']}|{asked.get('seed')}"
            with teacher.lock:
                teacher.bodies.append(asked)
                teacher.tries[name] += 1
                tries = teacher.tries[name]
            kind = teacher.fault(name, tries)
            if kind in ("429", "500"):
                return self._json(int(kind), {"error": {"message": kind}}, {"Retry-After": "0.2"} if kind == "429" else None)
            if kind == "slow":
                time.sleep(SLOW_S)
            if self._forward(body, kind):
                teacher.answered[name] += 1
            return None

        def _forward(self, body: bytes | None, kind: str | None) -> bool:
            """Whether the whole of the answer went through."""
            connection = http.client.HTTPConnection(host, timeout=120)
            connection.request("GET" if body is None else "POST", self.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.send_response(response.status)
            self.send_header("Content-Type", response.headers.get("Content-Type", ""))
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            passed = 0
            while line := response.readline():
                passed += 1
                if kind == "cut" and passed > 6:
                    return False
                self.wfile.write(line)
            return True

    with _listening(teacher, Proxy):
        yield teacher
