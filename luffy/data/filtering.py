"""The paper's filter: which rows and traces are kept, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from luffy.data import reasons
from luffy.data.encoded_text import shown
from luffy.data.example import Example
from luffy.data.lengths import TokenCounter
from luffy.data.overlap import EvaluationPrompts, Overlap
from luffy.data.text_keys import prompt_key
from luffy.data.think_tags import think_tag_fault
from luffy.data.verification import Verify
from luffy.rewards.verdict import Reason
from luffy.traces import THINK_OPEN, Trace


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
        reason: one of :mod:`luffy.data.reasons`.
        detail: what was seen, such as a length.
        traces: how many traces go with a row.
    """

    row: int
    trace: int | None
    reason: str
    detail: str = ""
    traces: int = 0


@dataclass(kw_only=True)
class Judged:
    """A row on its way through the filter.

    Attributes:
        row: its number in the file.
        example: what it says.
        kept: positions of the traces that are still in.
        trace_lengths: tokens (or characters without a tokenizer) of the traces that were measured, by position.
        prompt_length: tokens (or characters) of the rendered prompt.
        overlap: where in the evaluation sets the prompt is.
    """

    row: int
    example: Example
    kept: list[int]
    trace_lengths: dict[int, int] = field(default_factory=dict)
    rendered: str = ""
    prompt_length: int = 0
    overlap: Overlap | None = None


class Filter:
    """Applies the filter to batches of rows.

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
        self._options = options
        self._counter = counter
        self._verify = verify
        self._evaluation = evaluation
        self._excluded = excluded

    @property
    def counts_tokens(self) -> bool:
        """Whether lengths are tokens; without a tokenizer they are characters, and unchecked."""
        return self._counter is not None

    def apply(self, examples: Sequence[tuple[int, Example]]) -> tuple[list[Judged], list[Drop]]:
        """Filter rows.

        Args:
            examples: (row number, example).

        Returns:
            The kept rows, in order, and every drop. A row that overlaps with the evaluation sets is kept and marked.
        """
        rows = [Judged(row=row, example=e, kept=list(range(len(e.traces)))) for row, e in examples]
        drops: list[Drop] = []
        if not self._options.keep_all:
            rows = _sift(rows, drops, self._prompt_fault)
        self._measure_prompts(rows)
        if self._options.keep_all:
            self._mark_overlaps(rows)
            self._measure_traces(rows)
            return rows, drops
        rows = _sift(rows, drops, self._length_fault)
        self._mark_overlaps(rows)
        rows = self._with_readable_gold(rows, drops)
        if not self._options.traces:
            return rows, drops
        _sift_traces(rows, drops, self._text_fault)
        self._measure_traces(rows)
        _sift_traces(rows, drops, self._trace_length_fault)
        self._drop_wrong(rows, drops)
        return _sift(rows, drops, lambda row: None if row.kept else (reasons.NO_TRACE_LEFT, f"of {len(row.example.traces)}")), drops

    def _mark_overlaps(self, rows: list[Judged]) -> None:
        for row in rows:
            row.overlap = self._evaluation.find(row.example.question)

    def _prompt_fault(self, row: Judged) -> tuple[str, str] | None:
        if not row.example.question.strip():
            return reasons.EMPTY_PROMPT, ""
        if not row.example.gold:
            return reasons.NO_ANSWER, row.example.no_gold
        return (reasons.EXCLUDED, "") if prompt_key(row.example.question) in self._excluded else None

    def _measure_prompts(self, rows: list[Judged]) -> None:
        if self._counter is None:
            for row in rows:
                row.prompt_length = sum(len(message["content"]) for message in row.example.prompt)
            return
        for row in rows:
            row.rendered = self._counter.render(row.example.prompt)
        for row, length in zip(rows, self._counter.count([row.rendered for row in rows]), strict=True):
            row.prompt_length = length

    def _length_fault(self, row: Judged) -> tuple[str, str] | None:
        too_long = self._counter is not None and row.prompt_length > self._options.max_prompt_length
        return (reasons.PROMPT_TOO_LONG, f"{row.prompt_length} tokens") if too_long else None

    def _with_readable_gold(self, rows: list[Judged], drops: list[Drop]) -> list[Judged]:
        if self._verify is None or self._options.keep_unreadable:
            return rows
        readable = self._verify.readable([(row.example.gold, row.example.data_source) for row in rows])
        unreadable = {row.row for row, can_be_read in zip(rows, readable, strict=True) if not can_be_read}
        return _sift(
            rows,
            drops,
            lambda row: (reasons.UNREADABLE_ANSWER, shown(row.example.gold)) if row.row in unreadable else None,
        )

    def _text_fault(self, row: Judged, position: int) -> tuple[str, str] | None:
        text = row.example.traces[position].text
        if not text.strip():
            return reasons.EMPTY_TRACE, ""
        opens = row.rendered.rstrip().endswith(THINK_OPEN)
        fault = think_tag_fault(text, prompt_opens=opens, required=self._options.think_tags)
        return (fault, "") if fault else None

    def _measure_traces(self, rows: list[Judged]) -> None:
        pairs = [(row, position) for row in rows for position in row.kept]
        texts = [_trace(row, position).text for row, position in pairs]
        lengths = map(len, texts) if self._counter is None else self._counter.count_traces(texts, [row.rendered for row, _ in pairs])
        for (row, position), length in zip(pairs, lengths, strict=True):
            row.trace_lengths[position] = length

    def _trace_length_fault(self, row: Judged, position: int) -> tuple[str, str] | None:
        length = row.trace_lengths[position]
        too_long = self._counter is not None and length > self._options.max_response_length
        return (reasons.TRACE_TOO_LONG, f"{length} tokens") if too_long else None

    def _drop_wrong(self, rows: list[Judged], drops: list[Drop]) -> None:
        if self._verify is None:
            return
        pairs = [(row, position) for row in rows for position in row.kept]
        verdicts = self._verify([(_trace(row, position).text, row.example.gold, row.example.data_source) for row, position in pairs])
        by_place = {(row.row, position): verdict for (row, position), verdict in zip(pairs, verdicts, strict=True)}

        def fault(row: Judged, position: int) -> tuple[str, str] | None:
            verdict = by_place[row.row, position]
            if verdict.correct:
                return None
            asked = f"asked for {shown(row.example.gold)}"
            if verdict.reason is not Reason.WRONG:
                return reasons.UNVERIFIABLE, f"{verdict.reason}; {asked}"
            found = "something else" if verdict.answer is None else shown(verdict.answer)
            return reasons.WRONG_ANSWER, f"found {found}; {asked}"

        _sift_traces(rows, drops, fault)


def _sift(rows: list[Judged], drops: list[Drop], fault: Callable[[Judged], tuple[str, str] | None]) -> list[Judged]:
    kept = []
    for row in rows:
        if found := fault(row):
            drops.append(Drop(row=row.row, trace=None, reason=found[0], detail=found[1], traces=len(row.kept)))
        else:
            kept.append(row)
    return kept


def _sift_traces(rows: list[Judged], drops: list[Drop], fault: Callable[[Judged, int], tuple[str, str] | None]) -> None:
    for row in rows:
        faults: Iterator[tuple[int, tuple[str, str] | None]] = ((position, fault(row, position)) for position in row.kept)
        kept = []
        for position, found in faults:
            if found:
                drops.append(Drop(row=row.row, trace=position, reason=found[0], detail=found[1]))
            else:
                kept.append(position)
        row.kept = kept


def _trace(row: Judged, position: int) -> Trace:
    return row.example.traces[position]
