"""veRL's SFT trainer, as this project configures it, against one big batch in plain PyTorch.

Real FSDP ranks over gloo train for one epoch of three steps on rows of very different lengths. With plain SGD the weights at
the end are the start minus the gradients, so a row, a micro-batch or a rank that is lost or weighted wrongly shows. Not shown
here: bf16, flash-attention and offloading to another device, which need a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from ranks import run_ranks
from sft_example import SGD, STEPS, Example, overrides, write_example
from transformers import Qwen2ForCausalLM

from verl.mix_src import sft_trainer

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


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Example:
    return write_example(tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def results(request, example: Example, tmp_path_factory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    cases = [
        {"overrides": overrides(example, folder / str(number), extra), "output": str(folder / f"{number}.pt")}
        for number, extra in enumerate(CASES.values())
    ]
    run_ranks("sft_rank.py", request.param, cases, folder)
    return {name: torch.load(case["output"]) for name, case in zip(CASES, cases, strict=True)}


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
        metrics.append({"loss": loss.item(), "grad_norm": norm.item(), "probability": probability / tokens})
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


def test_every_row_is_trained_once_an_epoch(example, results):
    for result in results.values():
        trained = sorted(row for batch in big_batches(result) for row in batch)
        assert trained == sorted(prompt + response for prompt, response in example.rows)


def test_a_rank_takes_its_own_device_before_it_joins_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun shows all GPUs to every rank; without a choice all of them would work on the first."""
    taken: list[int] = []

    def join() -> None:
        taken.append(-1)
        raise InterruptedError

    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(type(sft_trainer.get_torch_device()), "set_device", lambda self, device: taken.append(device))
    monkeypatch.setattr(sft_trainer, "initialize_global_process_group_ray", join)
    with pytest.raises(InterruptedError):
        sft_trainer.train(OmegaConf.create({"data": {"val_files": None}}))
    assert taken == [3, -1]
