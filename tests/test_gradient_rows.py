"""Rows that a gradient comes from: what is left out has none, in any configuration, and what is kept has one."""

from __future__ import annotations

import pytest
import torch
from test_objective_properties import CONFIGS

from luffy.objective import BatchTotals, ObjectiveConfig, mixed_policy_loss
from luffy.objective.gradient_rows import rows_with_gradient
from luffy.objective.parts import Constant, Verdict

B, T = 8, 5
RIGHT = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0]).bool()
OFF = torch.zeros(B, T).bool()
OFF[0], OFF[2], OFF[5, :2], OFF[6, :2] = True, True, True, True  # whole and partial demonstrations, right and wrong
MASK = torch.ones(B, T).bool()
MASK[3, 2:], MASK[7] = False, False  # a shorter row; padding
ADVANTAGES = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 1.0]).unsqueeze(1).expand(B, T)


def gradients(config: ObjectiveConfig, alpha: float, step: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the loss of some rows by their log-probabilities and entropies, [B, T] each, 0 in the others."""
    generator = torch.Generator().manual_seed(step)
    log_prob, old, teacher, reference = (-2 * torch.rand(4, B, T, generator=generator, dtype=torch.float64) - 0.1).unbind()
    entropy = torch.rand(B, T, generator=generator, dtype=torch.float64)
    log_prob.requires_grad_()
    entropy.requires_grad_()
    of_rows = {
        "log_prob": log_prob, "old_log_prob": old, "advantages": ADVANTAGES.double(), "response_mask": MASK, "off_policy_mask": OFF,
        "entropy": entropy, "ref_log_prob": reference, "teacher_log_prob": teacher, "row_correct": RIGHT,
    }  # fmt: skip
    totals = BatchTotals.of(MASK, OFF & MASK, RIGHT)
    chosen = {name: tensor[rows] for name, tensor in of_rows.items()}
    mixed_policy_loss(**chosen, entropy_coefficient=alpha, step=step, totals=totals, config=config).loss.backward()
    return log_prob.grad, entropy.grad


def found(config: ObjectiveConfig, alpha: float = 0.0, step: int = 0, **options) -> torch.Tensor:
    return rows_with_gradient(
        advantages=ADVANTAGES, response_mask=MASK, off_policy_mask=OFF, row_correct=RIGHT, entropy_coefficient=alpha, step=step,
        config=config, **options,
    )  # fmt: skip


WITHOUT = ObjectiveConfig(off_policy_weight=0.0)
OTHERS = [
    ObjectiveConfig(),
    WITHOUT,
    ObjectiveConfig(advantage=Constant(), on_policy_weight=0.0),
    ObjectiveConfig(kl_to_old_coefficient=0.1),
]


@pytest.mark.parametrize("alpha", [0.0, 0.01])
@pytest.mark.parametrize("config", [*CONFIGS, *OTHERS])
def test_the_other_rows_have_none_and_the_sum_is_the_same(config, alpha):
    for step in (0, 3):
        needed = found(config, alpha, step)
        every = gradients(config, alpha, step, torch.ones(B).bool())
        alone = gradients(config, alpha, step, needed)
        for whole, part in zip(every, alone, strict=True):
            assert whole[~needed].eq(0).all()
            assert whole.equal(part)


@pytest.mark.parametrize(("config", "rows"), [
    (ObjectiveConfig(), {4, 5}),
    (WITHOUT, {4, 5}),  # the rollout's part of row 5
    (ObjectiveConfig(policy_tokens="on_policy"), {4, 5}),
    (ObjectiveConfig(sft_coefficient=1.0), {0, 2, 4, 5, 6}),
    (ObjectiveConfig(sft_coefficient=1.0, sft_rows="right"), {0, 4, 5}),
    (ObjectiveConfig(kl_coefficient=0.1), set(range(7))),
    (ObjectiveConfig(distill_coefficient=0.1, distill_rows="wrong", distill_tokens="on_policy"), {3, 4, 5, 6}),
    (ObjectiveConfig(advantage=Constant()), {0, 2, 4, 5, 6}),
    (ObjectiveConfig(on_policy_advantage=Verdict()), {1, 3, 4, 5, 6}),
    (ObjectiveConfig(policy_coefficient=0.0, sft_coefficient=1.0), {0, 2, 5, 6}),
])  # fmt: skip
def test_rows_by_hand(config, rows):
    assert set(found(config).nonzero().flatten().tolist()) == rows


def test_a_bonus_needs_every_row_unless_it_is_told_otherwise():
    assert found(ObjectiveConfig(), alpha=0.01).tolist() == [True] * 7 + [False]
    assert set(found(ObjectiveConfig(kl_coefficient=0.1), alpha=0.01, regularized=False).nonzero().flatten().tolist()) == {4, 5}
    on_policy = found(ObjectiveConfig(entropy_tokens="on_policy"), alpha=0.01)
    assert set(on_policy.nonzero().flatten().tolist()) == {1, 3, 4, 5, 6}
