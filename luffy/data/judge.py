"""Rows measured some at a time, by tokenizer and verifier; and the filter: which rows and traces are kept, and why others are not."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luffy.data import schema
from luffy.data.faults import FAULTS, SCOPES, Fault, Stage
from luffy.data.lengths import TokenCounter
from luffy.data.overlap import EvaluationPrompts, Overlap
from luffy.data.schema import Example, training_row
from luffy.data.text import prompt_key
from luffy.errors import InputError
from luffy.rewards import Grader, Verdict, kind_for
from luffy.traces import PROMPT, TARGET, TARGET_PROBS


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What rows are held against.

    Attributes:
        prompt: tokens that a rendered prompt may have; None leaves it unchecked.
        response: tokens that (trace + EOS) may have; None leaves it unchecked.
        think_tags: whether a trace without think tags is at fault.
        prompt_opens: take each trace to follow an opened thought, whatever its prompt is.
        special_tokens: texts that a prompt or trace must not contain, as they would end or forge a turn.
        eos: text of the EOS token, which the trainer adds to each trace itself; "" where it is not known.
        excluded: keys of prompts that are left out.
        prompts, indices: first row of each key and number, to find the same again; None where they may repeat.
    """

    prompt: int | None = None
    response: int | None = None
    think_tags: bool = True
    prompt_opens: bool = False
    special_tokens: Sequence[str] = ()
    eos: str = ""
    excluded: frozenset[bytes] = frozenset()
    prompts: dict[bytes, int] | None = None
    indices: dict[int, int] | None = None


class Judged:
    """One row, and what was measured of it.

    Attributes:
        number: of the row in its file.
        columns: its values, as a training file has them.
        messages, traces: the messages of its prompt and of its traces.
        gold, note, style: the gold answer, what stands where there is none, and how it is compared.
        data_source, index: name of the data set, and the row's number as its file has it.
        kept: positions of the traces that are still looked at.
        settled: scopes that are not looked at any more.
        rendered: the prompt as the model sees it; "" without a tokenizer.
        refusal: what the chat template says against the prompt.
        prompt_length: tokens (or characters without a tokenizer) of the rendered prompt.
        trace_lengths: tokens (or characters) of the traces that were measured, by position.
        readable: whether the verifier can read the gold answer.
        verdicts: of the traces that were graded, by position.
        overlap: where in the evaluation sets the prompt is.
    """

    def __init__(self, number: int, columns: Mapping[str, Any]) -> None:
        reward = columns.get(schema.REWARD_MODEL) or {}
        self.number: int = number
        self.columns: Mapping[str, Any] = columns
        self.messages: Sequence[Any] = columns[PROMPT] or ()
        self.traces: Sequence[Any] = columns.get(TARGET) or ()
        self.gold: str = reward.get("ground_truth") or ""
        self.note: str = reward.get("note") or ""
        self.style: str | None = reward.get("style")
        self.data_source: str = columns.get(schema.DATA_SOURCE) or ""
        self.index: int | None = (columns.get(schema.EXTRA_INFO) or {}).get("index")
        self.kept: list[int] = list(range(len(self.traces)))
        self.settled: set[str] = set()
        self.rendered: str = ""
        self.refusal: InputError | None = None
        self.prompt_length: int = 0
        self.trace_lengths: dict[int, int] = {}
        self.readable: bool = True
        self.verdicts: dict[int, Verdict] = {}
        self.overlap: Overlap | None = None

    def probabilities(self, position: int) -> Sequence[float] | None:
        """The teacher's probabilities of a trace's tokens; None where they are not known."""
        each = self.columns.get(TARGET_PROBS) or ()
        return each[position] if position < len(each) else None

    @functools.cached_property
    def question(self) -> str:
        """The text of all messages but the system's."""
        return schema.question(self.messages)

    @functools.cached_property
    def key(self) -> bytes:
        """The key by which rows of the same problem are merged."""
        return prompt_key(self.question)

    def asks(self, scope: str, position: int | None) -> bool:
        """Whether faults of a scope, and of the trace at a position, are still asked."""
        return scope not in self.settled and (position is None or position in self.kept)

    def settle(self, scope: str, position: int | None) -> None:
        """Ask nothing more of a scope, or of the trace at a position."""
        if position is None:
            self.settled.add(scope)
        else:
            self.kept.remove(position)

    def leave_out(self, position: int | None) -> None:
        """Ask nothing more of the trace at a position, or of the row."""
        if position is None:
            self.settled, self.kept = set(SCOPES), []
        else:
            self.kept.remove(position)

    def text(self, position: int) -> str:
        """The text of a trace."""
        return self.traces[position]["content"]

    def texts(self, scope: str, position: int) -> list[tuple[str, str]]:
        """(place, text) of the prompt's messages or of one trace."""
        if scope == "trace":
            return [(f"target[{position}]", self.text(position))]
        return [(f"prompt[{i}]", message["content"]) for i, message in enumerate(self.messages)]


