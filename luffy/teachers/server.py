"""A teacher behind HTTP: any server of the OpenAI protocol (``/chat/completions``), whose every word is untrusted.

An answer is streamed, so that a connection that hangs or is cut is noticed, and its size is bounded on the way. What a request ends
with is an :class:`Answer` or one of the exceptions below; what concerns all requests (a wrong key, another protocol) is an InputError.
The key is in the request's header alone: messages of a server, which may repeat it, are shown without it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from luffy.data.text import load_json
from luffy.errors import InputError
from luffy.evaluation.engine import Sampling
from luffy.teachers.wire import (
    BAD_REQUESTS,
    DECLINED,
    SHOWN_CHARS,
    TOO_LARGE,
    Answer,
    Busy,
    DeclinedError,
    Pieces,
    TooLargeError,
    Unanswered,
    bounded,
    error_message,
    lines,
    pause,
)

CONNECT_S = 10.0
BYTES_OF_A_TOKEN = 4096  # of a streamed piece with its log-probability, generously
SPARE_BYTES = 1 << 20
LONGEST_LIST = 1 << 24  # bytes of a server's list of models
HIDDEN = "***"  # in place of the key
SECRET_CHARS = 12  # of a key that answers are searched for; a shorter one is a word such as EMPTY, which they may hold
TRIES = 3  # requests that a server may decline before it has answered any
OPTIONAL = ("logprobs", "seed", "stream_options", "top_p", "temperature")  # what a server may not know, and can be left out
_OK, _BAD_REQUEST, _TOO_MANY, _SERVER_ERROR = 200, 400, 429, 500
_NO_ACCESS, _NOT_THERE = (401, 403), (404, 405)
_STARTING_S = 1.0
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(kw_only=True)
class Server:
    """A server, and one of its models.

    Attributes:
        url: base URL, such as ``https://host/v1``, without key.
        model: name of the model; "" takes the only one that there is.
        key: sent as a bearer token; "" sends none.
        key_variable: the environment variable that it is from, for errors.
        timeout_s: seconds that one answer may take.
        left_out: fields of :data:`OPTIONAL` that the server did not accept.
        answered: whether it has answered any request.
        answered_before: whether it has in an earlier run, so that what it declines now is no fault of all requests.
        declined: requests that it has declined.
        last_words: what it said when it last declined or failed.
    """

    url: str
    model: str = ""
    key: str = field(default="", repr=False)
    key_variable: str = ""
    timeout_s: float = 1800.0
    left_out: set[str] = field(default_factory=set)
    answered: bool = False
    answered_before: bool = False
    declined: int = 0
    last_words: str = ""
    _client: httpx.AsyncClient | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_url = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port beyond 65535, half an IPv6 address
            is_url = False
        if not is_url:
            raise InputError(f"--teacher {self.shown(self.url)}: no URL of a server; give one such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            host = f"{parts.scheme}://{parts.hostname}"
            raise InputError(f"--teacher {host}...: a URL with a name, key or query in it; give the key in {self.key_variable} instead")
        if not (self.key.isascii() and self.key.isprintable()):
            raise InputError(f"the key in {self.key_variable} has signs that no key has (a line end?); set it anew")
        self.url = self.url.rstrip("/")

    @property
    def sends_key_openly(self) -> bool:
        """Whether the key would cross a network without encryption."""
        parts = urlsplit(self.url)
        return bool(self.key) and parts.scheme == "http" and parts.hostname not in _LOCAL

    @property
    def is_known(self) -> bool:
        """Whether it has ever answered."""
        return self.answered or self.answered_before

    async def __aenter__(self) -> Server:
        headers = {"Accept-Encoding": "identity"}  # what is unpacked has no bound that the wire knows
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        timeout = httpx.Timeout(self.timeout_s, connect=CONNECT_S, pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        local = urlsplit(self.url).hostname in _LOCAL  # which no proxy reaches
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, follow_redirects=False, trust_env=not local)
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._client is not None
        await self._client.aclose()

    async def connect(self, *, wait_s: float = 0.0) -> None:
        """See that the server is there, takes the key, speaks the protocol and has a model.

        Args:
            wait_s: seconds that it may still need to start.

        Raises:
            InputError: where it is not so.
        """
        until = time.monotonic() + wait_s
        while True:
            try:
                status, body = await self._get_models()
                break
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                if time.monotonic() >= until:
                    raise InputError(f"teacher {self.url} is not there ({self._reason(error)}); start it, or mend the URL") from error
                await asyncio.sleep(_STARTING_S)
        self._refuse_access(status, body)
        try:
            found = [each["id"] for each in load_json(body)["data"]] if status == _OK else []
        except (ValueError, KeyError, TypeError, RecursionError):
            found = []
        names = [name for name in found if isinstance(name, str) and name.isprintable() and 0 < len(name) <= SHOWN_CHARS]
        names = [name for name in names if self.hidden(name) == name]
        if not names and not (self.model and status in _NOT_THERE):
            raise InputError(
                f"teacher {self.url} does not speak the OpenAI protocol ({status} for /models); give the base URL, which mostly ends with /v1"
            )
        if not self.model and len(names) > 1:
            raise InputError(f"teacher {self.url} has several models ({', '.join(names[:8])}); name one: {self.url}#{names[0]}")
        self.model = self.model or names[0]

    async def _get_models(self) -> tuple[int, bytes]:
        assert self._client is not None
        async with self._client.stream("GET", f"{self.url}/models", timeout=CONNECT_S) as response:
            return response.status_code, await bounded(response, LONGEST_LIST)

    async def ask(self, messages: Sequence[dict[str, str]], sampling: Sampling, *, seed: int) -> Answer:
        """Ask for one answer.

        Args:
            messages: the chat.
            sampling: how tokens are drawn; with ``probabilities`` their log-probabilities are asked for.
            seed: of the draws, of 31 bits; not every server heeds it.

        Returns:
            The answer; without text where the server declines this request, or the answer is larger than its tokens could be.

        Raises:
            Unanswered: for what may pass: too many requests, an error of the server, a cut or hanging connection, no JSON.
            InputError: for what will not pass.
        """
        assert self._client is not None
        while True:
            fields = self._fields(messages, sampling, seed)
            pieces = Pieces(most_bytes=SPARE_BYTES + BYTES_OF_A_TOKEN * sampling.max_tokens)
            try:
                async with (
                    asyncio.timeout(self.timeout_s),
                    self._client.stream("POST", f"{self.url}/chat/completions", json=fields) as response,
                ):
                    if response.status_code == _OK:
                        async for line in lines(response, pieces):
                            pieces.take(line)
                        answer = pieces.answer()
                        self.answered = True
                        return replace(answer, text=self.hidden(answer.text), finish_reason=self.hidden(answer.finish_reason))
                    status, body = response.status_code, await bounded(response, SPARE_BYTES)
                    pause_s = pause(response.headers.get("retry-after", ""))
            except Unanswered as error:
                raise Unanswered(self.shown(str(error)), error.received) from None
            except TooLargeError:
                self.last_words = f"more than {sampling.max_tokens} tokens can be"
                self._decline()
                return Answer(finish_reason=TOO_LARGE, length=pieces.received)
            except (httpx.HTTPError, OSError) as error:
                raise Unanswered(self._reason(error), pieces.received) from error
            except DeclinedError as error:
                status, body, pause_s = _BAD_REQUEST, str(error).encode(), 0.0
            if not self._without_what_it_refuses(fields, status, body):
                return self._declined(status, body, pause_s)

    def _fields(self, messages: Sequence[dict[str, str]], sampling: Sampling, seed: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        fields["max_completion_tokens" if "max_tokens" in self.left_out else "max_tokens"] = sampling.max_tokens
        if sampling.probabilities:
            fields["logprobs"] = True
        return {name: value for name, value in fields.items() if name not in self.left_out or name == "max_tokens"}

    def _without_what_it_refuses(self, fields: dict[str, Any], status: int, body: bytes) -> bool:
        """Whether the server refuses an optional field by its name, which is then left out from here on."""
        if status not in BAD_REQUESTS or self.answered:
            return False
        text = body.decode("utf-8", "replace")
        named = next((name for name in ("max_tokens", *OPTIONAL) if name in fields and name in text), None)
        if named is not None:
            self.left_out.add(named)
        return named is not None

    def _declined(self, status: int, body: bytes, pause_s: float) -> Answer:
        self._refuse_access(status, body)
        said = self.last_words = f"{status}: {self.shown(error_message(body))}"
        if status in (_TOO_MANY, 503, 529):
            raise Busy(said, pause_s)
        if status >= _SERVER_ERROR or status == 408:
            raise Unanswered(said)
        if status in _NOT_THERE or status < _BAD_REQUEST:
            raise self.refuses_all()
        self._decline()
        return Answer(finish_reason=DECLINED)

    def _decline(self) -> None:
        self.declined += 1
        if not self.is_known and self.declined >= TRIES:
            raise self.refuses_all()

    def refuses_all(self) -> InputError:
        """The error where it has answered nothing."""
        return InputError(f"teacher {self.url} ({self.shown(self.model)}) refuses to answer: {self.last_words}")

    def _refuse_access(self, status: int, body: bytes) -> None:
        if status in _NO_ACCESS:
            had = f"the key in {self.key_variable}" if self.key else f"a request without a key ({self.key_variable} is not set)"
            raise InputError(f"teacher {self.url} refuses {had}: {status}: {self.shown(error_message(body))}")

    def _reason(self, error: Exception) -> str:
        return self.shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    def hidden(self, text: str) -> str:
        """What the server gave as an answer or a name, without the key."""
        return text.replace(self.key, HIDDEN) if len(self.key) >= SECRET_CHARS else text

    def shown(self, text: str) -> str:
        """A text that the server had a hand in, on one short line and without the key, as it is or with escaped signs."""
        for form in (self.key, json.dumps(self.key)[1:-1], repr(self.key)[1:-1]) if self.key else ():
            text = text.replace(form, HIDDEN)
        return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:SHOWN_CHARS]
