"""Properties of the objective: what must not change it, and what must."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luffy import metric_names as names
from luffy.advantages import group_advantages
from luffy.objective import BatchTotals, ObjectiveConfig, mixed_policy_loss
from luffy.objective.parts import (
    ADVANTAGES,
    DENOMINATORS,
    TOKEN_WEIGHTS,
    Behaviour,
    Bounded,
    Constant,
    Group,
    Importance,
    Mixture,
    Old,
    One,
    OneMinusP,
    Plain,
    Probability,
    RowEntropy,
    Teacher,
    TopEntropy,
    Uncertainty,
    Verdict,
)  # fmt: skip
from luffy.objective.shaping import Identity, Log, PDivP, Pow, PPlusLog, Sqrt

NAN = float("nan")
EXACT = {"rtol": 1e-12, "atol": 1e-14}

CONFIGS = [
    ObjectiveConfig(),
    ObjectiveConfig(aggregation="token_mean", clip_low=0.2, clip_high=0.28, dual_clip=3.0),
    ObjectiveConfig(
        aggregation="sequence_mean", shaping=PPlusLog(), on_policy_shaping=PDivP(), max_probability=0.9,
        off_policy_max_clip=0.8, off_policy_min_clip=-0.5, kl_coefficient=0.1, kl_to_old_coefficient=0.1,
        sft_coefficient=0.5, off_policy_weight=0.5,
    ),
    ObjectiveConfig(  # every stream, each with another divisor
        policy_tokens="on_policy", aggregation="token_mean", on_policy_advantage=Teacher(reward=1.0), policy_coefficient=0.7,
        sft_coefficient=0.5, sft_rows="right", sft_weight=RowEntropy(scale=0.5, rate=-1.0), sft_divisor="own_rows",
        distill_coefficient=0.3, distill_estimator="k2", distill_rows="wrong", distill_divisor="own_tokens", distill_tokens="on_policy",
        kl_coefficient=0.2, kl_tokens="on_policy", kl_divisor="own_rows", entropy_divisor="own_tokens", imitation_share=0.4,
        entropy_tokens="on_policy",
    ),
    ObjectiveConfig(
        aggregation="sequence_mean", policy_tokens="all", on_policy_shaping=Log(weight=1.0), on_policy_denominator=One(),
        on_policy_advantage=Verdict(right=0.1, rate=1.0), shaping=Identity(), denominator=Mixture(), token_weight=TopEntropy(share=0.5),
        on_policy_token_weight=OneMinusP(), clip_low=0.2, clip_high=0.2, clip_off_policy=True,
        distill_coefficient=0.3, distill_weight=Importance(cap=1.2), kl_coefficient=0.1, kl_divisor="constant", sft_coefficient=0.1,
        sft_weight=Uncertainty(),
    ),
]  # fmt: skip
BASELINE = CONFIGS[:3]  # those whose advantages are the group's


def make_batch(seed: int, rows: int = 6, tokens: int = 5, demonstrations: float = 0.4) -> dict[str, torch.Tensor]:
    """Random tensors: whole and partial demonstrations, rollouts, padding, empty rows."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    log_prob = -3 * uniform(rows, tokens)
    place = torch.arange(tokens)
    return {
        "log_prob": log_prob,
        "old_log_prob": log_prob + uniform(rows, tokens) - 0.5,
        "ref_log_prob": log_prob + uniform(rows, tokens) - 0.5,
        "advantages": (2 * uniform(rows, 1) - 1).expand(rows, tokens).clone(),
        "response_mask": place < (uniform(rows, 1) * (tokens + 1)).long(),
        "off_policy_mask": (place < (uniform(rows, 1) * 2 * tokens).long()) & (uniform(rows, 1) < demonstrations),
        "behaviour_prob": 0.1 + 0.9 * uniform(rows, tokens),
        "entropy": uniform(rows, tokens),
        "teacher_log_prob": log_prob + uniform(rows, tokens) - 0.5,
        "row_correct": uniform(rows) < 0.5,
    }


def run(batch, config, totals=None, entropy_coefficient=0.01):
    """Loss, gradients of log_prob and entropy, and metrics."""
    log_prob, entropy = (batch[name].clone().requires_grad_() for name in ("log_prob", "entropy"))
    result = mixed_policy_loss(
        **batch | {"log_prob": log_prob, "entropy": entropy}, totals=totals, entropy_coefficient=entropy_coefficient, config=config
    )
    result.loss.backward()
    return result.loss.detach(), log_prob.grad, entropy.grad, result.metrics


def totals_of(batch):
    return BatchTotals.of(batch["response_mask"], batch["off_policy_mask"], batch["row_correct"])


