"""How fast a server is asked, and how much: requests at once, pauses between tries, tokens and money in all."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from luffy.digests import uniform

LONGEST_BACKOFF_S = 60.0
_TOKENS_OF_A_PRICE = 1e6


@dataclass
class Pace:
    """As many requests at once as a server takes: twice as many after each round until it is busy, then one more a round.

    One request goes first, alone, so that what is wrong with all of them is seen before they are sent.

    Attributes:
        most: requests at once that the user allows.
        backoff_s: seconds before a request's second try; doubled with each further one.
    """

    most: int
    backoff_s: float = 1.0
    limit: float = 1.0
    active: int = 0
    _full: bool = False  # whether the server has been busy
    _closed_until: float = 0.0
    _change: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    async def __aenter__(self) -> Pace:
        while True:
            async with self._change:
                await self._change.wait_for(lambda: self.active < int(self.limit))
                pause = self._closed_until - time.monotonic()
                if pause <= 0:
                    self.active += 1
                    return self
            await asyncio.sleep(pause)

    async def __aexit__(self, *raised: object) -> None:
        async with self._change:
            self.active -= 1
            self._change.notify_all()

    def answered(self) -> None:
        """Note an answer."""
        self.limit = min(self.most, self.limit + (1 / self.limit if self._full else 1))

    def busy(self, pause_s: float) -> None:
        """Note that the server takes no more, and asks for a pause of so many seconds (0: for none)."""
        if time.monotonic() >= self._closed_until:  # else it says so of requests that were sent before
            self._full, self.limit = True, max(1.0, self.limit / 2)
        self._closed_until = max(self._closed_until, time.monotonic() + (pause_s or self.backoff_s))

    def backoff(self, tries: int, *key: str | int) -> float:
        """Seconds before the next try of a request that has had ``tries``; spread by half, so that requests do not come together again."""
        return min(LONGEST_BACKOFF_S, self.backoff_s * 2 ** (tries - 1)) * (0.5 + uniform("backoff", tries, *key))


@dataclass(frozen=True)
class Price:
    """Of a million tokens of prompts, and of answers, in any currency."""

    prompt: float = 0.0
    answer: float = 0.0

    def of(self, prompt_tokens: int, answer_tokens: int) -> float:
        """What so many tokens cost."""
        return (self.prompt * prompt_tokens + self.answer * answer_tokens) / _TOKENS_OF_A_PRICE


@dataclass
class Budget:
    """Bounds of tokens and cost that are never passed: a request is only sent if all that are on their way could end at their longest.

    Attributes:
        most_tokens: of prompts and answers; None for no bound.
        most_cost: in the prices' currency; None for no bound.
        exhausted: whether something was left unasked for it.
    """

    most_tokens: int | None = None
    most_cost: float | None = None
    tokens: int = 0
    cost: float = 0.0
    exhausted: bool = False
    _reserved_tokens: int = 0
    _reserved_cost: float = 0.0
    _on_their_way: int = 0
    _change: asyncio.Condition = field(default_factory=asyncio.Condition, repr=False)

    def fits(self, tokens: int, cost: float) -> bool:
        """Whether so much more is within both bounds."""
        return (self.most_tokens is None or self.tokens + self._reserved_tokens + tokens <= self.most_tokens) and (
            self.most_cost is None or self.cost + self._reserved_cost + cost <= self.most_cost
        )

    def spend(self, tokens: int, cost: float) -> None:
        """Note what was used."""
        self.tokens += tokens
        self.cost += cost

    async def reserve(self, tokens: int, cost: float) -> bool:
        """Hold the most that a request can take, once there is room; False where there will be none."""
        async with self._change:
            await self._change.wait_for(lambda: self.fits(tokens, cost) or not self._on_their_way)
            if not self.fits(tokens, cost):
                self.exhausted = True
                return False
            self._on_their_way += 1
            self._reserved_tokens += tokens
            self._reserved_cost += cost
            return True

    async def settle(self, tokens: int, cost: float) -> None:
        """Give back what :meth:`reserve` held."""
        async with self._change:
            self._on_their_way -= 1
            self._reserved_tokens -= tokens
            self._reserved_cost -= cost
            self._change.notify_all()
