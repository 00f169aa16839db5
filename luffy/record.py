"""What a group did, whole, at some steps: which groups are kept, and the parquet files that keep them (``luffy.record``).

``RUN/groups/step_N.parquet`` has a line a response of a group, ``RUN/groups/heldout_N.parquet`` one for each held-out answer. A group is
a row group of its file, so that a reader opens one without the others. Shapes: T tokens of a response.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from luffy.digests import uniform
from luffy.errors import InputError
from luffy.files import replacing
from luffy.settings import settings

FOLDER = "groups"  # in a run's folder
FILE = re.compile(r"(?P<split>step|heldout)_(?P<step>\d+)\.parquet")
ROLLOUT, TEACHER, GREEDY_ANSWER = "rollout", "teacher", "greedy"  # where a response comes from; a teacher's name follows
FOLLOWED, BY_HASH, BY_GRADIENT, HELD_OUT = "followed", "hash", "gradient", "held-out"  # why a group was chosen
VALUES = ("old_probability", "ratio", "entropy", "loss", "gradient_weight")
BROKEN = "\N{REPLACEMENT CHARACTER}"

_Count = Annotated[int, Field(ge=0)]


@settings("luffy.record")
class RecordConfig:
    """Which groups of a run are kept whole, for ``eval_scripts/view.py``."""

    every: _Count = 10
    """Steps from one record to the next; the first step has one too. 0 records nothing. Paper: not used."""

    groups: _Count = 8
    """Groups of a record that a hash of their prompt chooses: the same prompts in every epoch and run. The first so many prompts of
    the data by that hash are recorded at every step at which they come. Also the number of held-out problems of each validation whose
    answers are kept with their texts. Paper: not used."""

    largest: _Count = 2
    """Further groups of a record: those with the largest shares of the step's gradient. Paper: not used."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """One response of a recorded group.

    Attributes:
        group: name of its group, unique in its file; the responses of a group follow each other.
        chosen: why the group was chosen.
        gradient_share: the group's share of the step's Σ|gradient weight|, in [0, 1]; None where there is no gradient.
        prompt_key: the prompt's place in the data; -1 where that is not known.
        data_source: of the prompt.
        prompt: rendered, as the model saw it.
        source: ``rollout``, ``teacher NAME`` or ``replay``; of a held-out answer ``rollout`` or ``greedy``.
        trace: digest of the tokens that a demonstration forced; empty without any.
        reason: of the verdict, :class:`luffy.rewards.Reason`; empty where nobody judged.
        answer: that the verifier read.
        reward: of the response.
        advantage: of the response; None where it has none.
        tokens: texts of the T tokens, which join to the response.
        forced: bool [T], tokens that a demonstration gave.
        values: float32 [T] each, of :data:`VALUES`; what was not computed is absent. Probability and ratio have no unit, entropy is in
            nats, loss and gradient weight are those of :class:`luffy.objective.TokenValues`.
    """

    group: str
    chosen: str
    gradient_share: float | None = None
    prompt_key: int = -1
    data_source: str = ""
    prompt: str
    source: str = ROLLOUT
    trace: str = ""
    reason: str = ""
    answer: str = ""
    reward: float
    advantage: float | None = None
    tokens: Sequence[str]
    forced: np.ndarray | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)


FACTS = pa.schema(
    [
        ("group", pa.string()),
        ("chosen", pa.string()),
        ("gradient_share", pa.float64()),
        ("prompt_key", pa.int64()),
        ("data_source", pa.string()),
        ("prompt", pa.string()),
        ("source", pa.string()),
        ("trace", pa.string()),
        ("reason", pa.string()),
        ("answer", pa.string()),
        ("reward", pa.float64()),
        ("advantage", pa.float64()),
        ("length", pa.int64()),
        ("weight", pa.float64()),
    ]
)
"""Columns of a response as a whole; ``length`` is its number of tokens, ``weight`` its Σ|gradient weight|."""
TOKENS = pa.schema(
    [
        ("tokens", pa.list_(pa.string())),
        ("forced", pa.list_(pa.bool_())),
        *((name, pa.list_(pa.float32())) for name in VALUES),
    ]
)
"""Columns of a list a response, one entry a token; null where nothing was computed."""


_NEVER_NULL = (*(each.name for each in FACTS if each.type == pa.string()), "prompt_key", "length")


def record_file(folder: Path, step: int, *, held_out: bool = False) -> Path:
    """Where the record of a step goes, in a run's folder."""
    return folder / FOLDER / f"{'heldout' if held_out else 'step'}_{step}.parquet"


def recorded_files(folder: Path) -> list[tuple[int, bool, Path]]:
    """Step, whether it is of held-out answers, and path of each record in a run's folder, by step."""
    found = [(int(match["step"]), match["split"] == "heldout", path) for path in _files(folder) if (match := FILE.fullmatch(path.name))]
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    return (folder / FOLDER).glob("*.parquet")


def forget_after(folder: Path, step: int) -> None:
    """Remove the records of later steps than ``step``, where a run goes on after it."""
    for recorded, _, path in recorded_files(folder):
        if recorded > step:
            path.unlink()


def followed_prompts(n_prompts: int, config: RecordConfig) -> frozenset[int]:
    """The prompts (places in the data, of ``n_prompts``) that are recorded whenever they come."""
    return frozenset(nsmallest(config.groups, range(n_prompts), key=_draw)) if config.every else frozenset()


