"""Lengths of prompts and traces in tokens, as the trainer will count them: of texts, and of the rows of whole files.

Every row of a file is counted where that is quick. Of a large file the longest rows by bytes come first, until the time is over,
and the result says how many were counted: a row that was not counted has fewer bytes than each that was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from luffy.data.schema import MESSAGES
from luffy.errors import InputError
from luffy.progress import Bar
from luffy.traces import PROMPT, TARGET, THINK_CLOSE, read_traces, without_doubled_opening

TIME_LIMIT_S = 40.0
STAGES = (0.001, 0.004, 0.02, 0.1, 0.3, 1.0)  # shares of the rows, the longest first
ROWS_AT_ONCE = 64
_TEXTS_AT_ONCE = 32  # bounds the memory of a call; a fast tokenizer spreads them over the cores


class TokenCounter:
    """Renders prompts and counts tokens, many texts a call.

    Args:
        tokenizer: a Hugging Face tokenizer with EOS and chat template.
        template_arguments: further arguments of the chat template.
    """

    def __init__(self, tokenizer: Any, template_arguments: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._template_arguments = dict(template_arguments or {})
        backend = getattr(tokenizer, "backend_tokenizer", None)
        # The backend without offsets, which nobody reads here, is twice as fast; but it obeys a saved truncation.
        plain = backend is not None and backend.truncation is None and backend.padding is None
        self._backend = backend if plain else None

    def render(self, prompt: Sequence[Mapping[str, str]]) -> str:
        """The prompt as the model sees it.

        Raises:
            InputError: where the chat template refuses the messages.
        """
        import jinja2

        try:
            return self._tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=False, **self._template_arguments)
        except jinja2.TemplateError as error:
            advice = ""
            if any(message["role"] == "system" for message in prompt):
                advice = "; where it has no system role, prepare the data with --system-prompt none"
            raise InputError(f"the tokenizer's chat template refuses the prompt ({error}){advice}") from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        counts: list[int] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            if self._backend is not None:
                counts.extend(map(len, self._backend.encode_batch_fast(part, add_special_tokens=False)))
            else:
                encoded = self._tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)
                counts.extend(map(len, encoded["input_ids"]))
        return counts

    def count_traces(self, texts: Sequence[str], rendered_prompts: Sequence[str]) -> list[int]:
        """Tokens of each (trace + EOS) after its rendered prompt, as :func:`luffy.traces.trace_tokens` gives them."""
        pairs = zip(texts, rendered_prompts, strict=True)
        return [count + 1 for count in self.count([without_doubled_opening(text, prompt) for text, prompt in pairs])]


@dataclass(frozen=True, kw_only=True)
class RowLengths:
    """Lengths of one file's rows, in tokens; a row with several traces has one entry for each.

    Attributes:
        rows: rows of the file.
        counted: of them, those that were counted: all, or the longest.
        prompts: rendered prompt of each counted row.
        traces: (trace + EOS) of each trace of the counted rows; empty where traces do not count.
        samples: prompt and (trace + EOS) together, for each of ``traces``.
        without_thought: how many of ``traces`` do not close a thought (``</think>``).
        seconds: how long the counting took.
    """

    rows: int
    counted: int
    prompts: list[int] = field(default_factory=list)
    traces: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    without_thought: int = 0
    seconds: float = 0.0


def measure_rows(
    file: str | Path,
    tokenizer: Any,
    *,
    with_traces: bool,
    template_arguments: Mapping[str, Any] | None = None,
    max_rows: int = -1,
    time_limit_s: float = TIME_LIMIT_S,
) -> RowLengths:
    """Count a file's rows as the trainer will see them.

    Args:
        file: parquet, in the training, the evaluation or the SFT layout.
        tokenizer: a Hugging Face tokenizer with chat template and EOS.
        with_traces: whether traces count.
        template_arguments: further arguments of the chat template (``data.apply_chat_template_kwargs``).
        max_rows: look at the first so many rows; -1 at all.
        time_limit_s: seconds after which no further stage begins.

    Raises:
        InputError: a row that the chat template refuses, or traces of another type.
    """
    sizes = _row_bytes(Path(file), with_traces)[: max_rows if max_rows >= 0 else None]
    order = np.argsort(-sizes, kind="stable")
    counter = TokenCounter(tokenizer, template_arguments)
    lengths = RowLengths(rows=len(sizes), counted=0)
    start, done, counted, without_thought = time.monotonic(), 0, 0, 0
    with Bar(total=len(sizes), unit=" rows", desc=f"lengths of {Path(file).name}", delay=3.0) as bar:
        for share in STAGES:
            wanted = order[counted : max(1, round(share * len(order)))]
            bytes_wanted, seconds = int(sizes[wanted].sum()), time.monotonic() - start
            if done and seconds + bytes_wanted * seconds / done > time_limit_s:
                break
            for rows in _rows_at(Path(file), wanted, with_traces):
                without_thought += _count(rows, counter, lengths, str(file))
                bar.update(len(rows))
            done, counted = done + bytes_wanted, counted + len(wanted)
    return replace(lengths, counted=counted, without_thought=without_thought, seconds=time.monotonic() - start)


def _columns(file: Path, with_traces: bool) -> list[str]:
    names = pq.read_schema(file).names
    if PROMPT not in names and MESSAGES in names:
        return [MESSAGES]
    return [PROMPT, TARGET] if with_traces and TARGET in names else [PROMPT]


def _row_bytes(file: Path, with_traces: bool) -> np.ndarray:
    """Bytes of all messages of each row, int64 [rows]; without a Python object a row."""
    parts = []
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=1024, columns=_columns(file, with_traces)):
            sizes: np.ndarray = np.zeros(len(batch), dtype=np.int64)
            for column in (each for each in batch.columns if not pa.types.is_null(each.type)):
                texts = pc.struct_field(pc.list_flatten(column), "content").cast(pa.large_string())
                lengths = pc.fill_null(pc.binary_length(texts), 0)
                parents = pc.list_parent_indices(column).to_numpy()
                sizes += np.bincount(parents, weights=lengths.to_numpy(), minlength=len(batch)).astype(np.int64)
            parts.append(sizes)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _rows_at(file: Path, rows: np.ndarray, with_traces: bool) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """The named rows, in the file's order, some at a time."""
    wanted, first = np.sort(rows), 0
    with pq.ParquetFile(file) as source:
        for batch in source.iter_batches(batch_size=ROWS_AT_ONCE, columns=_columns(file, with_traces)):
            here = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + len(batch))]
            if len(here):
                yield list(zip(here.tolist(), batch.take(pa.array(here - first)).to_pylist(), strict=True))
            first += len(batch)


def _count(rows: Sequence[tuple[int, dict[str, Any]]], counter: TokenCounter, lengths: RowLengths, file: str) -> int:
    """Add the lengths of some rows; returns how many of their traces close no thought."""
    rendered, traces = [], []
    for number, row in rows:
        *prompt, trace = row[MESSAGES] if MESSAGES in row else (*row[PROMPT], None)
        try:
            rendered.append(counter.render(prompt))
            traces.append([each.text for each in read_traces([trace] if trace else row.get(TARGET))])
        except InputError as error:
            raise InputError(f"{file} row {number}: {error}") from error
    prompts = counter.count(rendered)
    flat = [(text, place) for place, texts in enumerate(traces) for text in texts]
    counts = counter.count_traces([text for text, _ in flat], [rendered[place] for _, place in flat])
    lengths.prompts.extend(prompts)
    lengths.traces.extend(counts)
    lengths.samples.extend(count + prompts[place] for count, (_, place) in zip(counts, flat, strict=True))
    return sum(THINK_CLOSE not in text for text, _ in flat)
