"""An answer on the wire: events or one JSON object of an OpenAI-compatible server, untrusted, and bounded on the way."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from luffy.data.text import load_json
from luffy.traces import THINK_CLOSE, THINK_OPEN

LONGEST_PAUSE_S = 300.0  # of those that a server asks for
DECLINED, TOO_LARGE, UNKNOWN_END = "declined", "too_large", "unknown"
BAD_REQUESTS = (400, 422)
SHOWN_CHARS = 200
_END = re.compile(r"\w{1,32}", re.ASCII)  # any word for why an answer ends


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a teacher.

    Attributes:
        text: thought and answer as one text; where the thought came apart from it, between think tags.
        finish_reason: "stop", "length", or what else the server says; ``DECLINED`` and ``TOO_LARGE`` have no text.
        length: tokens of the answer; None where the server does not say.
        prompt_tokens: tokens of the prompt; None likewise.
        refusal: whether the server marks the answer as a refusal.
        tokens: text of each token, where log-probabilities were asked and given.
        logprobs: natural logarithm of the probability of each of them.
    """

    text: str = ""
    finish_reason: str = UNKNOWN_END
    length: int | None = None
    prompt_tokens: int | None = None
    refusal: bool = False
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()


class Unanswered(Exception):
    """A request that may be answered when it is sent again; ``received`` tokens had come."""

    def __init__(self, reason: str, received: int = 0) -> None:
        super().__init__(reason)
        self.received = received


class Busy(Unanswered):
    """The server takes fewer requests at once (429, 503); ``pause_s`` is how long it asks to wait."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class TooLargeError(Exception):
    """More came than the tokens that were asked for can be."""


class DeclinedError(Exception):
    """The server declines the request in the middle of its answer."""


@dataclass(kw_only=True)
class Pieces:
    """An answer as it comes: an event a line, or one JSON object where the server does not stream."""

    most_bytes: int
    size: int = 0
    received: int = 0  # pieces with text, which are tokens with most servers
    whole: bool = False
    thought: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    refusal: bool = False
    finish_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def count(self, size: int) -> None:
        """Note bytes that came.

        Raises:
            TooLargeError: where there are too many.
        """
        self.size += size
        if self.size > self.most_bytes:
            raise TooLargeError

    def take(self, line: bytes) -> None:
        """Take in one line of the body.

        Raises:
            Unanswered: where it is no JSON, or an error of the server.
            DeclinedError: where it says that the request is a bad one.
        """
        name, colon, value = line.strip().partition(b":")
        data = value.strip() if name == b"data" and colon else line.strip() if line.lstrip().startswith(b"{") else b""
        if data == b"[DONE]":
            self.whole = True
        elif data:
            try:
                event = load_json(data)
            except (ValueError, RecursionError) as error:
                raise Unanswered("no JSON in the answer", self.received) from error
            self._event(event if isinstance(event, dict) else {}, streamed=colon != b"" and name == b"data")

    def _event(self, event: dict[str, Any], *, streamed: bool) -> None:
        if error := event.get("error"):
            code = error.get("code") if isinstance(error, dict) else None
            raise DeclinedError(json.dumps(event)) if code in BAD_REQUESTS else Unanswered(f"an error: {error}", self.received)
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        said = choice.get("delta" if streamed else "message")
        said = said if isinstance(said, dict) else {}
        for name, texts in (("reasoning_content", self.thought), ("reasoning", self.thought), ("content", self.text)):
            if not (name == "reasoning" and said.get("reasoning_content")):
                self._add(said.get(name), texts)
        self.refusal |= bool(said.get("refusal"))
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"] if _END.fullmatch(choice["finish_reason"]) else UNKNOWN_END
            self.whole |= not streamed
        self._probabilities(choice.get("logprobs"))

    def _add(self, content: Any, texts: list[str]) -> None:
        """Take in a text, or the parts of one; a part of thinking is a text or has parts in its turn."""
        if isinstance(content, str) and content:
            texts.append(content)
            self.received += 1
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                self._add(part["text"], texts)
            elif kind == "thinking" and texts is not self.thought:
                self._add(part.get("thinking"), self.thought)

    def _probabilities(self, given: Any) -> None:
        content = given.get("content") if isinstance(given, dict) else None
        for each in content if isinstance(content, list) else ():
            token, number = (each.get("token"), each.get("logprob")) if isinstance(each, dict) else (None, None)
            if isinstance(token, str) and isinstance(number, (int, float)):
                self.tokens.append(token)
                self.logprobs.append(float(number))

    def answer(self) -> Answer:
        """The whole answer.

        Raises:
            Unanswered: where it was cut off, or nothing of it was of the protocol.
        """
        if not self.finish_reason and not self.whole:
            raise Unanswered("the answer was cut off", self.received)
        thought, text = _characters("".join(self.thought)), _characters("".join(self.text))
        if thought and THINK_CLOSE not in text:
            text = f"{THINK_OPEN}\n{thought.strip()}\n{THINK_CLOSE}\n\n{text.lstrip()}"
        known = bool(self.tokens) and not self.thought and all(math.isfinite(each) and each <= 0 for each in self.logprobs)
        return Answer(
            text=text,
            finish_reason=self.finish_reason or UNKNOWN_END,
            length=_count(self.usage.get("completion_tokens")),
            prompt_tokens=_count(self.usage.get("prompt_tokens")),
            refusal=self.refusal or self.finish_reason == "content_filter",
            tokens=tuple(self.tokens) if known else (),
            logprobs=tuple(self.logprobs) if known else (),
        )


async def lines(response: httpx.Response, pieces: Pieces) -> AsyncIterator[bytes]:
    """Lines of a body as they come; one JSON object over several lines is one of them."""
    streamed = "json" not in response.headers.get("content-type", "")
    unread = b""
    async for data in response.aiter_bytes():
        pieces.count(len(data))
        unread += data
        if streamed:
            *lines, unread = unread.split(b"\n")
            for line in lines:
                yield line
    if unread.strip():
        yield unread if streamed else b" ".join(unread.split(b"\n"))


async def bounded(response: httpx.Response, most: int) -> bytes:
    """A body, or its beginning where it has more bytes than ``most``."""
    body = b""
    async for data in response.aiter_bytes():
        body += data
        if len(body) > most:
            break
    return body[:most]


def error_message(body: bytes) -> str:
    """What an error's body says, whatever its form is."""
    try:
        said = load_json(body)
        for name in ("error", "message", "detail"):
            if isinstance(said, dict) and said.get(name):
                said = said[name]
        return said if isinstance(said, str) else json.dumps(said)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace") or "no word why"


def pause(header: str) -> float:
    """Seconds of a Retry-After header, as a number or a date; 0 where it says nothing."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE_S) if math.isfinite(seconds) else 0.0


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 40 else None


def _characters(text: str) -> str:
    """The text with a mark in place of half a character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
