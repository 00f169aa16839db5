"""A whole collection: problems to teachers, answers to verdicts, right answers to the traces of a training file; all of it resumable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from luffy.data import schema
from luffy.data.report import report_folder
from luffy.data.source import SourceSpec
from luffy.errors import InputError
from luffy.evaluation.engine import EngineSetup, Sampling, set_up
from luffy.evaluation.prompts import Prompt, Renderer
from luffy.evaluation.scoring import Scoring
from luffy.files import replacing, require_new_parquet
from luffy.models import ModelFiles, find_model, load_tokenizer
from luffy.progress import Bar
from luffy.teachers.answers import RIGHT, UNVERIFIED, AnswerLog, Given
from luffy.teachers.asking import Asked, ask_model, ask_servers
from luffy.teachers.choice import Candidate, choose
from luffy.teachers.command import TARGET_CORRECT, Collection
from luffy.teachers.exercises import Exercise, read_exercises
from luffy.teachers.pace import Budget, Price
from luffy.teachers.probabilities import TokenMatch
from luffy.teachers.report import CollectionReport, Tally, format_report, write_report
from luffy.teachers.server import Server
from luffy.traces import POLICY_SUCCESS, TARGET, TARGET_PROBS, TARGET_SOURCE

POLICY = "policy"
_WRITABLE = (
    "wrong",
    "no answer found",
    "timed out",
    "gold answer not readable",
    "error",
    UNVERIFIED,
)  # besides right ones, with --keep-wrong
_ROW_GROUP = 512

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Teacher:
    """A teacher, or the policy, ready to be asked.

    Attributes:
        name: in ``target_source``.
        server: where it answers; None for a model in this process.
        model, prompts, engines: of a model in this process.
        sampling: how its tokens are drawn.
        unusable: why its tokens have no probabilities; None where they can.
    """

    name: str
    server: Server | None = None
    model: ModelFiles | None = None
    prompts: list[Prompt] = field(default_factory=list)
    engines: list[EngineSetup] = field(default_factory=list)
    sampling: Sampling
    unusable: str | None = None

    def identity(self) -> dict[str, Any]:
        """What of it the answers depend on."""
        who = {"model": self.name, "served": self.server.model} if self.server else {"model": self.name}
        if self.model is not None:
            who |= {"model_fingerprint": self.model.fingerprint}
        return who | {name: getattr(self.sampling, name) for name in ("temperature", "top_p", "max_tokens", "probabilities")}


def collect(options: Collection) -> str:
    """Ask what is not asked yet, verify it, and write the training file and the report.

    Returns:
        The report as text, and where everything was written.

    Raises:
        InputError: for what a user got wrong, or a teacher that does not answer; answers so far are kept.
    """
    return _Run(options).collect()


class _Run:
    """One run of the command."""

    def __init__(self, options: Collection) -> None:
        self._options = options
        self._folder = options.output.with_name(f"{options.output.stem}_answers")
        require_new_parquet(options.output, [Path(each) for each in options.problems if Path(each).is_file()])
        if options.output.exists() and not self._folder.is_dir() and not options.overwrite:
            raise InputError(
                f"{options.output} is there, and not of this command ({self._folder} is missing); give another --output, or --overwrite"
            )
        if options.no_verify:
            logger.warning("NOTHING IS VERIFIED (--no-verify): wrong answers become traces, and the policy is trained on them")
        self._exercises = read_exercises(
            [
                SourceSpec(
                    location=each, prompt=options.prompt_column, answer=options.answer_column, config=options.config, split=options.split
                )
                for each in options.problems
            ],
            system=options.system_prompt,
            needs_gold=not options.no_verify,
            drop_malformed=options.drop_malformed,
        )
        self._problems = self._exercises.problems[: options.limit]
        self._match = TokenMatch(self._policy_tokenizer())
        self._scoring = (
            None if options.no_verify else Scoring(thought_gate="off", workers=options.num_workers, time_limit=options.time_limit)
        )

    def collect(self) -> str:
        """The policy first, then the teachers; then the file and the report."""
        options = self._options
        names = options.name or [""] * len(options.teacher)
        keys = options.key_env if len(options.key_env) > 1 else list(options.key_env) * len(options.teacher)
        locations = [*zip(options.teacher, names, keys, strict=True)]
        if options.policy is not None:
            locations.append((options.policy, POLICY, options.key_env[0]))
        found = [self._open(*each, of_policy=number == len(options.teacher)) for number, each in enumerate(locations)]
        teachers, policy = found[: len(options.teacher)], found[len(options.teacher) :]
        if twice := [name for name, count in Counter(each.name for each in found).items() if count > 1]:
            raise InputError(f"two teachers are called {twice[0]}; give each a name of its own with --name")
        success, policy_tally = self._policy_success(policy[0]) if policy else ({}, None)
        bound = options.skip_solved
        asked = [each.index for each in self._problems if bound is None or success.get(each.index, 0.0) < bound]
        logger.info("asking %d teachers about %d of %d problems", len(teachers), len(asked), len(self._problems))
        budget = Budget(options.max_tokens_total, options.max_cost)
        with contextlib.ExitStack() as stack:
            jobs = [
                self._asked(each, asked, self._options.samples, price, stack) for each, price in zip(teachers, self._prices(), strict=True)
            ]
            for job in jobs:
                budget.spend(sum(job.log.tokens), job.price.of(*job.log.tokens))
            self._ask(list(zip(jobs, teachers, strict=True)), budget)
            for job in jobs:
                job.log.finish(self._scoring)
            tallies = [self._tally(job, teacher, len(asked) * options.samples) for job, teacher in zip(jobs, teachers, strict=True)]
            rows, traces = self._write(jobs, tallies, success, budget)
        report = CollectionReport(
            problems=len(self._problems), left_out=dict(self._exercises.left_out), skipped=len(self._problems) - len(asked), rows=rows,
            traces=traces, policy=policy_tally, teachers=tallies, stopped=budget.exhausted, verified=not options.no_verify,
        )  # fmt: skip
        write_report(report, report_folder(options.output))
        return f"{format_report(report)}\n\ndata: {options.output}\nreport: {report_folder(options.output)}\nanswers: {self._folder}"

    def _open(self, location: str, name: str, key_variable: str, *, of_policy: bool) -> Teacher:
        """Look at a teacher before anything is asked."""
        options = self._options
        sampling = replace(options.sampling, temperature=options.policy_temperature) if of_policy else options.sampling
        if location.startswith(("http://", "https://")):
            url, _, model = location.partition("#")
            server = Server(
                url=url, model=model, key=os.environ.get(key_variable, ""), key_variable=key_variable, timeout_s=options.patience.timeout
            )
            asyncio.run(_connect(server, options.patience.wait))
            if server.sends_key_openly:
                logger.warning("%s: the key in %s goes over the network without encryption (http)", url, key_variable)
            unusable = self._match.unusable(sampling, served=True)
            sampling = replace(sampling, probabilities=unusable is None and not of_policy)
            return Teacher(name=name or server.model, server=server, sampling=sampling, unusable=unusable)
        files = find_model(location)
        tokenizer = load_tokenizer(files.folder, named=f"teacher {location}", chat=options.template == "own")
        renderer = Renderer(tokenizer, options.template, remove_system=False)
        prompts = [renderer.render(problem.messages) for problem in self._problems]
        needed = max(len(prompt.token_ids) for prompt in prompts) + sampling.max_tokens
        longest = min(needed, options.engine.max_model_len or files.context or needed)
        unusable = self._match.unusable(sampling, served=False, teacher_tokenizer=tokenizer)
        probabilities = unusable is None and not of_policy
        sampling = replace(sampling, stop_token_ids=tuple(renderer.stop_token_ids), probabilities=probabilities)
        engines = set_up(files, options.engine, max_model_len=longest, copies=options.data_parallel_size)
        return Teacher(
            name=name or Path(location).name, model=files, prompts=prompts, engines=engines, sampling=sampling, unusable=unusable
        )  # fmt: skip

    def _policy_tokenizer(self) -> Any:
        named = self._options.tokenizer or self._options.policy
        if named is None or (named == self._options.policy and named.startswith(("http://", "https://"))):
            return None
        return load_tokenizer(named, named=f"--{'tokenizer' if self._options.tokenizer else 'policy'} {named}")

    def _prices(self) -> list[Price]:
        numbers = self._options.price or (0.0, 0.0)
        count = len(self._options.teacher)
        return [Price(*numbers[2 * number % len(numbers) :][:2]) for number in range(count)]

    def _asked(self, teacher: Teacher, problems: Sequence[int], samples: int, price: Price, stack: contextlib.ExitStack) -> Asked:
        identity = teacher.identity() | {"problems": self._exercises.digest(), "seed": self._options.seed}
        if teacher.model is not None:
            identity |= {"template": self._options.template, "dtype": self._options.engine.dtype}
        log = stack.enter_context(AnswerLog(self._folder, teacher.name, identity, self._problems, overwrite=self._options.overwrite))
        return Asked(
            name=teacher.name, log=log, problems=self._problems, keys=log.missing(problems, samples), sampling=teacher.sampling,
            seed=self._options.seed, match=self._match, unusable=teacher.unusable, price=price,
        )  # fmt: skip

    def _ask(self, jobs: Sequence[tuple[Asked, Teacher]], budget: Budget) -> None:
        """Servers all at once, then models one after the other."""
        total = sum(len(job.keys) for job, _ in jobs)
        with Bar(total=total, unit="answer", desc="asking", smoothing=0.02) as bar:
            if served := [(job, teacher.server) for job, teacher in jobs if teacher.server and job.keys]:
                ask_servers(served, budget, self._options.patience, bar)
            for job, teacher in jobs:
                if teacher.model is not None and job.keys:
                    ask_model(job, teacher.prompts, teacher.engines, budget, bar)

    def _policy_success(self, policy: Teacher) -> tuple[dict[int, float], Tally]:
        """The policy's share of right answers for each problem; no budget is spent on it."""
        samples = self._options.policy_samples
        with contextlib.ExitStack() as stack:
            job = self._asked(policy, [each.index for each in self._problems], samples, Price(), stack)
            self._ask([(job, policy)], Budget())
            job.log.finish(self._scoring)
            found = job.log.by_problem(samples, verified=True, think_tags=not self._options.no_think_tags)
            success = {problem: sum(each.correct for each in answers) / len(answers) for problem, answers in found if answers}
            return success, self._tally(job, policy, len(self._problems) * samples, samples=samples)

    def _tally(self, job: Asked, teacher: Teacher, asked: int, *, samples: int | None = None) -> Tally:
        tally = Tally(teacher=job.name, asked=asked, lost_tokens=job.lost_tokens, unanswered=dict(job.unanswered))
        for _, answers in self._answers(job, samples or self._options.samples):
            tally.count(answers)
        tally.left_out = sorted(teacher.server.left_out) if teacher.server else []
        if self._options.price is not None:
            tally.cost = job.price.of(tally.prompt_tokens, tally.tokens + tally.lost_tokens)
        return tally

    def _answers(self, job: Asked, samples: int) -> Iterator[tuple[int, list[Given]]]:
        return job.log.by_problem(samples, verified=self._scoring is not None, think_tags=not self._options.no_think_tags)

    def _write(self, jobs: Sequence[Asked], tallies: Sequence[Tally], success: Mapping[int, float], budget: Budget) -> tuple[int, int]:
        """Write the training file; returns its rows and traces."""
        options, rows, traces = self._options, 0, 0
        known = {POLICY_SUCCESS} if success else set()
        columns = schema.arrow_schema("train", known=known)
        if options.keep_wrong:
            columns = columns.append(pa.field(TARGET_CORRECT, pa.list_(pa.bool_())))
        pending: list[dict[str, Any]] = []
        by_teacher = [_Ahead(self._answers(job, options.samples)) for job in jobs]
        kept_of = {tally.teacher: tally for tally in tallies}
        with replacing(options.output) as path, pq.ParquetWriter(path, columns, compression="zstd", use_dictionary=False) as writer:
            for problem in self._problems:
                given = [(job.name, each) for job, ahead in zip(jobs, by_teacher, strict=True) for each in ahead.of(problem.index)]
                chosen = choose([each for each in given if self._is_trace(each[1])], options.keep, options.choose)
                if not chosen and not options.without_traces:
                    continue
                for name, _ in chosen:
                    kept_of[name].kept += 1
                pending.append(_row(problem, rows, chosen, success.get(problem.index)))
                rows, traces = rows + 1, traces + len(chosen)
                if len(pending) == _ROW_GROUP:
                    writer.write_table(pa.Table.from_pylist(pending, schema=columns))
                    pending.clear()
            if not rows:
                raise InputError(f"no trace is left for {options.output}: {_most(tallies, budget)}; the answers are kept in {self._folder}")
            writer.write_table(pa.Table.from_pylist(pending, schema=columns))
        return rows, traces

    def _is_trace(self, given: Given) -> bool:
        if given.outcome == RIGHT or (self._options.no_verify and given.outcome == UNVERIFIED):
            return True
        return self._options.keep_wrong and given.outcome in _WRITABLE


