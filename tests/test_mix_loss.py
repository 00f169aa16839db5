"""The actor's loss on one process: veRL's own where there is no demonstration, additive, blind to padding rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from mix_example import Row, make_row, to_batch, with_padding
from tensordict import NonTensorData
from verl.utils.metric import Metric
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss

from luffy import metric_names as names
from luffy.objective import ObjectiveConfig, load_method
from luffy.objective.method import methods
from verl.mix_src.rl.loss import ENTROPY_COEFFICIENT, OWN_TOTALS, STEP, mix_ppo_loss, own_totals

LENGTHS = [(3, 9), (1, 2), (5, 14), (2, 1), (4, 6), (2, 11)]
WHOLE = {"dp_size": 1, "batch_num_tokens": sum(response for _, response in LENGTHS), "global_batch_size": len(LENGTHS)}
BONUS = {ENTROPY_COEFFICIENT: 0.05}
CLIP = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
LOG_P, ENTROPY = "log_probs", "entropy"  # of every token of a row, as the engine returns them
MODES = {"token_mean": "token-mean", "constant": "token-sum", "sequence_mean": "seq-mean-token-mean"}


def make_rows(forced_share: float) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    rows = [make_row([1] * prompt, [2] * response, forced_share, generator) for prompt, response in LENGTHS]
    for row in rows:
        row[LOG_P] = -3 * torch.rand(len(row["input_ids"]), generator=generator)
        row[ENTROPY] = torch.rand(len(row["input_ids"]), generator=generator)
        row["old_log_probs"] += row[LOG_P][-len(row["responses"]) - 1 : -1]
        row["ref_log_prob"] = row["old_log_probs"] - 0.1
    return rows


def evaluate(loss_function: Any, config: Any, rows: list[Row], **facts: Any) -> tuple[float, list[torch.Tensor], dict[str, float]]:
    """Loss; its gradients with respect to each row's log-probabilities, then to each row's entropies; metrics."""
    batch = to_batch(rows, ("rollout_is_weights",) if facts.pop("corrected", False) else (), **WHOLE | facts)
    output = {name: batch.pop(name).detach().requires_grad_() for name in (LOG_P, ENTROPY)}
    loss, metrics = loss_function(config, output, batch)
    loss.backward()
    gradients = [row for tensor in output.values() for row in tensor.grad.unbind()]
    summed = {name: value.aggregate() for name, value in metrics.items() if isinstance(value, Metric)}
    return loss.item(), gradients, summed


def assert_same(left: list[torch.Tensor], right: list[torch.Tensor], scale: float = 1.0) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, scale * other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("aggregation", MODES)
def test_without_demonstrations_it_is_verls_loss(aggregation, corrected):
    rows = make_rows(forced_share=0.0)
    ours = ObjectiveConfig(aggregation=aggregation, constant_length=8, kl_coefficient=0.3, **CLIP)
    theirs = FSDPActorConfig(
        strategy="fsdp2", rollout_n=2, ppo_micro_batch_size_per_gpu=2, clip_ratio=0.2, clip_ratio_low=0.2,
        clip_ratio_high=0.2, clip_ratio_c=3.0, loss_agg_mode=MODES[aggregation], entropy_coeff=0.05,
        use_kl_loss=True, kl_loss_coef=0.3, kl_loss_type="low_var_kl",
    )  # fmt: skip
    facts = {"dp_size": 2, "batch_num_tokens": 99, "global_batch_size": 15, "corrected": corrected, **BONUS}
    loss, gradients, metrics = evaluate(mix_ppo_loss, ours, rows, **facts)
    their_loss, their_gradients, their_metrics = evaluate(ppo_loss, theirs, rows, **facts)
    scale = 1 / 8 if aggregation == "constant" else 1
    assert loss == pytest.approx(scale * their_loss, rel=1e-5)
    assert_same(gradients, their_gradients, scale)
    assert metrics[names.LOSS] == pytest.approx(scale * their_loss, rel=1e-5)
    assert metrics[names.KL_LOSS] == pytest.approx(scale * their_metrics["kl_loss"], rel=1e-5)
    for name in (names.POLICY_LOSS, names.ENTROPY_LOSS):
        assert metrics[name] == pytest.approx(scale * their_metrics[name], rel=1e-5)


@pytest.mark.parametrize("aggregation", MODES)
def test_micro_batches_of_ranks_add_up(aggregation):
    rows = make_rows(forced_share=0.5)
    config = ObjectiveConfig(aggregation=aggregation, constant_length=8, sft_coefficient=0.2)
    loss, gradients, metrics = evaluate(mix_ppo_loss, config, rows, **BONUS)
    parts = [evaluate(mix_ppo_loss, config, rows[a:b], dp_size=2, **BONUS) for a, b in [(0, 1), (1, 4), (4, 6)]]
    assert sum(part[0] for part in parts) / 2 == pytest.approx(loss, rel=1e-5)
    joined = [row for _, part, _ in parts for row in part[: len(part) // 2]]  # of the log-probabilities
    joined += [row for _, part, _ in parts for row in part[len(part) // 2 :]]  # of the entropies
    assert_same(joined, gradients, scale=2)
    for name in metrics:
        assert sum(part[2][name] for part in parts) / 2 == pytest.approx(metrics[name], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("method", methods())
def test_micro_batches_of_ranks_add_up_for_every_method(method):
    """The columns that a method reads arrive, and the numbers of its streams are those of the whole mini-batch."""
    rows = make_rows(forced_share=0.5)
    config = replace(load_method(method), constant_length=8)
    whole = {**BONUS, STEP: 3, OWN_TOTALS: NonTensorData(own_totals(to_batch(rows)).tolist())}
    loss, gradients, metrics = evaluate(mix_ppo_loss, config, rows, **whole)
    parts = [evaluate(mix_ppo_loss, config, rows[a:b], dp_size=2, **whole) for a, b in [(0, 1), (1, 4), (4, 6)]]
    assert sum(part[0] for part in parts) / 2 == pytest.approx(loss, rel=1e-5, abs=1e-7)
    joined = [row for _, part, _ in parts for row in part[: len(part) // 2]]
    joined += [row for _, part, _ in parts for row in part[len(part) // 2 :]]
    assert_same(joined, gradients, scale=2)
    assert any(row.any() for row in gradients)
    for name in metrics:
        assert sum(part[2][name] for part in parts) / 2 == pytest.approx(metrics[name], rel=1e-5, abs=1e-6)
    assert (names.DISTILL_LOSS in metrics) == (config.distill_coefficient != 0)
    assert (names.KL_LOSS in metrics) == (method == "uft")


def test_own_totals_count_what_is_there():
    """Forced tokens ⌊half⌋ of 9, 2, 14, 1, 6, 11; rows of odd length are right; padding rows have no token that counts."""
    rows = make_rows(forced_share=0.5)
    own = own_totals(to_batch(rows))
    tokens, of = own[..., 0].tolist(), own[..., 1].tolist()
    assert tokens == [[22, 21], [11, 12], [11, 9]]  # all, on policy, off policy; wrong, right
    assert of == [[3, 3], [3, 3], [3, 2]]  # the row of one token has no forced one
    assert torch.equal(own_totals(to_batch(with_padding(rows, 2))), own)


def test_demonstrations_and_rollouts_make_the_policy_loss():
    metrics = evaluate(mix_ppo_loss, ObjectiveConfig(constant_length=8), make_rows(forced_share=0.5))[2]
    assert metrics[names.ON_POLICY_LOSS] + metrics[names.OFF_POLICY_LOSS] == pytest.approx(metrics[names.POLICY_LOSS])
    assert metrics[names.OFF_POLICY_FRACTION] == pytest.approx((4 + 1 + 7 + 0 + 3 + 5) / 43)  # ⌊half⌋ of each response
    assert metrics[names.ON_POLICY_FRACTION] == pytest.approx(23 / 43)


def padded_rows(number: int) -> list[Row]:
    rows = with_padding(make_rows(forced_share=1.0), number)
    for padding in rows[len(LENGTHS) :]:
        padding |= {name: torch.full((len(padding["input_ids"]),), -1.0) for name in (LOG_P, ENTROPY)}
    return rows


def test_padding_rows_change_nothing():
    rows = padded_rows(2)
    assert len(rows[-1]["off_policy_mask"]) == 9 > len(rows[-1]["responses"]) == 1
    config = ObjectiveConfig(constant_length=8, sft_coefficient=0.2)
    loss, gradients, metrics = evaluate(mix_ppo_loss, config, rows, **BONUS)
    expected = evaluate(mix_ppo_loss, config, rows[: len(LENGTHS)], **BONUS)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert metrics == pytest.approx(expected[2], rel=1e-6)
    assert_same(gradients[: len(LENGTHS)], expected[1][: len(LENGTHS)])
    assert not any(row.any() for row in gradients[len(LENGTHS) : len(rows)])


def test_a_micro_batch_of_padding_rows_alone():
    """Its forced tokens' columns are longer than its longest response."""
    config = ObjectiveConfig(aggregation="token_mean", sft_coefficient=0.2)
    loss, gradients, metrics = evaluate(mix_ppo_loss, config, padded_rows(2)[len(LENGTHS) :], **BONUS)
    assert loss == 0
    assert not any(row.any() for row in gradients)
    assert set(metrics.values()) == {0.0}