@dataclass(frozen=True)
class Verify:
    """The project's verifier, which grades responses and reads gold answers by the kind of their data source, as training does.

    Attributes:
        grader: the worker processes.
        thought_gate: whether a response without a closed thought is never correct.
    """

    grader: Grader
    thought_gate: bool

    def __call__(self, items: Sequence[tuple[str, str, str]]) -> list[Verdict]:
        """The verdict of each (response, gold answer, data_source)."""
        pairs = [(response, gold) for response, gold, _ in items]
        kinds = [kind_for(data_source) for _, _, data_source in items]
        return self.grader.grade_batch(pairs, kind=kinds, thought_gate=self.thought_gate)

    def readable(self, golds: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each (gold answer, data_source) can be read as a whole; if not, only the same text equals it."""
        return self.grader.readable([gold for gold, _ in golds], kind=[kind_for(source) for _, source in golds])


@contextlib.contextmanager
def verifier(*, workers: int | None = None, time_limit_s: float = 5.0, thought_gate: bool = False) -> Iterator[Verify]:
    """Start the verifier.

    Args:
        workers: processes; None for one per core.
        time_limit_s: seconds after which a verdict is given up.
        thought_gate: whether a response without a closed thought is never correct.
    """
    with Grader(workers=workers, time_limit_s=time_limit_s) as grader:
        yield Verify(grader, thought_gate)


class Judge:
    """Measures rows, one stage after the other, and asks the faults that can be seen then.

    Args:
        faults: those that are asked.
        limits: what rows are held against.
        counter: counts tokens; without it lengths are characters, and their faults are not asked.
        verify: grades traces and reads gold answers; without it faults of answers are not asked.
    """

    def __init__(self, faults: Iterable[Fault], limits: Limits, counter: TokenCounter | None, verify: Verify | None) -> None:
        self._limits, self._counter, self._verify = limits, counter, verify
        without = {Stage.PROMPT_TOKENS: counter, Stage.TRACE_TOKENS: counter, Stage.GOLD: verify, Stage.VERDICT: verify}
        self._faults: dict[Stage, list[Fault]] = {stage: [] for stage in Stage}
        for fault in faults:
            if fault.test and without.get(fault.stage, True) is not None:
                self._faults[fault.stage].append(fault)

    def ask(self, rows: Sequence[Judged]) -> Iterator[tuple[Judged, int | None, Fault, dict[str, Any]]]:
        """Every fault as (row, position of the trace, fault, what was seen).

        The caller says what is not asked any more of a row that has a fault (:meth:`Judged.settle`, :meth:`Judged.leave_out`).
        """
        for stage, faults in self._faults.items():
            self._measure(stage, rows)
            for row in rows:
                for position in (None, *row.kept):
                    for fault in faults:
                        if (fault.scope == "trace") is (position is None) or not row.asks(fault.scope, position):
                            continue
                        if (seen := fault.seen(row, self._limits, position or 0)) is not None:
                            yield row, position, fault, seen

    def _measure(self, stage: Stage, rows: Sequence[Judged]) -> None:
        settled = "prompt" if stage in (Stage.PROMPT_TOKENS, Stage.TRACE_TOKENS) else "gold"
        rows = [row for row in rows if settled not in row.settled]
        traces = [(row, position) for row in rows for position in row.kept]
        if stage is Stage.PROMPT_TOKENS:
            self._measure_prompts(rows)
        elif stage is Stage.TRACE_TOKENS:
            texts = [row.text(position) for row, position in traces]
            counts = self._counter.count_traces(texts, [row.rendered for row, _ in traces]) if self._counter else map(len, texts)
            for (row, position), count in zip(traces, counts, strict=True):
                row.trace_lengths[position] = count
        elif self._verify is not None and self._faults[stage]:
            if stage is Stage.GOLD:
                found = self._verify.readable([(row.gold, row.data_source) for row in rows])
                for row, readable in zip(rows, found, strict=True):
                    row.readable = readable
            elif stage is Stage.VERDICT:
                verdicts = self._verify([(row.text(position), row.gold, row.data_source) for row, position in traces])
                for (row, position), verdict in zip(traces, verdicts, strict=True):
                    row.verdicts[position] = verdict

    def _measure_prompts(self, rows: Sequence[Judged]) -> None:
        if self._counter is None:
            for row in rows:
                row.prompt_length = sum(len(message["content"]) for message in row.messages)
            return
        for row in rows:
            try:
                row.rendered = self._counter.render(row.messages)
            except InputError as error:
                row.refusal = error
        for row, length in zip(rows, self._counter.count([row.rendered for row in rows]), strict=True):
            row.prompt_length = length


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """What is kept.

    Attributes:
        max_prompt_length: tokens of the rendered prompt; checked where there is a tokenizer.
        max_response_length: tokens of (trace + EOS); checked where there is a tokenizer.
        think_tags: whether each trace must open and close its thought.
        traces: whether rows carry traces; without them a row needs none (the complement set).
        keep_unreadable: keep rows whose gold answer the verifier cannot read.
        keep_all: keep every row and trace as it is; they are only measured.
    """

    max_prompt_length: int = 1024
    max_response_length: int = 8192
    think_tags: bool = True
    traces: bool = True
    keep_unreadable: bool = False
    keep_all: bool = False


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A row (``trace`` is None) or one trace that is left out.

    Attributes:
        row: number of the row in its file.
        trace: position of the trace in its row, or None.
        reason: one of :data:`luffy.data.faults.MEANINGS`.
        detail: what was seen, such as a length.
        traces: how many traces go with a row.
    """

    row: int
    trace: int | None = None
    reason: str
    detail: str = ""
    traces: int = 0


class Filter:
    """Applies the paper's filter to batches of rows.

    Args:
        options: what is kept.
        counter: counts tokens; None leaves lengths unchecked.
        verify: grades traces; None leaves answers unchecked.
        evaluation: problems that must not be trained on.
        excluded: keys of prompts that are left out (the training set's, for the complement).
    """

    def __init__(
        self,
        options: FilterOptions,
        *,
        counter: TokenCounter | None,
        verify: Verify | None,
        evaluation: EvaluationPrompts,
        excluded: frozenset[bytes] = frozenset(),
    ) -> None:
        limits = Limits(
            prompt=options.max_prompt_length, response=options.max_response_length, think_tags=options.think_tags, excluded=excluded
        )
        self.options = options
        self.unit = "tokens" if counter else "characters"
        self._judge = Judge(filter(functools.partial(_asked, options), FAULTS), limits, counter, verify)
        self._evaluation = evaluation

    def apply(self, examples: Iterable[tuple[int, Example]]) -> tuple[list[Judged], list[Drop]]:
        """Filter rows.

        Args:
            examples: (row number, example).

        Returns:
            The kept rows, in order, and every drop. A row that overlaps with the evaluation sets is kept and marked.

        Raises:
            InputError: where the chat template refuses a prompt.
        """
        rows, drops = [Judged(number, training_row(example, number)) for number, example in examples], []
        for row, position, fault, seen in self._judge.ask(rows):
            traces = len(row.kept) if position is None else 0
            drops.append(Drop(row=row.number, trace=position, reason=fault.reason, detail=fault.detail.format(**seen), traces=traces))
            row.leave_out(position)
        for row in rows:
            if row.refusal is not None:
                raise row.refusal
        kept = [row for row in rows if not row.settled]
        for row in kept:
            row.overlap = self._evaluation.find(row.question)
        return kept, drops


def _asked(options: FilterOptions, fault: Fault) -> bool:
    """Whether the filter leaves something out for a fault; what shows beside other rows only, the merge sees."""
    if options.keep_all or not fault.reason or fault.stage is Stage.OTHER_ROWS:
        return False
    return (options.traces or fault.scope not in ("trace", "traces")) and not (options.keep_unreadable and fault.stage is Stage.GOLD)
