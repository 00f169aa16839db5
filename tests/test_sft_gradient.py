"""veRL's SFT trainer, as this project configures it, against one big batch in plain PyTorch, and against itself when it was stopped.

Real FSDP ranks over gloo train for one epoch of three steps on rows of very different lengths. With plain SGD the weights at
the end are the start minus the gradients, so a row, a micro-batch or a rank that is lost or weighted wrongly shows. A run
that stops at a checkpoint and goes on ends with the weights of a run that was never stopped. Not shown here: bf16, flash-attention
and offloading to another device, which need a GPU.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from ranks import run_ranks
from sft_example import SGD, STEPS, Example, overrides, write_example
from transformers import Qwen2ForCausalLM

from verl.mix_src.sft import trainer as sft_trainer
from verl.mix_src.upstream import METRICS_FILE

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]

TOLERANCE = 2e-6
# With a large epsilon AdamW's step depends on the gradient's size too; the clip is active (norms are above 1).
ADAMW = ["optim.lr=0.01", "optim.weight_decay=0.1", "optim.clip_grad=0.5", "optim.override_optimizer_config={eps: 0.001}"]
OFFLOAD = ["engine.param_offload=true", "engine.optimizer_offload=true"]
POLICY = ["engine.offload_policy=true"]
NO_SYNC = ["engine.use_no_sync_for_gradient_accumulation=true"]
PACKED = ["model.use_remove_padding=true"]
DYNAMIC = ["data.use_dynamic_bsz=true", "data.max_token_len_per_gpu=130", *PACKED]

CASES = {
    "micro batches of 1": [*SGD, "data.micro_batch_size_per_gpu=1"],
    "micro batches of 4": [*SGD, "data.micro_batch_size_per_gpu=4"],
    "deferred synchronization": [*SGD, *NO_SYNC, "data.micro_batch_size_per_gpu=1"],
    "offload": [*SGD, *OFFLOAD, "data.micro_batch_size_per_gpu=1"],
    "offload policy": [*SGD, *POLICY, "data.micro_batch_size_per_gpu=2"],
    "offload policy, deferred synchronization": [*SGD, *POLICY, *NO_SYNC, "data.micro_batch_size_per_gpu=2"],
    "packed": [*SGD, *PACKED, "data.micro_batch_size_per_gpu=2"],
    "packed by tokens": [*SGD, *DYNAMIC],
    "AdamW": [*ADAMW, "data.micro_batch_size_per_gpu=1"],
    "AdamW, offload": [*ADAMW, *OFFLOAD, "data.micro_batch_size_per_gpu=1"],
    "AdamW, offload policy": [*ADAMW, *POLICY, "data.micro_batch_size_per_gpu=1"],
}


SPLIT = {name: (str(number), extra) for number, (name, extra) in enumerate(CASES.items())}  # folder and overrides

RESUMED_STEPS = 7  # two epochs of three steps, and one more
RUNS = {  # folder, then the steps after which a process stops
    "straight": ("straight", RESUMED_STEPS),
    "until the middle of an epoch": ("middle", 2),
    "from the middle of an epoch": ("middle", RESUMED_STEPS),
    "until the end of an epoch": ("end", 3),
    "from the end of an epoch": ("end", RESUMED_STEPS),
    "another seed": ("seed", RESUMED_STEPS),
}


def run_overrides(name: str, steps: int) -> list[str]:
    seed = int(name == "another seed")
    return [*SGD, "data.micro_batch_size_per_gpu=8", f"trainer.total_training_steps={steps}", f"luffy.run.seed={seed}"]


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Example:
    return write_example(tmp_path_factory.mktemp("sft"))


def trained(example: Example, folder: Path, ranks: int, runs: dict[str, tuple[str, list[str]]]) -> dict[str, dict[str, Any]]:
    """What each run (a folder and overrides) ends with; all of them in one start of the ranks."""
    cases = [
        {"overrides": overrides(example, folder / run, extra), "output": str(folder / f"{number}.pt")}
        for number, (run, extra) in enumerate(runs.values())
    ]
    run_ranks("sft_rank.py", ranks, cases, folder)
    return {name: torch.load(case["output"]) for name, case in zip(runs, cases, strict=True)}


@pytest.fixture(scope="module")
def one_rank(example: Example, tmp_path_factory) -> dict[str, dict[str, Any]]:
    resumed = {name: (run, run_overrides(name, steps)) for name, (run, steps) in RUNS.items()}
    return trained(example, tmp_path_factory.mktemp("one"), 1, SPLIT | resumed)


@pytest.fixture(scope="module")
def two_ranks(example: Example, tmp_path_factory) -> dict[str, dict[str, Any]]:
    return trained(example, tmp_path_factory.mktemp("two"), 2, SPLIT)


@pytest.fixture(scope="module", params=["one_rank", "two_ranks"])
def results(request) -> dict[str, dict[str, Any]]:
    found = request.getfixturevalue(request.param)
    return {name: found[name] for name in CASES}


def big_batches(result: dict[str, Any]) -> list[list[list[int]]]:
    """The rows of each step, over all ranks."""
    return [[row for rank in result["rows"] for row in rank[step]] for step in range(STEPS)]


def reference(example: Example, batches: list[list[list[int]]], name: str) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Train on each batch at once: rows one by one without padding, the sum over learnt tokens divided by their number."""
    learnt = {tuple(prompt + response): len(response) for prompt, response in example.rows}
    model = Qwen2ForCausalLM.from_pretrained(example.model)
    adamw = name.startswith("AdamW")
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1, eps=0.001)
        if adamw
        else torch.optim.SGD(model.parameters(), lr=0.5)
    )
    metrics = []
    for rows in batches:
        total, tokens, probability = torch.zeros(()), 0, 0.0
        for row in rows:
            count = learnt[tuple(row)]
            log_probs = torch.log_softmax(model(input_ids=torch.tensor([row])).logits[0, :-1], dim=-1)
            chosen = log_probs.gather(1, torch.tensor(row[1:]).unsqueeze(1)).squeeze(1)[-count:]
            total, tokens, probability = total - chosen.sum(), tokens + count, probability + chosen.detach().exp().sum().item()
        loss = total / tokens
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5 if adamw else 1e9)
        optimizer.step()
        costs = {"tokens": tokens, "processed": sum(map(len, rows)), "traces": len(rows)}
        metrics.append({"loss": loss.item(), "grad_norm": norm.item(), "probability": probability / tokens, **costs})
    return model.state_dict(), metrics


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_one_big_batch(example, results, name):
    weights, metrics = reference(example, big_batches(results[name]), name)
    assert largest_difference(results[name]["weights"], weights) < TOLERANCE
    for step, expected in zip(results[name]["metrics"], metrics, strict=True):
        assert step["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert step["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
        assert step["off_policy/probability"] == pytest.approx(expected["probability"], rel=1e-4)
        assert {name: step[f"ledger/{name}"] for name in ("trained_tokens", "processed_tokens", "traces")} == {
            "trained_tokens": expected["tokens"], "processed_tokens": expected["processed"], "traces": expected["traces"]
        }  # fmt: skip


def test_every_row_is_trained_once_an_epoch(example, results):
    for result in results.values():
        taken = sorted(row for batch in big_batches(result) for row in batch)
        assert taken == sorted(prompt + response for prompt, response in example.rows)


@pytest.mark.parametrize("where", ["the middle of an epoch", "the end of an epoch"])
def test_resumed_run_ends_alike(one_rank, where):
    straight, before, after = one_rank["straight"], one_rank[f"until {where}"], one_rank[f"from {where}"]
    assert before["rows"][0] + after["rows"][0] == straight["rows"][0]
    for name, weight in straight["weights"].items():
        assert torch.equal(weight, after["weights"][name])


def test_the_seed_orders_the_rows(one_rank):
    straight, other = one_rank["straight"]["rows"][0], one_rank["another seed"]["rows"][0]
    assert straight != other
    assert sorted(chain(*straight[:3])) == sorted(chain(*other[:3]))


def test_a_rank_takes_its_own_device_before_it_joins_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun shows all GPUs to every rank; without a choice all of them would work on the first. Started by hand it logs all the same."""
    taken: list[int] = []

    def join(timeout_second: int) -> None:
        taken.append(timeout_second)
        raise InterruptedError

    monkeypatch.setenv(METRICS_FILE, "")
    del os.environ[METRICS_FILE]  # set by the test, so that it is as before afterwards

    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(type(sft_trainer.get_torch_device()), "set_device", lambda self, device: taken.append(device))
    monkeypatch.setattr(sft_trainer, "initialize_global_process_group_ray", join)
    with pytest.raises(InterruptedError):
        sft_trainer.train(OmegaConf.create({"data": {"val_files": None}, "trainer": {"default_local_dir": str(tmp_path)}}))
    assert taken == [3, 36000]  # seconds, as veRL's own command has it: while the first rank writes a whole checkpoint
    assert os.environ[METRICS_FILE] == str(tmp_path / "metrics.jsonl")
