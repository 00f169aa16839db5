"""Forward passes that tell nothing are left out, and the gradient is the same: on real FSDP ranks over gloo."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mix_example import ROWS, write_mix_example
from ranks import run_ranks
from test_mix_gradient import ACTOR, GAMMA, LENGTH, ROLLOUT, SGD, SPLITS, largest, micro_batches_of

from luffy import metric_names as names
from verl.mix_src.rl.spread import spread

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

OBJECTIVE = [f"luffy.objective.constant_length={LENGTH}", f"luffy.objective.shaping.gamma={GAMMA}"]
CLIPPED = ["luffy.objective.clip_low=0.2", "luffy.objective.clip_high=0.2", "luffy.objective.kl_to_old_coefficient=0.1",
           "luffy.objective.kl_estimator=kl"]  # fmt: skip
BY_ROWS = [*micro_batches_of(3), f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=3"]
BY_TOKENS = SPLITS["packed by tokens"]
# Of the 12 rows, from the longest response to the shortest: 0, 4 and 8 are whole demonstrations, 2, 6 and 10 partial ones.
IDLE = (0, 3, 4, 5, 7, 8, 11)


def cases_of(rows: list[dict[str, torch.Tensor]], ranks: int) -> dict[str, dict[str, Any]]:
    """Updates that differ in where the old log-probabilities come from, and in the rows that are computed."""
    zero = [{**row, "advantages": torch.zeros_like(row["advantages"])} if number in IDLE else row for number, row in enumerate(rows)]
    lengths = [len(row["input_ids"]) for row in rows]
    cases = {"given": {"overrides": [*BY_ROWS, *CLIPPED], "rows": rows}}
    for name, split, micro_batch in (("by rows", BY_ROWS, 3), ("by tokens", BY_TOKENS, None)):
        for old in ("pass", "own"):
            cases[f"{name}, {old}"] = {"old": old, "overrides": [*split, *CLIPPED], "rows": rows}
        order, computed = spread([number not in IDLE for number in range(ROWS)], lengths, ranks=ranks, updates=1, micro_batch=micro_batch)
        all_of_them = {"old": "own", "overrides": [*split, "luffy.objective.aggregation=token_mean"], "entropy_coefficient": 0.0,
                       "rows": [zero[place] for place in order]}  # fmt: skip
        cases |= {f"{name}, all": all_of_them, f"{name}, some": {**all_of_them, "computed": list(map(int, computed))}}
    return cases


@pytest.fixture(scope="module", params=[1, 2], ids=["one_rank", "two_ranks"])
def found(request, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What ``mix_rank.py`` writes of each case, all of whose rows are one mini-batch."""
    folder = tmp_path_factory.mktemp(f"passes{request.param}")
    model, rows = write_mix_example(folder)
    cases, listed = cases_of(rows, request.param), []
    for number, case in enumerate(cases.values()):
        torch.save(case["rows"], folder / f"rows{number}.pt")
        overrides = [f"actor_rollout_ref.model.path={model}", *SGD, f"{ACTOR}.optim.lr=1.0", *OBJECTIVE, *case["overrides"]]
        files = {"rows": str(folder / f"rows{number}.pt"), "output": str(folder / f"{number}.pt")}
        listed.append({"mini_batch": ROWS, "columns": [], "entropy_coefficient": 0.02} | case | files | {"overrides": overrides})
    run_ranks("mix_rank.py", request.param, listed, folder)
    return {name: torch.load(case["output"]) for name, case in zip(cases, listed, strict=True)}


@pytest.mark.parametrize("split", ["by rows", "by tokens"])
def test_the_updates_own_pass_gives_the_gradient_of_a_pass_before_it(found, split):
    before, own = found[f"{split}, pass"], found[f"{split}, own"]
    assert largest(before["weights"], own["weights"]) == 0.0
    assert before["passed"].keys() == own["passed"].keys() and len(own["passed"]) in (ROWS, ROWS // 2)
    assert all(told.equal(own["passed"][row][: len(told)]) for row, told in before["passed"].items())
    shown = [{name: each["metrics"][name] for name in names.MEANING if name in each["metrics"]} for each in (before, own)]
    assert shown[0] == shown[1] and shown[0][names.PPO_KL] == 0.0
    assert largest(found["given"]["weights"], own["weights"]) > 0.01  # which the old log-probabilities do change


@pytest.mark.parametrize("split", ["by rows", "by tokens"])
def test_rows_without_a_gradient_are_left_out_and_the_gradient_is_the_same(found, split):
    every, some = found[f"{split}, all"], found[f"{split}, some"]
    ranks = ROWS // len(every["passed"])
    assert len(some["passed"]) == {1: {"by rows": 6, "by tokens": 5}, 2: {"by rows": 3, "by tokens": 3}}[ranks][split]
    assert largest(every["weights"], some["weights"]) < 4e-6
    for metric in (names.LOSS, names.POLICY_LOSS, names.ON_POLICY_LOSS, names.OFF_POLICY_LOSS):
        assert some["metrics"][metric] == pytest.approx(every["metrics"][metric], rel=1e-5, abs=1e-6)
    fractions = [some["metrics"][each] for each in (names.ON_POLICY_FRACTION, names.OFF_POLICY_FRACTION)]
    assert sum(fractions) == pytest.approx(1)  # of the tokens that were computed
    assert some["metrics"][names.ENTROPY] == pytest.approx(every["metrics"][names.ENTROPY], rel=0.2)  # a mean of other rows