class _Ahead:
    """Answers by problem, asked for in the order of the problems, some of which may have none."""

    def __init__(self, answers: Iterator[tuple[int, list[Given]]]) -> None:
        self._answers = answers
        self._next: tuple[int, list[Given]] | None = next(answers, None)

    def of(self, problem: int) -> list[Given]:
        """Those of one problem, whose index is not below the last one that was asked for."""
        while self._next is not None and self._next[0] < problem:
            self._next = next(self._answers, None)
        return self._next[1] if self._next is not None and self._next[0] == problem else []


async def _connect(server: Server, wait_s: float) -> None:
    async with server:
        await server.connect(wait_s=wait_s)


def _row(problem: Exercise, number: int, chosen: Sequence[Candidate], success: float | None) -> dict[str, Any]:
    example = schema.Example(
        prompt=problem.messages,
        gold=problem.gold,
        traces=(),
        data_source=problem.benchmark,
        ability=problem.ability,
        policy_success=success,
    )
    probabilities = [each.probabilities.values for _, each in chosen]
    return schema.training_row(example, number) | {
        TARGET: [{"role": "assistant", "content": each.text} for _, each in chosen] or None,
        TARGET_SOURCE: [name for name, _ in chosen] or None,
        TARGET_PROBS: probabilities if any(probabilities) else None,
        TARGET_CORRECT: [each.outcome == RIGHT for _, each in chosen] or None,
        schema.REWARD_MODEL: {"style": "rule", "ground_truth": problem.gold},
        schema.EXTRA_INFO: {"index": number, "split": "train"},
    }


def _most(tallies: Sequence[Tally], budget: Budget) -> str:
    """The largest reasons why no answer became a trace."""
    counts = sum((each.outcomes for each in tallies), Counter[str]())
    why = ", ".join(f"{name} {count}" for name, count in counts.most_common(3)) or "nothing was answered"
    return f"{why}, and the budget allows no more (--max-tokens-total, --max-cost; lower --max-tokens)" if budget.exhausted else why