def test_the_bonus_is_the_trainers_coefficient_times_the_entropies():
    """∂loss/∂H = -α / (constant_length · rows counted once each)."""
    rows = make_rows(forced_share=0.5)
    _, without, _ = evaluate(mix_ppo_loss, ObjectiveConfig(constant_length=8), rows)
    _, gradients, _ = evaluate(mix_ppo_loss, ObjectiveConfig(constant_length=8), rows, **BONUS)
    half = len(gradients) // 2  # log-probabilities, then entropies
    assert_same(gradients[:half], without[:half])
    assert not any(row.any() for row in without[half:])
    assert [value.item() for row in gradients[half:] for value in row.unique() if value] == [pytest.approx(-0.05 / 8)] * 6


def test_rollout_correction_leaves_demonstrations_alone():
    rows = make_rows(forced_share=0.5)
    config = ObjectiveConfig(constant_length=8)
    _, plain, _ = evaluate(mix_ppo_loss, config, rows)
    _, corrected, _ = evaluate(mix_ppo_loss, config, rows, corrected=True)
    for row, before, after in zip(rows, plain, corrected, strict=False):
        tokens = slice(-len(row["responses"]) - 1, -1)
        weight = torch.where(row["off_policy_mask"].bool(), 1.0, row["rollout_is_weights"])
        torch.testing.assert_close(after[tokens], weight * before[tokens])
