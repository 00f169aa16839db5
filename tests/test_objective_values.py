"""The objective against numbers derived by hand, in float64.

One demonstration (row 0, A = 0.5) with π = 0.4, 0.1 and a padded place; one rollout (row 1, A = -0.25) with
π = 0.5, 0.2, 0.9 and π_old = 0.25, 0.4, 0.9, so ρ = 2, 0.5, 1. With γ = 0.1:

    row 0   f = 0.8, 0.5        losses -0.40, -0.250          gradients -0.5 · γp/(p+γ)² = -0.080, -0.125
    row 1                       losses  0.50,  0.125, 0.25    gradients 0.25 · ρ = 0.5, 0.125, 0.25
"""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from luffy import metric_names as names
from luffy.errors import InputError
from luffy.metric_names import MEANING, finish
from luffy.objective import MixedPolicyLoss, ObjectiveConfig, mixed_policy_loss
from luffy.objective.kl import kl_estimate
from luffy.objective.parts import One
from luffy.objective.shaping import Identity, Log, PDivP, Pow, PPlusLog, Sqrt

NAN = float("nan")


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


RESPONSE = torch.tensor([[True, True, False], [True, True, True]])
OFF_POLICY = torch.tensor([[True, True, True], [False, False, False]])


def run(advantages=(0.5, -0.25), tensors=None, entropy_coefficient=0.0, **settings):
    """Loss of the batch above and its gradient; constant_length is 1, so that the loss is the plain sum."""
    log_prob = matrix([0.4, 0.1, NAN], [0.5, 0.2, 0.9]).log().requires_grad_()
    arguments = {
        "old_log_prob": matrix([NAN, NAN, NAN], [0.25, 0.4, 0.9]).log(),
        "advantages": matrix([advantages[0]] * 2 + [NAN], [advantages[1]] * 3),
        "response_mask": RESPONSE,
        "off_policy_mask": OFF_POLICY,
    } | (tensors or {})
    config = ObjectiveConfig(**{"constant_length": 1, **settings})
    result = mixed_policy_loss(log_prob=log_prob, config=config, entropy_coefficient=entropy_coefficient, **arguments)
    result.loss.backward()
    return result, log_prob.grad


def metric(result: MixedPolicyLoss, name: str) -> float:
    return finish({key: float(value) for key, value in result.metrics.items()})[name]


def test_loss_gradient_and_metrics():
    result, gradient = run()
    assert result.loss.item() == pytest.approx(-0.65 + 0.875, abs=1e-15)
    torch.testing.assert_close(gradient, matrix([-0.08, -0.125, 0], [0.5, 0.125, 0.25]), rtol=1e-13, atol=0)
    expected = {
        names.LOSS: 0.225,
        names.POLICY_LOSS: 0.225,
        names.ON_POLICY_LOSS: 0.875,
        names.OFF_POLICY_LOSS: -0.65,
        names.ON_POLICY_FRACTION: 3 / 5,
        names.OFF_POLICY_FRACTION: 2 / 5,
        names.OFF_POLICY_RATIO: 0.25,
        names.OFF_POLICY_SHAPED: 0.65,
        names.PPO_KL: -(math.log(2) + math.log(0.5) + 0) / 3,
    }
    finished = finish({key: float(value) for key, value in result.metrics.items()})
    assert finished == pytest.approx(expected, abs=1e-15)
    assert not any(value.requires_grad for value in result.metrics.values())
    assert set(finished) <= set(MEANING)


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({"aggregation": "constant", "constant_length": 10}, 0.225 / 10),
        ({"aggregation": "token_mean"}, 0.225 / 5),
        ({"aggregation": "sequence_mean"}, (-0.65 / 2 + 0.875 / 3) / 2),
    ],
)
def test_aggregation(settings, loss):
    assert run(**settings)[0].loss.item() == pytest.approx(loss, abs=1e-15)


