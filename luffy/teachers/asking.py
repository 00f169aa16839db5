"""Answers from teachers: several servers at once, each as fast as it takes requests, or a model in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from luffy.command_line import NumberFrom0, Positive, PositiveNumber, option
from luffy.digests import request_seed
from luffy.errors import InputError
from luffy.evaluation.engine import EngineSetup, Sampling
from luffy.evaluation.generation import Request, generate
from luffy.evaluation.prompts import Prompt
from luffy.evaluation.samples import Key
from luffy.progress import Bar
from luffy.teachers.answers import PROMPT_TOO_LONG, AnswerLog, counts, whole_thought
from luffy.teachers.exercises import Exercise
from luffy.teachers.pace import Budget, Pace, Price
from luffy.teachers.probabilities import NONE_GIVEN, Probabilities, TokenMatch
from luffy.teachers.server import Server
from luffy.teachers.wire import Answer, Busy, Unanswered

FAILURES = 3  # requests in a row that a server leaves unanswered after all their tries
TEMPLATE_TOKENS = 512  # what a chat template may add to a prompt

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How a server is asked, as flags."""

    concurrency: Positive = option(64, "requests at once, at most; a server that is busy gets fewer")
    retries: Positive = option(10, "tries of a request that is not answered (429, 5xx, a cut or hanging answer)")
    backoff: NumberFrom0 = option(1.0, "seconds before the second try; doubled with each further one, up to a minute")
    timeout: PositiveNumber = option(1800.0, "seconds that one answer may take")
    wait: NumberFrom0 = option(0.0, "seconds to wait for a server that is still starting")


@dataclass(kw_only=True)
class Asked:
    """A teacher, and what it is asked.

    Attributes:
        name: of the teacher.
        log: its answers.
        problems: all of them, by index.
        keys: the samples to ask for.
        sampling: how tokens are drawn.
        seed: of the collection.
        match: gives tokens their probabilities.
        unusable: why there are no probabilities; None where there can be.
        price: of its tokens.
        lost_tokens: of answers that were cut off and asked again, in this run.
        unanswered: requests that were given up, by reason, in this run.
    """

    name: str
    log: AnswerLog
    problems: Sequence[Exercise]
    keys: list[Key]
    sampling: Sampling
    seed: int
    match: TokenMatch
    unusable: str | None
    price: Price
    lost_tokens: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0

    def draw_seed(self, key: Key) -> int:
        """The seed of one answer: the same whenever it is asked."""
        return request_seed(self.seed, int(self.problems[key[0]].key, 16), key[1])

    def probabilities(self, key: Key, answer: Answer) -> Probabilities:
        """Of a server's answer."""
        if self.unusable is not None or not answer.tokens:
            return Probabilities(self.unusable or NONE_GIVEN)
        return self.match.of_texts(answer.text, self.problems[key[0]].messages, answer.tokens, answer.logprobs)


