"""What a training has cost, from its metrics file: tokens, forward passes, demonstrations, and the floating-point operations of them.

A step of any method logs (verl/mix_src/rl/batch.py, verl/mix_src/sft/trainer.py):

    ledger/generated_tokens    response tokens that the policy wrote, those of rounds that were rolled again included
    ledger/trained_tokens      response tokens that count in the update
    ledger/processed_tokens    prompts and responses of the step's rows
    ledger/forwarded_tokens    those that went through a forward pass of their own before the update, and kept rows that were looked at
    batch/left_out_share       share of the processed tokens that the update leaves out, as they have no gradient
    ledger/traces              rows that were given a demonstration of the data, whole or in part
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

GENERATED, TRAINED = "ledger/generated_tokens", "ledger/trained_tokens"
PROCESSED, TRACES = "ledger/processed_tokens", "ledger/traces"
FORWARDED, LEFT_OUT = "ledger/forwarded_tokens", "batch/left_out_share"
OWN_UPDATE = "sft/"  # the same names after it: of an update beside the step's own, as ReLIFT's
REFERENCE = "timing_s/ref"  # a step that has it went forward over all its rows with the reference or the teacher


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Costs of a training, or of a part of it.

    Attributes:
        steps: training steps.
        generated: tokens that the policy wrote.
        trained: response tokens that counted in an update.
        processed: prompt and response tokens that went forward and backward through an update.
        forwarded: tokens of all forward passes without a backward one (old policy where it needs its own, reference or teacher, kept rows).
        traces: rows that were given a demonstration of the data.
    """

    steps: int = 0
    generated: float = 0.0
    trained: float = 0.0
    processed: float = 0.0
    forwarded: float = 0.0
    traces: float = 0.0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    def flops(self, parameters: int) -> float:
        """Floating-point operations of a model of N parameters: 6N a token of an update, 2N a generated and 2N a forwarded one.

        Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1; attention's own share, which grows with the length, is left out.
        """
        return parameters * (6 * self.processed + 2 * self.generated + 2 * self.forwarded)


def read_ledger(records: Sequence[Mapping[str, Any]], *, until: int | None = None) -> Ledger:
    """The costs of a run's steps.

    Args:
        records: as :func:`luffy.training_report.read_metrics` returns them; looks at held-out problems alone cost nothing here.
        until: the last step that counts; None: all.
    """
    steps = [record["data"] for record in records if until is None or record["step"] <= until]
    return sum((of_step(data) for data in steps if TRAINED in data), Ledger())


def of_step(data: Mapping[str, Any]) -> Ledger:
    """The costs of one step, from its metrics."""
    processed = data.get(PROCESSED, 0.0)
    return Ledger(
        steps=1,
        generated=data.get(GENERATED, 0.0),
        trained=data[TRAINED] + data.get(OWN_UPDATE + TRAINED, 0.0),
        processed=processed * (1 - data.get(LEFT_OUT, 0.0)) + data.get(OWN_UPDATE + PROCESSED, 0.0),
        forwarded=data.get(FORWARDED, 0.0) + (processed if REFERENCE in data else 0.0),
        traces=data.get(TRACES, 0.0) + data.get(OWN_UPDATE + TRACES, 0.0),
    )
