"""From token values to a number that adds up over micro-batches and ranks.

Shapes: B rows (responses), T response tokens. A *selection* is a part of the tokens: those of one origin (all, on_policy, off_policy), of
rows of one verdict (all, right, wrong).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from luffy.errors import InputError

Aggregation = Literal["constant", "token_mean", "sequence_mean"]
Divisor = Literal["constant", "own_tokens", "own_rows"]
Origin = Literal["all", "on_policy", "off_policy"]
OfRows = Literal["all", "right", "wrong"]

_ORIGINS: tuple[Origin, ...] = ("all", "on_policy", "off_policy")
_VERDICTS: tuple[OfRows, ...] = ("wrong", "right")


class Selection(NamedTuple):
    """A part of the tokens: those of one origin, in rows of one verdict."""

    origin: Origin = "all"
    rows: OfRows = "all"

    def mask(self, response_mask: Tensor, off_policy: Tensor, row_correct: Tensor | None) -> Tensor:
        """Its tokens.

        Args:
            response_mask, off_policy: [B, T] bool.
            row_correct: [B] bool; None where there are no verdicts.

        Returns:
            [B, T] bool.

        Raises:
            InputError: it asks for rows of one verdict, and there are none.
        """
        chosen = response_mask
        if self.origin != "all":
            chosen = chosen & (off_policy if self.origin == "off_policy" else ~off_policy)
        if self.rows != "all":
            if row_correct is None:
                raise InputError(f"a stream of {self.rows} rows needs row_correct, which is None; pass it")
            chosen = chosen & (row_correct.bool() == (self.rows == "right")).unsqueeze(-1)
        return chosen


EVERYTHING = Selection()


@dataclass(frozen=True)
class BatchTotals:
    """Numbers of the whole mini-batch, over all its micro-batches and ranks.

    Attributes:
        tokens: response tokens.
        sequences: rows with at least one response token; in a training veRL's number, which counts padding rows and withheld ones too.
        own: [3, 2, 2] integers, tokens and rows of each selection: by origin (all, on_policy, off_policy), by verdict (wrong, right).
            None: not known, which is enough for a loss none of whose streams divides by its own tokens or rows.
        computed: response tokens of the rows that are computed, over which metrics are means; None: all.
    """

    tokens: float | Tensor
    sequences: float | Tensor
    own: Tensor | None = None
    computed: float | Tensor | None = None

    @classmethod
    def of(cls, response_mask: Tensor, off_policy_mask: Tensor | None = None, row_correct: Tensor | None = None) -> BatchTotals:
        """The numbers of one batch; those of its parts add up to them.

        Args:
            response_mask: [B, T] bool.
            off_policy_mask: [B, T] bool, the tokens that a demonstration gave; None: their numbers are not needed.
            row_correct: [B] bool; None: no row counts as right.
        """
        mask = response_mask.bool()
        own = None if off_policy_mask is None else count(mask, off_policy_mask.bool(), row_correct)
        lengths = mask.sum(dim=-1)
        return cls(tokens=lengths.sum(), sequences=(lengths > 0).sum(), own=own)

    def __add__(self, other: BatchTotals) -> BatchTotals:
        own = None if self.own is None or other.own is None else self.own + other.own
        computed = None if self.computed is None or other.computed is None else self.computed + other.computed
        return BatchTotals(tokens=self.tokens + other.tokens, sequences=self.sequences + other.sequences, own=own, computed=computed)

    def tokens_of(self, selection: Selection) -> float | Tensor:
        """Number of a selection's tokens."""
        return self.tokens if selection == EVERYTHING else self._number(selection, 0)

    def rows_of(self, selection: Selection) -> float | Tensor:
        """Number of rows with a token of the selection."""
        return self.sequences if selection == EVERYTHING and self.own is None else self._number(selection, 1)

    def _number(self, selection: Selection, of: int) -> Tensor:
        if self.own is None:
            raise InputError(
                "a stream divides by its own tokens or rows, which totals does not have: make it by "
                "BatchTotals.of(response_mask, off_policy_mask, row_correct) of the whole mini-batch"
            )
        numbers = self.own[_ORIGINS.index(selection.origin), :, of]
        return numbers.sum() if selection.rows == "all" else numbers[_VERDICTS.index(selection.rows)]