def ask_servers(asked: Sequence[tuple[Asked, Server]], budget: Budget, patience: Patience, bar: Bar) -> None:
    """Ask servers, all at once.

    Args:
        asked: what each server is asked.
        budget: of all of them together.
        patience: how they are asked.
        bar: counts answers.

    Raises:
        InputError: where one of them refuses all requests, or answers no more; what was answered is written down.
    """

    async def all_of_them() -> None:
        async with contextlib.AsyncExitStack() as stack:
            tasks = []
            for teacher, server in asked:
                await stack.enter_async_context(server)
                server.answered_before = teacher.log.tokens[1] > 0
                line = _Line(teacher, server, Pace(patience.concurrency, patience.backoff), budget, patience, bar)
                keys = iter(teacher.keys)
                tasks += [asyncio.create_task(line.work(keys)) for _ in range(min(patience.concurrency, len(teacher.keys)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for teacher, server in asked:
                if teacher.keys and not server.is_known and server.declined:
                    raise server.refuses_all()

    asyncio.run(all_of_them())


@dataclass(kw_only=False)
class _Line:
    """One server, and what stands in line before it."""

    teacher: Asked
    server: Server
    pace: Pace
    budget: Budget
    patience: Patience
    bar: Bar
    held: list[tuple[Key, Answer]] = field(default_factory=list)  # declined before anything was answered: perhaps no fault of theirs

    async def work(self, keys: Iterator[Key]) -> None:
        """Ask for one sample after the other."""
        for key in keys:
            problem = self.teacher.problems[key[0]]
            asked = sum(len(message["content"].encode("utf-8", "replace")) for message in problem.messages) + TEMPLATE_TOKENS
            most = asked + self.teacher.sampling.max_tokens, self.teacher.price.of(asked, self.teacher.sampling.max_tokens)
            if not await self.budget.reserve(*most):
                return
            try:
                answer = await self._answered(key)
                if answer is not None:
                    self._keep(key, answer)
            finally:
                await self.budget.settle(*most)

    async def _answered(self, key: Key) -> Answer | None:
        """The answer, after as many tries as it takes; None where it is given up."""
        messages, reason = self.teacher.problems[key[0]].messages, ""
        for tries in range(1, self.patience.retries + 1):
            async with self.pace as pace:
                try:
                    answer = await self.server.ask(messages, self.teacher.sampling, seed=self.teacher.draw_seed(key))
                    if self.server.answered:
                        self.teacher.failed_in_a_row = 0
                        pace.answered()
                    return answer
                except Busy as error:
                    reason = str(error)
                    pace.busy(error.pause_s)
                except Unanswered as error:
                    reason = str(error)
                    self.teacher.lost_tokens += error.received
                    self.budget.spend(error.received, self.teacher.price.of(0, error.received))
            if not self.budget.fits(0, 0):
                self.budget.exhausted = True
                return None
            if tries < self.patience.retries:
                await asyncio.sleep(self.pace.backoff(tries, *key))
        self.teacher.unanswered[reason] += 1
        self.teacher.failed_in_a_row += 1
        if not self.server.answered or self.teacher.failed_in_a_row >= FAILURES:
            raise InputError(
                f"teacher {self.server.url} does not answer ({reason}); its answers so far are kept, and the same command goes on from there"
            )
        return None

    def _keep(self, key: Key, answer: Answer) -> None:
        if not self.server.is_known:
            self.held.append((key, answer))
            return
        for each, given in [*self.held, (key, answer)]:
            given = replace(given, text=whole_thought(given.text))
            self.teacher.log.add(each, given, self.teacher.probabilities(each, given))
            prompt_tokens, length = counts(self.teacher.problems[each[0]], given)
            self.budget.spend(prompt_tokens + length, self.teacher.price.of(prompt_tokens, length))
            self.bar.update()
        self.held.clear()


def ask_model(teacher: Asked, prompts: Sequence[Prompt], engines: Sequence[EngineSetup], budget: Budget, bar: Bar) -> None:
    """Ask a model on vLLM in this process.

    Args:
        teacher: what it is asked.
        prompts: of all problems, by index.
        engines: one for each copy of the model.
        budget: of all teachers; what is beyond it is not kept.
        bar: counts answers.

    Raises:
        InputError: where an engine stops; what was answered is written down.
    """
    room = engines[0].max_model_len
    for key in teacher.keys:
        prompt = prompts[key[0]]
        if len(prompt.token_ids) >= room:
            unfit = Answer(finish_reason=PROMPT_TOO_LONG, length=0, prompt_tokens=0)
            teacher.log.add(key, unfit, Probabilities(teacher.unusable or NONE_GIVEN), prompt=prompt.text)
            bar.update()
    fitting = [key for key in teacher.keys if len(prompts[key[0]].token_ids) < room]
    requests = (Request(key=key, token_ids=prompts[key[0]].token_ids, seed=teacher.draw_seed(key)) for key in fitting)
    with contextlib.closing(generate(requests, engines, teacher.sampling, on_ready=lambda _: bar.unpause())) as completions:
        for done in completions:
            prompt = prompts[done.key[0]]
            tokens = len(prompt.token_ids) + done.length
            cost = teacher.price.of(len(prompt.token_ids), done.length)
            if not budget.fits(tokens, cost):
                budget.exhausted = True
                return
            answer = Answer(
                text=whole_thought(done.text), finish_reason=done.finish_reason, length=done.length, prompt_tokens=len(prompt.token_ids)
            )
            found = Probabilities(teacher.unusable or NONE_GIVEN)
            if teacher.unusable is None and done.logprobs:
                found = teacher.match.of_ids(answer.text, teacher.problems[done.key[0]].messages, done.token_ids, done.logprobs)
            teacher.log.add(done.key, answer, found, prompt=prompt.text)
            budget.spend(tokens, cost)
            bar.update()