def pick(batch, rows):
    return {name: tensor[rows] for name, tensor in batch.items()}


seeds = st.integers(0, 2**31)
configs = st.sampled_from(CONFIGS)
baseline_configs = st.sampled_from(BASELINE)
cases = settings(deadline=None, max_examples=60)


@cases
@given(seed=seeds, config=configs, data=st.data())
def test_row_order_does_not_matter(seed, config, data):
    batch = make_batch(seed)
    order = torch.tensor(data.draw(st.permutations(range(6))))
    loss, gradient, entropy_gradient, metrics = run(batch, config)
    shuffled = run(pick(batch, order), config)
    torch.testing.assert_close(shuffled[0], loss, **EXACT)
    torch.testing.assert_close(shuffled[1], gradient[order], **EXACT)
    torch.testing.assert_close(shuffled[2], entropy_gradient[order], **EXACT)
    torch.testing.assert_close(shuffled[3], metrics, **EXACT)


@cases
@given(seed=seeds, config=configs, junk=st.sampled_from([NAN, float("inf"), -float("inf"), 1e30]))
def test_padding_does_not_matter(seed, config, junk):
    """More places, and junk in every place that does not count, in every float tensor and in the mask of sources."""
    batch = make_batch(seed)
    loss, gradient, entropy_gradient, metrics = run(batch, config)
    padded = {}
    for name, tensor in batch.items():
        if tensor.dim() == 1:
            padded[name] = tensor
            continue
        wide = torch.cat([tensor, torch.ones_like(tensor[:, :3])], dim=1)
        padded[name] = wide
    padded["response_mask"][:, 5:] = False
    for tensor in padded.values():
        if tensor.dim() == 2 and tensor.dtype == torch.float64:
            tensor[~padded["response_mask"]] = junk
    loss_2, gradient_2, entropy_gradient_2, metrics_2 = run(padded, config)
    torch.testing.assert_close(loss_2, loss, **EXACT)
    torch.testing.assert_close(gradient_2[:, :5], gradient, **EXACT)
    torch.testing.assert_close(entropy_gradient_2[:, :5], entropy_gradient, **EXACT)
    assert not gradient_2[~padded["response_mask"]].any()
    torch.testing.assert_close(metrics_2, metrics, **EXACT)


@cases
@given(seed=seeds, config=configs, data=st.data())
def test_micro_batches_and_ranks_add_up(seed, config, data):
    """Any split of the rows: losses, gradients and every metric are additive parts of the whole's."""
    batch = make_batch(seed)
    loss, gradient, entropy_gradient, metrics = run(batch, config)
    part_of_row = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=6, max_size=6)))
    summed_loss, summed_metrics = torch.zeros_like(loss), dict.fromkeys(metrics, torch.tensor(0.0, dtype=torch.float64))
    for part in part_of_row.unique():
        rows = part_of_row == part
        part_loss, part_gradient, part_entropy_gradient, part_metrics = run(pick(batch, rows), config, totals_of(batch))
        torch.testing.assert_close(part_gradient, gradient[rows], **EXACT)
        torch.testing.assert_close(part_entropy_gradient, entropy_gradient[rows], **EXACT)
        summed_loss += part_loss
        assert part_metrics.keys() == metrics.keys()
        summed_metrics = {name: summed_metrics[name] + value for name, value in part_metrics.items()}
    torch.testing.assert_close(summed_loss, loss, **EXACT)
    torch.testing.assert_close(summed_metrics, metrics, **EXACT)


@cases
@given(seed=seeds, config=baseline_configs)
def test_sources_are_disjoint_and_complete(seed, config):
    """A token counts in exactly one source: alone, each source gives its own part of the gradient."""
    config = replace(config, kl_coefficient=0.0, kl_to_old_coefficient=0.0, sft_coefficient=0.0)
    batch = make_batch(seed)
    _, gradient, _, metrics = run(batch, config, entropy_coefficient=0.0)
    whole = totals_of(batch)
    if config.aggregation == "sequence_mean":
        config = replace(config, aggregation="token_mean")
        _, gradient, _, metrics = run(batch, config, entropy_coefficient=0.0)
    mask, off = batch["response_mask"], batch["off_policy_mask"]
    off_alone = run(batch | {"response_mask": mask & off}, config, whole, entropy_coefficient=0.0)
    on_alone = run(batch | {"response_mask": mask & ~off}, config, whole, entropy_coefficient=0.0)
    torch.testing.assert_close(off_alone[1] + on_alone[1], gradient, **EXACT)
    assert not (off_alone[1].bool() & on_alone[1].bool()).any()
    torch.testing.assert_close(off_alone[0], metrics[names.OFF_POLICY_LOSS], **EXACT)
    torch.testing.assert_close(on_alone[0], metrics[names.ON_POLICY_LOSS], **EXACT)
    fractions = metrics[names.OFF_POLICY_FRACTION] + metrics[names.ON_POLICY_FRACTION]
    assert float(fractions) == pytest.approx(1.0 if mask.any() else 0.0)