def count(response_mask: Tensor, off_policy: Tensor, row_correct: Tensor | None) -> Tensor:
    """Tokens and rows of every selection of a batch: [3, 2, 2] int64, as in :class:`BatchTotals`; those of parts of a batch add up."""
    lengths, given = response_mask.sum(dim=-1), (response_mask & off_policy).sum(dim=-1)
    tokens = torch.stack([lengths, lengths - given, given])  # [3, B], in the order of _ORIGINS
    right = torch.zeros_like(lengths, dtype=torch.bool) if row_correct is None else row_correct.bool()
    numbers, chosen = torch.stack([tokens, (tokens > 0).long()], dim=-1), torch.stack([~right, right])
    return (numbers[:, None] * chosen[:, :, None]).sum(dim=2)


@dataclass(frozen=True)
class Aggregator:
    """How the token values of one batch become numbers.

    Attributes:
        response_mask: [B, T] bool, true on the tokens that count.
        off_policy: [B, T] bool, true on the tokens that a demonstration gave.
        row_correct: [B] bool; None: no verdicts.
        totals: numbers of the whole mini-batch that this batch is a part of.
        aggregation: "constant", "token_mean" or "sequence_mean".
        constant_length: divisor of "constant", in tokens.
        policy: the tokens of the policy stream.
        terms: gets all that is aggregated; None: nobody asks for it.
    """

    response_mask: Tensor
    off_policy: Tensor
    row_correct: Tensor | None
    totals: BatchTotals
    aggregation: Aggregation
    constant_length: int
    policy: Selection
    terms: list[Tensor] | None = None

    def clean(self, values: Tensor) -> Tensor:
        """The values with 0 on the tokens that do not count, whatever they held (NaN included), in the gradient too."""
        return torch.where(self.response_mask, values, 0.0)

    def mask(self, selection: Selection) -> Tensor:
        """[B, T] bool: the tokens of a selection."""
        return selection.mask(self.response_mask, self.off_policy, self.row_correct)

    def aggregate(self, values: Tensor, divisor: Divisor | None = None, selection: Selection = EVERYTHING) -> Tensor:
        """This batch's part of the mini-batch's aggregate.

        Args:
            values: [B, T], 0 on every token that does not count.
            divisor: "constant", or the number of the tokens or of the rows of ``selection``; None: as the policy stream.
            selection: the tokens whose values these are.
        """
        if self.terms is not None:
            self.terms.append(values)
        if divisor == "own_tokens":
            return values.sum() / _at_least_one(self.totals.tokens_of(selection))
        if divisor == "own_rows":
            return values.sum() / _at_least_one(self.totals.rows_of(selection))
        if divisor == "constant" or self.aggregation == "constant":
            return values.sum(dim=-1).sum() / self.constant_length  # rows first: veRL's order, so the same bits
        if self.aggregation == "token_mean":
            return values.sum() / _at_least_one(self.totals.tokens_of(self.policy))
        lengths = self.mask(self.policy).sum(dim=-1)
        if self.policy != EVERYTHING:  # a row without tokens of the policy stream: by all of its own
            lengths = torch.where(lengths > 0, lengths, self.response_mask.sum(dim=-1))
        lengths = lengths.clamp(min=1)
        rows = self.totals.sequences if self.policy == EVERYTHING else self.totals.rows_of(self.policy)
        return (values.sum(dim=-1) / lengths).sum() / _at_least_one(rows)

    def share(self, values: Tensor, tokens: Tensor | None = None) -> Tensor:
        """This batch's part of the mean over all response tokens that are computed.

        Args:
            values: [B, T], bool or finite float, 0 (false) on padding unless ``tokens`` is given.
            tokens: [B, T] of the values' float dtype, 1 on the tokens to sum over and 0 elsewhere; None: all.
        """
        if tokens is not None:
            total = torch.dot(values.reshape(-1), tokens.reshape(-1))
        else:
            total = values.sum()
        number = self.totals.tokens if self.totals.computed is None else self.totals.computed
        return (total.double() if total.dtype == torch.int64 else total) / _at_least_one(number)


def _at_least_one(number: float | Tensor) -> float | Tensor:
    return number.clamp(min=1) if isinstance(number, Tensor) else max(number, 1)