def chosen_groups(
    prompts: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    followed: Collection[int],
    whole: bool,
    config: RecordConfig,
) -> dict[str, str]:
    """The groups of a step that are recorded.

    Args:
        prompts: place of its prompt by group.
        weights: Σ|gradient weight| by group.
        followed: places of the prompts that are recorded whenever they come.
        whole: whether a record is due; else the followed ones alone are taken.
        config: the numbers of groups.

    Returns:
        Why, by group: first the followed ones, then those by hash, then those by gradient share.
    """
    chosen = {group: FOLLOWED for group, place in prompts.items() if place in followed}
    if whole:
        by_hash = nsmallest(config.groups, prompts, key=lambda group: (_draw(prompts[group]), group))
        chosen |= {group: BY_HASH for group in by_hash if group not in chosen}
        others = [group for group in prompts if group not in chosen and weights.get(group, 0.0) > 0]
        chosen |= dict.fromkeys(nlargest(config.largest, others, key=lambda group: (weights[group], group)), BY_GRADIENT)
    return chosen


def _draw(place: int) -> float:
    return uniform("record", place)


def write_record(path: Path, responses: Iterable[Response]) -> None:
    """Write a record, whole or not at all.

    Raises:
        ValueError: where a response's lists are not of one length.
    """
    schema = pa.schema([*FACTS, *TOKENS])
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for _, group in groupby(responses, key=lambda response: response.group):
            writer.write_table(pa.Table.from_pylist([_line(response) for response in group], schema=schema))


def _line(response: Response) -> dict[str, Any]:
    length = len(response.tokens)
    for name, values in {"forced": response.forced, **response.values}.items():
        if values is not None and len(values) != length:
            raise ValueError(f"{name} has {len(values)} entries for {length} tokens")
    texts = {name: as_text(getattr(response, name)) for name in FACTS.names if FACTS.field(name).type == pa.string()}
    weights = response.values.get("gradient_weight")
    numbers = {name: getattr(response, name) for name in ("gradient_share", "prompt_key", "reward", "advantage")}
    lists = {name: response.values.get(name) for name in VALUES} | {"forced": response.forced}
    return {
        **texts,
        **numbers,
        "length": length,
        "weight": None if weights is None else float(np.abs(weights).sum(dtype=np.float64)),
        "tokens": [as_text(token) for token in response.tokens],
        **lists,
    }


def as_text(text: str) -> str:
    """A text that UTF-8 can hold: a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_facts(path: Path) -> list[list[dict[str, Any]]]:
    """The groups of a record, each a list of its responses' :data:`FACTS`; the tokens are read and dropped, since they may be broken.

    Raises:
        InputError: where the file is no record, or is broken anywhere.
    """
    with _opened(path) as file:
        groups = [file.read_row_group(number).select(FACTS.names).to_pylist() for number in range(file.num_row_groups)]
    if any(row[name] is None for rows in groups for row in rows for name in _NEVER_NULL):
        raise InputError(f"{path}: is no record of groups (a text is null); remove it")
    return groups


def read_group(path: Path, number: int) -> pa.Table:
    """One group of a record, with all its columns; groups are numbered from 0.

    Raises:
        InputError: where the file is no record, or has no such group.
    """
    with _opened(path) as file:
        if not 0 <= number < file.num_row_groups:
            raise InputError(f"{path}: no group {number}; it has {file.num_row_groups}")
        return file.read_row_group(number)


def read_groups(path: Path) -> Iterator[pa.Table]:
    """All groups of a record, in order; otherwise as :func:`read_group`."""
    with _opened(path) as file:
        yield from (file.read_row_group(number) for number in range(file.num_row_groups))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """The file of a record; what breaks while the body reads it is an InputError, too."""
    try:
        with _checked(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]}); remove it") from error


def _checked(path: Path) -> pq.ParquetFile:
    file = pq.ParquetFile(path)
    if missing := [name for name in (*FACTS.names, *TOKENS.names) if name not in file.schema_arrow.names]:
        file.close()
        raise InputError(f"{path}: is no record of groups (no column {missing[0]}); remove it")
    other = [field.name for field in (*FACTS, *TOKENS) if file.schema_arrow.field(field.name).type != field.type]
    if other or any(file.metadata.row_group(number).num_rows == 0 for number in range(file.num_row_groups)):
        file.close()
        what = f"column {other[0]} is of another type" if other else "a group without responses"
        raise InputError(f"{path}: is no record of groups ({what}); remove it")
    return file


class TokenTexts:
    """Texts of single tokens, which join to the text of all of them.

    A character whose bytes are spread over several tokens stands at the last of them; bytes that are no character are U+FFFD.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}
        self._anchor = tokenizer.encode("a", add_special_tokens=False)[-1:]  # a tokenizer may drop the space that begins a text
        self._anchor_text = self._decode(self._anchor)

    def __call__(self, tokens: Sequence[int]) -> list[str]:
        """Texts of [T] token ids."""
        for token in set(tokens) - self._known.keys():
            self._known[token] = self._after([token])
        texts = [self._known[token] for token in tokens]
        start = 0
        while start < len(texts):
            if BROKEN not in texts[start]:
                start += 1
                continue
            end = start
            while end < len(texts) and BROKEN in texts[end]:
                end += 1
            self._mend(tokens, texts, start, end)
            start = end
        return texts

    def _mend(self, tokens: Sequence[int], texts: list[str], start: int, end: int) -> None:
        """Give each character of a run of broken tokens to the token that completes it."""
        first = start
        for place in range(start, end):
            whole = self._after(tokens[first : place + 1])
            if BROKEN in whole and place + 1 < end:
                texts[place] = ""
            else:
                texts[place], first = whole, place + 1

    def _after(self, tokens: Sequence[int]) -> str:
        return self._decode([*self._anchor, *tokens]).removeprefix(self._anchor_text)

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