@cases
@given(seed=seeds, config=baseline_configs, reward=st.floats(-5, 5, width=32))
def test_equal_rewards_give_zero_gradient(seed, config, reward):
    config = replace(config, kl_coefficient=0.0, kl_to_old_coefficient=0.0, sft_coefficient=0.0)
    batch = make_batch(seed)
    off_policy = (batch["off_policy_mask"] & batch["response_mask"]).any(-1)
    advantages = group_advantages(torch.full((6,), reward), torch.zeros(6, dtype=torch.int64), off_policy)
    batch["advantages"] = advantages.double()[:, None].expand(6, 5)
    loss, gradient, _, _ = run(batch, config, entropy_coefficient=0.0)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("everything", ["on-policy", "off-policy", "padding"])
def test_an_empty_source_is_fine(config, everything):
    batch = make_batch(3)
    batch["off_policy_mask"] = torch.full_like(batch["off_policy_mask"], everything == "off-policy")
    if everything == "padding":
        batch["response_mask"] = torch.zeros_like(batch["response_mask"])
    loss, gradient, entropy_gradient, metrics = run(batch, config)
    for tensor in (loss, gradient, entropy_gradient, *metrics.values()):
        assert tensor.isfinite().all()
    assert gradient.any() != (everything == "padding")
    finished = names.finish({name: float(value) for name, value in metrics.items()})
    assert (names.PPO_KL in finished) == (everything == "on-policy")
    assert (names.OFF_POLICY_SHAPED in finished) == (everything == "off-policy")


@pytest.mark.parametrize("config", BASELINE)
@pytest.mark.parametrize("log_prob", [-1e4, -float("inf")])
def test_impossible_demonstration_tokens_keep_the_gradient_finite(config, log_prob):
    """A token that the policy cannot produce, and a wildly improbable one, beside an extreme on-policy ratio."""
    config = replace(config, sft_coefficient=0.0, kl_coefficient=0.0, kl_to_old_coefficient=0.0)
    batch = make_batch(5)
    batch["response_mask"][:] = True
    batch["off_policy_mask"][:] = False
    batch["off_policy_mask"][0] = True
    batch["log_prob"][0, 0] = log_prob
    batch["old_log_prob"][1, 0] = -1e4
    _, gradient, _, _ = run(batch, config)
    assert gradient.isfinite().all()


def test_a_gradient_step_moves_probabilities_the_right_way():
    """Good tokens become likelier and bad ones less likely, from both sources: fails under a flipped sign."""
    batch = make_batch(1)
    batch["response_mask"][:] = True
    batch["behaviour_prob"][:] = 1
    for off_policy in (False, True):
        batch["off_policy_mask"][:] = off_policy
        _, gradient, _, _ = run(batch, ObjectiveConfig())
        assert torch.equal(gradient.sign(), -batch["advantages"].sign())


def test_swapped_sources_differ():
    """Fails where the two sources are mixed up: the demonstration's gradient is γp/(p+γ)², the rollout's is ρ."""
    batch = make_batch(2)
    batch["response_mask"][:] = True
    batch["behaviour_prob"][:] = 1
    batch["off_policy_mask"][:] = torch.arange(6)[:, None] < 3
    _, gradient, _, _ = run(batch, ObjectiveConfig(constant_length=1))
    p = batch["log_prob"].exp()
    off = 0.1 * p / (p + 0.1) ** 2
    on = (batch["log_prob"] - batch["old_log_prob"]).exp()
    expected = -batch["advantages"] * torch.where(torch.arange(6)[:, None] < 3, off, on)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


