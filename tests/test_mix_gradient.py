"""An update of veRL's actor with LUFFY's loss, against one big batch in plain PyTorch.

Real FSDP ranks over gloo update on rows of very different lengths. With plain SGD at rate 1 the weights at the end are
the start minus the gradient (whose largest entry is about 1), so a row, a micro-batch or a rank that is lost or
weighted wrongly shows. Not shown here: bf16,
flash-attention and other devices, which need a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from mix_example import ROWS, Row, log_probabilities, with_padding, write_mix_example
from ranks import run_ranks
from transformers import Qwen2ForCausalLM

from luffy import metric_names as names

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

TOLERANCE = 4e-6  # so that any two splits, and 1 and 2 ranks, agree to 1e-5
GAMMA, LENGTH = 0.1, 64
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
SGD = [f"{ACTOR}.optim.{setting}" for setting in ("optimizer=SGD", "weight_decay=0.0", "clip_grad=1.0e9")]
PACKED = ["actor_rollout_ref.model.use_remove_padding=true"]
BY_TOKENS = [f"{ACTOR}.use_dynamic_bsz=true", f"{ROLLOUT}.log_prob_use_dynamic_bsz=true",
             f"{ACTOR}.ppo_max_token_len_per_gpu=130", f"{ROLLOUT}.log_prob_max_token_len_per_gpu=130"]  # fmt: skip

OWN = [
    f"luffy.objective.{key}" for key in ("policy_tokens=on_policy", "sft_rows=right", "sft_divisor=own_tokens", "entropy_divisor=own_rows")
]


def micro_batches_of(rows: int) -> list[str]:
    return [f"{ACTOR}.ppo_micro_batch_size_per_gpu={rows}"]


@dataclass(frozen=True, kw_only=True)
class Formula:
    """What the loss should be: the terms of the reference."""

    aggregation: str = "constant"
    alpha: float = 0.02
    clip: float | None = None
    off_policy_weight: float = 1.0
    sft: float = 0.0
    importance: bool = False
    own: bool = False  # the policy stream is that of the rollouts, the SFT stream that of right demonstrations, each by its own tokens

    def overrides(self) -> list[str]:
        clip = [f"luffy.objective.clip_low={self.clip}", f"luffy.objective.clip_high={self.clip}"] if self.clip else []
        return [
            f"luffy.objective.aggregation={self.aggregation}",
            f"luffy.objective.constant_length={LENGTH}",
            f"luffy.objective.shaping.gamma={GAMMA}",
            f"luffy.objective.off_policy_weight={self.off_policy_weight}",
            f"luffy.objective.sft_coefficient={self.sft}",
            *clip,
            *(OWN if self.own else []),
        ]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One update: a formula, and how its rows are split."""

    split: list[str]
    formula: Formula = field(default_factory=Formula)
    mini_batch: int = ROWS
    padding: int = 0
    rate: float = 1.0