@pytest.mark.parametrize(
    ("shaping", "shaped"),
    [
        (Identity(), (0.4, 0.1)),
        (Log(weight=2.0), (2 * math.log(0.4), 2 * math.log(0.1))),
        (PPlusLog(weight=2.0), (0.4 + 2 * math.log(0.4), 0.1 + 2 * math.log(0.1))),
        (Sqrt(), (0.4**0.5, 0.1**0.5)),
        (Pow(exponent=0.3), (0.4**0.3, 0.1**0.3)),
        (PDivP(gamma=0.5), (0.4 / 0.9, 0.1 / 0.6)),
    ],
)
def test_off_policy_shaping(shaping, shaped):
    result, _ = run(shaping=shaping)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-0.5 * sum(shaped), abs=1e-14)
    assert metric(result, names.ON_POLICY_LOSS) == pytest.approx(0.875, abs=1e-14)


@pytest.mark.parametrize(
    ("shaping", "shaped"),
    [
        (Log(weight=2.0), (2 * math.log(2), 2 * math.log(0.5), 0)),
        (PPlusLog(weight=2.0), (2 + 2 * math.log(2), 0.5 + 2 * math.log(0.5), 1)),
        (Sqrt(), (2**0.5, 0.5**0.5, 1)),
        (Pow(exponent=0.3), (2**0.3, 0.5**0.3, 1)),
        (PDivP(), ((0.5 / 0.6) / (0.25 / 0.35), (0.2 / 0.3) / (0.4 / 0.5), 1)),
    ],
)
def test_on_policy_shaping(shaping, shaped):
    result, gradient = run(on_policy_shaping=shaping)
    assert metric(result, names.ON_POLICY_LOSS) == pytest.approx(0.25 * sum(shaped), abs=1e-14)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-0.65, abs=1e-14)
    assert gradient.isfinite().all()


def test_known_behaviour_probabilities():
    """π/π_φ = 0.4/0.8 and 0.1/1; f = 0.5/0.6 and 0.5. What on-policy places hold is not read."""
    result, gradient = run(tensors={"behaviour_prob": matrix([0.8, 1.0, NAN], [NAN, 0.0, -1.0])})
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-0.5 * (0.5 / 0.6 + 0.5), abs=1e-15)
    assert metric(result, names.OFF_POLICY_RATIO) == pytest.approx(0.3, abs=1e-15)
    expected = matrix([-0.5 * 0.1 * 0.5 / 0.36, -0.125, 0], [0.5, 0.125, 0.25])
    torch.testing.assert_close(gradient, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("advantage", "settings", "losses", "gradients", "clipped"),
    [
        (-0.25, {"clip_low": 0.2}, (0.5, 0.25 * 0.8, 0.25), (0.5, 0, 0.25), 1 / 3),
        (-0.25, {"clip_high": 0.2}, (0.5, 0.125, 0.25), (0.5, 0.125, 0.25), 0),
        (0.25, {"clip_low": 0.2}, (-0.5, -0.125, -0.25), (-0.5, -0.125, -0.25), 0),
        (0.25, {"clip_high": 0.28}, (-0.25 * 1.28, -0.125, -0.25), (0, -0.125, -0.25), 1 / 3),
        (0.25, {"clip_low": 0.2, "clip_high": 0.2}, (-0.3, -0.125, -0.25), (0, -0.125, -0.25), 1 / 3),
    ],
)
def test_ppo_clip(advantage, settings, losses, gradients, clipped):
    result, gradient = run(advantages=(0.5, advantage), **settings)
    assert metric(result, names.ON_POLICY_LOSS) == pytest.approx(sum(losses), abs=1e-15)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-0.65, abs=1e-15)
    assert metric(result, names.CLIPFRAC) == pytest.approx(clipped, abs=1e-15)
    assert gradient[1].tolist() == pytest.approx(gradients, abs=1e-15)


def test_dual_clip_bounds_the_loss_of_bad_rollouts():
    """-c·A = 0.375 stops ρ = 2; a demonstration with a negative advantage is not touched."""
    result, gradient = run(advantages=(-0.5, -0.25), dual_clip=1.5)
    assert metric(result, names.ON_POLICY_LOSS) == pytest.approx(0.375 + 0.125 + 0.25, abs=1e-15)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(0.65, abs=1e-15)
    assert metric(result, names.CLIPFRAC_LOWER) == pytest.approx(1 / 3, abs=1e-15)
    assert gradient[1].tolist() == pytest.approx([0, 0.125, 0.25], abs=1e-15)
    assert metric(run(advantages=(0.5, 0.25), dual_clip=1.5)[0], names.CLIPFRAC_LOWER) == 0


