"""Loss and gradient weight of single tokens: equal to the formulas of the paper, and adding up to the loss and its gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from luffy.objective import ObjectiveConfig, load_method, mixed_policy_loss
from luffy.objective.kl import kl_estimate
from luffy.objective.method import methods

GAMMA, ALPHA, ROWS, LENGTH = 0.1, 0.02, 4, 7


def batch(seed: int = 0) -> dict[str, Any]:
    """Two rollouts, a whole and a partial demonstration, of different lengths, in float64."""
    generator = torch.Generator().manual_seed(seed)
    p = 0.02 + 0.96 * torch.rand(ROWS, LENGTH, generator=generator, dtype=torch.float64)
    mask = torch.arange(LENGTH) < torch.tensor([[7], [3], [6], [5]])
    forced = mask & (torch.arange(LENGTH) < torch.tensor([[0], [0], [6], [2]]))
    return {
        "log_prob": p.log().requires_grad_(),
        "old_log_prob": p.log() + 0.3 * torch.randn(ROWS, LENGTH, generator=generator, dtype=torch.float64),
        "advantages": torch.randn(ROWS, 1, generator=generator, dtype=torch.float64).expand(ROWS, LENGTH).clone(),
        "response_mask": mask,
        "off_policy_mask": forced,
        "entropy": torch.rand(ROWS, LENGTH, generator=generator, dtype=torch.float64).requires_grad_(),
    }


@pytest.mark.parametrize("aggregation", ["constant", "token_mean", "sequence_mean"])
def test_they_are_the_papers_formulas(aggregation: str) -> None:
    given = batch()
    config = ObjectiveConfig(aggregation=aggregation, constant_length=64)
    tokens = mixed_policy_loss(**given, entropy_coefficient=ALPHA, keep_tokens=True, config=config).tokens
    assert tokens is not None
    for row in range(ROWS):
        for place in range(LENGTH):
            found = [float(values[row, place]) for values in (tokens.ratio, tokens.loss, tokens.gradient_weight)]
            if not given["response_mask"][row, place]:
                assert found == [0, 0, 0]
                continue
            p, advantage, entropy = (given[name][row, place].item() for name in ("log_prob", "advantages", "entropy"))
            p = torch.tensor(p, dtype=torch.float64).exp().item()
            if given["off_policy_mask"][row, place]:
                ratio, loss, weight = p, -advantage * p / (p + GAMMA), advantage * GAMMA * p / (p + GAMMA) ** 2
            else:
                ratio = p / torch.exp(given["old_log_prob"][row, place]).item()
                loss, weight = -advantage * ratio, advantage * ratio
            assert found == pytest.approx([ratio, loss - ALPHA * entropy, weight], rel=1e-12)


SETTINGS = {
    "plain": {},
    "clip": {"clip_low": 0.1, "clip_high": 0.2, "dual_clip": 1.1},
    "bounds": {"off_policy_max_clip": 0.6, "off_policy_min_clip": 0.3},
    "dropped": {"max_probability": 0.5},
    "sft": {"sft_coefficient": 0.7, "off_policy_weight": 0.0},
    "kl": {"kl_coefficient": 0.3, "kl_to_old_coefficient": 0.2},
}


@pytest.mark.parametrize("aggregation", ["constant", "token_mean", "sequence_mean"])
@pytest.mark.parametrize("name", SETTINGS)
def test_they_add_up_to_the_loss_and_to_its_gradient(name: str, aggregation: str) -> None:
    given = batch(seed=3) | {"ref_log_prob": batch(seed=4)["log_prob"].detach()}
    config = ObjectiveConfig(aggregation=aggregation, constant_length=64, **SETTINGS[name])
    result = mixed_policy_loss(**given, entropy_coefficient=ALPHA, keep_tokens=True, config=config)
    assert result.tokens is not None
    mask = given["response_mask"]
    unit = {
        "constant": torch.full((ROWS, 1), 1 / 64, dtype=torch.float64),
        "token_mean": torch.full((ROWS, 1), 1 / mask.sum().item(), dtype=torch.float64),
        "sequence_mean": 1 / mask.sum(dim=-1, keepdim=True).double() / ROWS,
    }[aggregation]
    assert (result.tokens.loss * unit).sum().item() == pytest.approx(result.loss.item(), rel=1e-12)
    result.loss.backward()  # the graph is still there
    torch.testing.assert_close(-result.tokens.gradient_weight * unit, given["log_prob"].grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", methods())
def test_the_tokens_of_every_method_add_up(name: str) -> None:
    given = batch(seed=5) | {"teacher_log_prob": batch(seed=6)["log_prob"].detach(), "ref_log_prob": batch(seed=4)["log_prob"].detach()}
    given |= {"row_correct": torch.tensor([True, False, True, False]), "step": 3}
    config = load_method(name)
    result = mixed_policy_loss(**given, entropy_coefficient=ALPHA, keep_tokens=True, config=config)
    assert result.tokens is not None
    on_policy = given["response_mask"] & ~given["off_policy_mask"]
    of_the_policy = on_policy if config.policy_tokens == "on_policy" else given["response_mask"]
    divisor = {"constant": 8192, "token_mean": of_the_policy.sum().item()}[config.aggregation]
    assert result.tokens.loss.sum().item() / divisor == pytest.approx(result.loss.item(), rel=1e-9)
    result.loss.backward()
    torch.testing.assert_close(-result.tokens.gradient_weight / divisor, given["log_prob"].grad, rtol=1e-9, atol=1e-15)


def test_terms_beside_the_policys_are_part_of_a_tokens_loss() -> None:
    given = batch() | {"ref_log_prob": batch(seed=4)["log_prob"].detach()}
    plain, with_kl = (
        mixed_policy_loss(**given, keep_tokens=True, config=ObjectiveConfig(kl_coefficient=each)).tokens for each in (0.0, 0.3)
    )
    assert plain is not None and with_kl is not None
    kl = kl_estimate((given["log_prob"] - given["ref_log_prob"]).detach(), "low_var_kl")
    torch.testing.assert_close(with_kl.loss - plain.loss, torch.where(given["response_mask"], 0.3 * kl, 0.0), rtol=1e-9, atol=1e-12)


def test_asking_for_them_changes_nothing_else() -> None:
    results = [mixed_policy_loss(**batch(), keep_tokens=each, config=ObjectiveConfig()) for each in (False, True)]
    assert results[0].tokens is None
    assert torch.equal(results[0].loss, results[1].loss)
    assert results[0].metrics == results[1].metrics


def test_what_padding_holds_does_not_matter() -> None:
    clean, padded = batch(), batch()
    for name in ("old_log_prob", "advantages"):
        padded[name][~padded["response_mask"]] = torch.nan
    one, other = (mixed_policy_loss(**given, keep_tokens=True, config=ObjectiveConfig()).tokens for given in (clean, padded))
    assert one is not None and other is not None
    assert torch.equal(one.gradient_weight, other.gradient_weight) and torch.equal(one.loss, other.loss)