def test_every_setting_changes_the_loss():
    """No setting is dead: each, moved from its default in a config that reads it, moves loss or gradient."""
    batch = make_batch(4, rows=12, tokens=7)
    batch["old_log_prob"] = batch["log_prob"] + torch.randn(12, 7, generator=torch.Generator().manual_seed(0)).double()
    demonstrated = (batch["off_policy_mask"] & batch["response_mask"]).any(-1)
    batch["row_correct"] = demonstrated & (demonstrated.cumsum(0) % 2 == 0)  # right and wrong ones of either source
    batch["row_correct"] |= ~demonstrated & (torch.arange(12) % 2 == 0)
    on = {"sft": {"sft_coefficient": 1.0}, "distill": {"distill_coefficient": 1.0}, "kl": {"kl_coefficient": 1.0}}
    reads = {"kl_estimator": on["kl"], "clip_off_policy": {"clip_low": 0.2, "clip_high": 0.2}, "imitation_share": on["sft"]}
    moved = {
        "shaping": Identity(), "on_policy_shaping": Sqrt(), "clip_low": 0.1, "clip_high": 0.1, "dual_clip": 1.1,
        "denominator": Old(), "on_policy_denominator": One(), "advantage": Constant(), "on_policy_advantage": Verdict(),
        "token_weight": Uncertainty(), "on_policy_token_weight": OneMinusP(), "clip_off_policy": True,
        "off_policy_max_clip": 0.6, "off_policy_min_clip": 0.6, "max_probability": 0.5, "on_policy_weight": 0.5,
        "off_policy_weight": 0.5, "policy_tokens": "on_policy", "policy_coefficient": 0.5, "imitation_share": 0.5,
        "sft_coefficient": 1.0, "sft_weight": Probability(), "sft_rows": "right", "sft_divisor": "own_rows",
        "distill_coefficient": 1.0, "distill_estimator": "k2", "distill_weight": Importance(), "distill_tokens": "on_policy",
        "distill_rows": "wrong", "distill_divisor": "own_tokens", "kl_coefficient": 0.1, "kl_tokens": "on_policy",
        "kl_divisor": "own_tokens", "kl_to_old_coefficient": 0.1, "kl_estimator": "k1", "entropy_divisor": "own_tokens", "entropy_tokens": "on_policy",
        "aggregation": "token_mean", "constant_length": 4096,
    }  # fmt: skip
    assert moved.keys() == {field.name for field in fields(ObjectiveConfig)}
    for name, value in moved.items():
        base = ObjectiveConfig(**reads.get(name, {} if name.endswith("coefficient") else on.get(name.partition("_")[0], {})))
        assert run(batch, base)[0] != run(batch, replace(base, **{name: value}))[0], name
    assert run(batch, ObjectiveConfig())[0] != run(batch, ObjectiveConfig(), entropy_coefficient=0.1)[0]
    parts = {
        "denominator": [(Mixture(), Mixture(floor=0.5)), (Bounded(), Bounded(bound=0.5)), (Behaviour(), One())],
        "advantage": [
            (Verdict(), Verdict(right=2.0)), (Verdict(), Verdict(wrong=-2.0)), (Verdict(), Verdict(rate=1.0)),
            (Teacher(), Teacher(reward=1.0)), (Teacher(), Teacher(teacher=2.0)), (Constant(), Constant(value=2.0)), (Group(), Constant()),
        ],
        "token_weight": [
            (OneMinusP(), OneMinusP(power=2.0)), (RowEntropy(), RowEntropy(scale=2.0)), (RowEntropy(), RowEntropy(rate=1.0)),
            (Importance(), Importance(cap=1.0)), (TopEntropy(), TopEntropy(share=0.9)), (Plain(), Probability()),
        ],
    }  # fmt: skip
    for key, pairs in parts.items():
        for one, other in pairs:
            assert run(batch, ObjectiveConfig(**{key: one}))[0] != run(batch, ObjectiveConfig(**{key: other}))[0], (key, other)
    for kinds in (DENOMINATORS, ADVANTAGES, TOKEN_WEIGHTS):
        assert {type(part) for pairs in parts.values() for pair in pairs for part in pair} | {Old, Uncertainty} >= set(kinds.values())
    for one, other in [
        (PDivP(), PDivP(gamma=0.3)),
        (Log(), Log(weight=1.0)),
        (PPlusLog(), PPlusLog(weight=1.0)),
        (Pow(), Pow(exponent=0.2)),
    ]:
        for key in ("shaping", "on_policy_shaping"):
            assert run(batch, ObjectiveConfig(**{key: one}))[0] != run(batch, ObjectiveConfig(**{key: other}))[0], (key, other)


@pytest.mark.parametrize("shaping", [Identity(), PDivP()])
def test_a_clip_changes_nothing_with_one_update_a_step(shaping):
    """Nothing, bitwise: before the first update after a rollout every on-policy ratio is 1, the middle of the clip."""
    free = ObjectiveConfig(shaping=shaping)
    clipped = replace(free, clip_low=0.2, clip_high=0.2)
    first = make_batch(5)
    first["old_log_prob"] = first["log_prob"].clone()
    for one, other in zip(run(first, free)[:3], run(first, clipped)[:3], strict=True):
        assert torch.equal(one, other)
    assert run(first, clipped)[3][names.CLIPFRAC + names.CONTRIBUTION] == 0
    second = make_batch(5)  # ratios from exp(-0.5) to exp(0.5)
    assert not torch.equal(run(second, free)[1], run(second, clipped)[1])