@pytest.mark.parametrize(
    ("settings", "shaped", "gradients"),
    [
        ({"off_policy_max_clip": 0.6}, (0.6, 0.5), (0, -0.125, 0)),
        ({"off_policy_min_clip": 0.55}, (0.8, 0.55), (-0.08, 0, 0)),
    ],
)
def test_off_policy_clip_bounds_the_shaped_ratio(settings, shaped, gradients):
    result, gradient = run(**settings)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-0.5 * sum(shaped), abs=1e-15)
    assert metric(result, names.OFF_POLICY_CLIPFRAC) == 0.5
    assert gradient[0].tolist() == pytest.approx(gradients, abs=1e-15)


def test_max_probability_drops_likely_tokens_from_the_policy_term_alone():
    """0.5 and 0.9 are above the bound; the token mean still divides by all five tokens."""
    entropy = torch.ones(2, 3, dtype=torch.float64)
    result, gradient = run(max_probability=0.45, aggregation="token_mean", tensors={"entropy": entropy})
    assert result.loss.item() == pytest.approx((-0.65 + 0.125) / 5, abs=1e-15)
    assert metric(result, names.DROPPED_FRACTION) == pytest.approx(2 / 5)
    assert metric(result, names.ENTROPY) == 1
    assert gradient[1].tolist() == pytest.approx([0, 0.025, 0], abs=1e-15)


def test_source_weights():
    result, _ = run(off_policy_weight=2.0, on_policy_weight=0.5)
    assert metric(result, names.OFF_POLICY_LOSS) == pytest.approx(-1.3, abs=1e-15)
    assert metric(result, names.ON_POLICY_LOSS) == pytest.approx(0.4375, abs=1e-15)


def test_rl_with_sft_loss():
    result, gradient = run(off_policy_weight=0.0, sft_coefficient=1.0)
    assert result.loss.item() == pytest.approx(0.875 - math.log(0.4) - math.log(0.1), abs=1e-14)
    torch.testing.assert_close(gradient, matrix([-1, -1, 0], [0.5, 0.125, 0.25]), rtol=1e-13, atol=0)


def test_a_demonstration_outside_the_policy_stream_is_averaged_over_its_own_tokens():
    """Of row 0 no token is in the policy stream, so its two tokens are its length; the one row of the stream is the number of rows."""
    result, gradient = run(aggregation="sequence_mean", policy_tokens="on_policy", sft_coefficient=1.0)
    assert result.loss.item() == pytest.approx(0.875 / 3 + (-math.log(0.4) - math.log(0.1)) / 2, abs=1e-14)
    torch.testing.assert_close(gradient, matrix([-0.5, -0.5, 0], [0.5 / 3, 0.125 / 3, 0.25 / 3]), rtol=1e-13, atol=0)


@pytest.mark.parametrize(("aggregation", "entropy_term"), [("constant", 2.5), ("token_mean", 0.5),
                                                           ("sequence_mean", (0.5 / 2 + 2 / 3) / 2)])  # fmt: skip
def test_entropy_bonus_is_aggregated_like_the_policy_term(aggregation, entropy_term):
    """Entropies sum to 0.5 on row 0 and 2 on row 1."""
    entropy = matrix([0.2, 0.3, NAN], [0.5, 0.5, 1.0]).requires_grad_()
    without = run(aggregation=aggregation)[0].loss.item()
    result, _ = run(aggregation=aggregation, tensors={"entropy": entropy}, entropy_coefficient=0.01)
    assert result.loss.item() == pytest.approx(without - 0.01 * entropy_term, abs=1e-15)
    assert metric(result, names.ENTROPY) == pytest.approx(0.5, abs=1e-15)
    assert entropy.grad[0, 2] == 0
    assert (entropy.grad[RESPONSE] < 0).all()


def test_kl_to_reference():
    """low_var_kl: r - log r - 1 with r = π_ref/π = 2 on the first token, 1 elsewhere."""
    reference = matrix([0.8, 0.1, NAN], [0.5, 0.2, 0.9]).log()
    result, gradient = run(tensors={"ref_log_prob": reference}, kl_coefficient=0.5)
    assert result.loss.item() == pytest.approx(0.225 + 0.5 * (1 - math.log(2)), abs=1e-14)
    assert gradient[0].tolist() == pytest.approx([-0.08 + 0.5 * (1 - 2), -0.125, 0], abs=1e-14)