SPLITS = {
    "micro batches of 1": micro_batches_of(1),
    "micro batches of 3": micro_batches_of(3),
    "micro batches of 6": micro_batches_of(6),
    "by tokens": BY_TOKENS,
    "packed, micro batches of 2": [*PACKED, *micro_batches_of(2)],
    "packed by tokens": [*PACKED, *BY_TOKENS],
}
TOKEN_MEAN = Formula(aggregation="token_mean", alpha=0.05)
IMITATION = Formula(off_policy_weight=0.0, sft=1.0)
STREAMS = Formula(aggregation="token_mean", sft=0.5, own=True)
CASES = {
    **{name: Case(split=split) for name, split in SPLITS.items()},
    "two mini-batches": Case(split=micro_batches_of(3), mini_batch=ROWS // 2, rate=0.1),
    "padding rows": Case(split=micro_batches_of(1), padding=3),
    "padding rows, packed by tokens": Case(split=SPLITS["packed by tokens"], padding=3),
    "token mean": Case(split=micro_batches_of(1), formula=TOKEN_MEAN),
    "token mean, padding rows, packed by tokens": Case(split=SPLITS["packed by tokens"], formula=TOKEN_MEAN, padding=3),
    "SFT term": Case(split=micro_batches_of(2), formula=IMITATION),
    "SFT term, packed by tokens": Case(split=SPLITS["packed by tokens"], formula=IMITATION),
    "own divisors": Case(split=micro_batches_of(2), formula=STREAMS),
    "own divisors, padding rows, packed by tokens": Case(split=SPLITS["packed by tokens"], formula=STREAMS, padding=3),
    "own divisors, two mini-batches": Case(split=micro_batches_of(1), formula=STREAMS, mini_batch=ROWS // 2, rate=0.1),
    "PPO clip": Case(split=micro_batches_of(2), formula=Formula(clip=0.2)),
    "rollout correction": Case(split=SPLITS["packed by tokens"], formula=Formula(importance=True)),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> tuple[Path, list[Row]]:
    return write_mix_example(tmp_path_factory.mktemp("mix"))


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def results(request, example, tmp_path_factory) -> dict[str, dict[str, Any]]:
    model, rows = example
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    cases = []
    for number, case in enumerate(CASES.values()):
        torch.save(with_padding(rows[: ROWS - case.padding], case.padding), folder / f"rows{number}.pt")
        cases.append({
            "overrides": [
                f"actor_rollout_ref.model.path={model}", *SGD, f"{ACTOR}.optim.lr={case.rate}",
                *case.formula.overrides(), *case.split,
            ],
            "rows": str(folder / f"rows{number}.pt"),
            "mini_batch": case.mini_batch,
            "columns": ["rollout_is_weights"] if case.formula.importance else [],
            "entropy_coefficient": case.formula.alpha,
            "output": str(folder / f"{number}.pt"),
        })  # fmt: skip
    run_ranks("mix_rank.py", request.param, cases, folder)
    return {name: torch.load(case["output"]) for name, case in zip(CASES, cases, strict=True)}


def sums(model: Qwen2ForCausalLM, row: Row, formula: Formula) -> dict[str, torch.Tensor]:
    """The row's sums over its tokens that count: of each term of the loss, and of what the metrics show."""
    distribution = log_probabilities(model, row)
    log_p = distribution.gather(1, row["responses"].unsqueeze(1)).squeeze(1)
    entropy = -(distribution.exp() * distribution).sum(dim=1)
    counted = row["response_mask"].double()
    off = counted * row["off_policy_mask"]
    on = counted - off
    advantages = row["advantages"]
    ratio = (log_p - row["old_log_probs"]).exp()
    gain = advantages * ratio
    if formula.clip:
        gain = torch.minimum(gain, advantages * ratio.clamp(1 - formula.clip, 1 + formula.clip))
    if formula.importance:
        gain = gain * row["rollout_is_weights"]
    p = log_p.exp() / row["behaviour_prob"]
    shaped = p / (p + GAMMA)
    return {
        "on": -(on * gain).sum(),
        "off": -formula.off_policy_weight * (off * advantages * shaped).sum(),
        "entropy": (counted * entropy).sum(),
        "sft": -(off * log_p).sum(),
        "tokens": counted.sum(),
        "off_tokens": off.sum(),
        "p": (off * p).sum(),
        "shaped": (off * shaped).sum(),
        "on_tokens": on.sum(),
        "right_sft": -(off * row["row_correct"] * log_p).sum(),
        "right_off_tokens": (off * row["row_correct"]).sum(),
        "rows": counted.any().double(),
    }


def reference(model_folder: Path, rows: list[Row], case: Case) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Weights after plain gradient descent on each mini-batch at once, and the metrics of each."""
    formula, metrics = case.formula, []
    model = Qwen2ForCausalLM.from_pretrained(model_folder)
    for start in range(0, ROWS, case.mini_batch):
        parts = [sums(model, row, formula) for row in rows[start : start + case.mini_batch]]
        total = {name: sum(part[name] for part in parts) for name in parts[0]}
        divisor = LENGTH if formula.aggregation == "constant" else total["tokens"]
        policy, entropy, imitation = total["on"] + total["off"], total["entropy"] / divisor, total["sft"] / divisor
        if formula.own:
            policy, divisor, entropy = total["on"], total["on_tokens"], total["entropy"] / total["rows"]
            imitation = total["right_sft"] / total["right_off_tokens"]
        loss = policy / divisor - formula.alpha * entropy + formula.sft * imitation
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= case.rate * weight.grad
        metrics.append({
            names.LOSS: loss.item(),
            names.POLICY_LOSS: (policy / divisor).item(),
            names.ON_POLICY_LOSS: (total["on"] / divisor).item(),
            names.OFF_POLICY_LOSS: 0.0 if formula.own else (total["off"] / divisor).item(),
            names.ENTROPY_LOSS: entropy.item(),
            names.ENTROPY: (total["entropy"] / total["tokens"]).item(),
            names.OFF_POLICY_FRACTION: (total["off_tokens"] / total["tokens"]).item(),
            names.OFF_POLICY_RATIO: (total["p"] / total["off_tokens"]).item(),
            names.OFF_POLICY_SHAPED: (total["shaped"] / total["off_tokens"]).item(),
        })  # fmt: skip
    return model.state_dict(), metrics


@pytest.fixture(scope="module")
def references(example) -> dict[str, Any]:
    """The reference of each case, and the start."""
    model, rows = example
    start = Qwen2ForCausalLM.from_pretrained(model).state_dict()
    return {name: (start, *reference(model, rows[: ROWS - case.padding], case)) for name, case in CASES.items()}


def largest(tensors: dict[str, torch.Tensor], minus: dict[str, torch.Tensor]) -> float:
    assert tensors.keys() == minus.keys()
    return max((tensors[name] - minus[name]).abs().max().item() for name in tensors)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_one_big_batch(references, results, name):
    start, weights, _ = references[name]
    assert largest(weights, start) > 0.1 * CASES[name].rate
    assert largest(results[name]["weights"], weights) < TOLERANCE


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mini_batch == ROWS])
def test_metrics_are_those_of_one_big_batch(references, results, name):
    (expected,), metrics = references[name][2], results[name]["metrics"]
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-5)
    on, off = metrics[names.ON_POLICY_LOSS], metrics[names.OFF_POLICY_LOSS]
    assert on + off == pytest.approx(metrics[names.POLICY_LOSS], abs=1e-6)
    assert metrics[names.ON_POLICY_FRACTION] + metrics[names.OFF_POLICY_FRACTION] == pytest.approx(1, abs=1e-6)


def test_metrics_do_not_depend_on_the_split(results):
    every = [results[name]["metrics"] for name in SPLITS]
    first, *others = ({key: value for key, value in each.items() if key in names.MEANING} for each in every)
    assert {names.LOSS, names.PPO_KL, names.OFF_POLICY_SHAPED} < first.keys()
    for metrics in others:
        assert metrics == pytest.approx(first, rel=1e-4, abs=1e-5)
