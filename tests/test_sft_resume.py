"""A run that stops at a checkpoint and goes on ends with the weights of a run that was never stopped."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from ranks import run_ranks
from sft_example import SGD, overrides, write_example

pytestmark = pytest.mark.integration

STEPS = 7  # two epochs of three steps, and one more
RUNS = {  # folder, then the steps after which a process stops
    "straight": ("straight", STEPS),
    "until the middle of an epoch": ("middle", 2),
    "from the middle of an epoch": ("middle", STEPS),
    "until the end of an epoch": ("end", 3),
    "from the end of an epoch": ("end", STEPS),
    "another seed": ("seed", STEPS),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("resume")
    example = write_example(tmp_path_factory.mktemp("sft"))
    cases = []
    for number, (name, (run, steps)) in enumerate(RUNS.items()):
        extra = [
            *SGD,
            "data.micro_batch_size_per_gpu=8",
            f"trainer.total_training_steps={steps}",
            f"luffy.run.seed={int(name == 'another seed')}",
        ]
        cases.append({"overrides": overrides(example, folder / run, extra), "output": str(folder / f"{number}.pt")})
    run_ranks("sft_rank.py", 1, cases, folder)
    return {name: torch.load(case["output"]) for name, case in zip(RUNS, cases, strict=True)}


@pytest.mark.parametrize("where", ["the middle of an epoch", "the end of an epoch"])
def test_resumed_run_ends_alike(results, where):
    straight, before, after = results["straight"], results[f"until {where}"], results[f"from {where}"]
    assert before["rows"][0] + after["rows"][0] == straight["rows"][0]
    for name, weight in straight["weights"].items():
        assert torch.equal(weight, after["weights"][name])


def test_the_seed_orders_the_rows(results):
    straight, other = results["straight"]["rows"][0], results["another seed"]["rows"][0]
    assert straight != other
    assert sorted(chain(*straight[:3])) == sorted(chain(*other[:3]))