def test_kl_to_the_sampling_policy():
    old = matrix([0.4, 0.1, NAN], [0.25, 0.4, 0.9]).log()
    result, _ = run(tensors={"old_log_prob": old}, kl_to_old_coefficient=0.5, kl_estimator="k2")
    assert result.loss.item() == pytest.approx(0.225 + 0.5 * 2 * 0.5 * math.log(2) ** 2, abs=1e-14)


@pytest.mark.parametrize("estimator", ["kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3", "k1+", "k3+"])
def test_kl_estimators_equal_verls(estimator):
    from verl.trainer.ppo.core_algos import kl_penalty

    ours = matrix([-3.0, -0.5, 0.0, 0.2, 25.0]).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    mine, upstream = kl_estimate(ours, estimator), kl_penalty(theirs, torch.zeros_like(theirs), estimator)
    mine.sum().backward()
    upstream.sum().backward()
    assert torch.equal(mine, upstream)
    assert torch.equal(ours.grad, theirs.grad)


def test_gradcheck_of_the_whole_objective():
    generator = torch.Generator().manual_seed(0)
    log_prob = (-3 * torch.rand(4, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    entropy = torch.rand(4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    old = log_prob.detach() + 0.3 * torch.randn(4, 5, generator=generator, dtype=torch.float64)
    config = ObjectiveConfig(
        aggregation="sequence_mean", clip_low=0.2, clip_high=0.3, dual_clip=3.0,
        kl_coefficient=0.2, kl_to_old_coefficient=0.3, sft_coefficient=0.4, off_policy_weight=0.7,
    )  # fmt: skip

    def loss(log_prob, entropy):
        return mixed_policy_loss(
            log_prob=log_prob,
            old_log_prob=old,
            advantages=old.cos(),
            response_mask=torch.arange(5) < torch.tensor([5, 3, 0, 4])[:, None],
            off_policy_mask=(torch.arange(4) % 2 == 0)[:, None].expand(4, 5),
            behaviour_prob=(old / 2).exp(),
            ref_log_prob=old - 0.1,
            entropy=entropy,
            entropy_coefficient=0.1,
            config=config,
        ).loss

    assert torch.autograd.gradcheck(loss, (log_prob, entropy))


def test_mistakes_are_named():
    with pytest.raises(InputError, match="entropy_coefficient is 0.1, but entropy is None"):
        run(entropy_coefficient=0.1)
    with pytest.raises(InputError, match="kl_coefficient is 0.1, but ref_log_prob is None"):
        run(kl_coefficient=0.1)
    with pytest.raises(InputError, match=r"advantages has shape \(2, 1\)"):
        run(tensors={"advantages": matrix([0.5], [-0.25])})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_low": 1.2}, r"clip_low is 1.2; it must be a number in \[0, 1\]"),
        ({"clip_high": -0.2}, "clip_high is -0.2"),
        ({"dual_clip": 1.0}, "dual_clip is 1.0; it must be a number above 1"),
        ({"off_policy_min_clip": 0.5, "off_policy_max_clip": 0.1}, "off_policy_min_clip is 0.5, above"),
        ({"max_probability": 1.5}, "max_probability is 1.5"),
        ({"on_policy_shaping": PDivP(), "on_policy_denominator": One()}, "on_policy_shaping is .*set on_policy_denominator.name=old"),
        ({"aggregation": "token-mean"}, "aggregation is 'token-mean'; it must be one of constant"),
        ({"constant_length": 0}, "constant_length is 0; it must be an integer above 0"),
        ({"constant_length": 8192.0}, "constant_length is 8192.0; it must be an integer"),
        ({"off_policy_weight": -1.0}, "off_policy_weight is -1.0; it must be a number of at least 0"),
        ({"kl_estimator": "full"}, "kl_estimator is 'full'"),
    ],
)
def test_config_mistakes_are_named(settings, message):
    with pytest.raises(InputError, match=f"luffy.objective.{message}"):
        ObjectiveConfig(**settings)


def test_config_is_frozen_and_keyword_only():
    with pytest.raises(FrozenInstanceError):
        ObjectiveConfig().clip_low = 1.0
    with pytest.raises(TypeError):
        ObjectiveConfig("identity")
