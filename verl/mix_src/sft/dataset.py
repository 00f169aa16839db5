"""Demonstrations as samples for veRL's SFT trainer, in the very tokens that reinforcement learning forces.

The prompt is rendered by the chat template with its generation prompt (and the thought tag that this may open); the
trace follows, tokenized on its own, and ends with EOS. veRL's own dataset renders the whole chat at once instead, which
can merge tokens across the border, and trains the line break that a template writes after EOS.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from luffy.data.schema import MESSAGES
from luffy.errors import InputError
from luffy.traces import PROMPT, TARGET, Trace, read_traces, trace_tokens

PROMPT_END_TOKENS = 16  # enough to see a thought tag that the prompt has opened

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """One prompt with one trace, and where it was read."""

    prompt: list[dict[str, str]]
    trace: Trace
    where: str


class DemonstrationDataset(Dataset):
    """One sample for each trace of the files.

    A file has the training layout (``prompt`` and ``target``; each of a row's traces is a sample) or the SFT layout
    (``messages``; the last one is the trace). Only the trace and its EOS are learnt.

    Args:
        parquet_files: one path or several.
        tokenizer: of the model, with a chat template and an EOS token.
        config: veRL's ``data`` node; read are ``max_length`` (tokens) and ``apply_chat_template_kwargs``.
        processor: unused; veRL passes it.
        max_samples: use the first so many samples; -1 uses all.

    Raises:
        InputError: where a file has neither layout, or no trace at all.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Mapping[str, Any],
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        samples = [sample for file in files for sample in _read(file)]
        if not samples:
            raise InputError(f"{', '.join(files)}: no row has a trace; there is nothing to imitate")
        self._samples = samples if max_samples < 0 else samples[:max_samples]
        self._tokenizer = tokenizer
        self._max_length = config["max_length"]
        self._template_arguments = dict(config.get("apply_chat_template_kwargs") or {})

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One sample.

        Returns:
            ``input_ids``, ``position_ids`` and ``loss_mask`` (1 on the trace and its EOS), each int64 of shape [T].

        Raises:
            InputError: where prompt, trace and EOS have more than ``data.max_length`` tokens.
        """
        sample = self._samples[index]
        prompt_ids = self._tokenizer.apply_chat_template(
            sample.prompt, add_generation_prompt=True, tokenize=True, return_dict=False, **self._template_arguments
        )
        prompt_end = self._tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:])
        response_ids = trace_tokens(sample.trace, self._tokenizer, prompt_ends_with=prompt_end)
        length = len(prompt_ids) + len(response_ids)
        if length > self._max_length:
            raise InputError(
                f"{sample.where}: prompt and trace have {length} tokens, more than data.max_length={self._max_length}; "
                "raise it, or filter the file when it is prepared (a cut trace would teach no ending)"
            )
        return {
            "input_ids": torch.tensor([*prompt_ids, *response_ids]),
            "position_ids": torch.arange(length),
            "loss_mask": torch.tensor([0] * len(prompt_ids) + [1] * len(response_ids)),
        }


def _read(file: str) -> Iterator[_Sample]:
    columns = pq.read_schema(file).names
    if PROMPT in columns and TARGET in columns:
        return _training_rows(file)
    if MESSAGES in columns:
        return _message_rows(file)
    raise InputError(
        f"{file}: has columns {', '.join(columns)}; training needs '{PROMPT}' and '{TARGET}', or '{MESSAGES}' (data/prepare_sft.py)"
    )


def _training_rows(file: str) -> Iterator[_Sample]:
    rows = pq.read_table(file, columns=[PROMPT, TARGET]).to_pylist()
    without = 0
    for number, row in enumerate(rows):
        traces = read_traces(row[TARGET])
        without += not traces
        for trace in traces:
            yield _Sample(prompt=row[PROMPT], trace=trace, where=f"{file}, row {number}")
    if without:
        logger.warning("%s: %d of %d rows have no trace and are left out", file, without, len(rows))


def _message_rows(file: str) -> Iterator[_Sample]:
    for number, row in enumerate(pq.read_table(file, columns=[MESSAGES]).to_pylist()):
        *prompt, last = row[MESSAGES]
        (trace,) = read_traces([last]) or (None,)
        if trace is None or not prompt:
            raise InputError(f"{file}, row {number}: '{MESSAGES}' must be a prompt and one assistant message with text")
        yield _Sample(prompt=prompt, trace=trace, where=f"{file}, row {number}")
