"""The objective on a GPU under bf16 autocast beside the CPU in float64. Skipped without CUDA; needs PyTorch alone."""

from __future__ import annotations

import time

import pytest
import torch

from luffy.objective import ObjectiveConfig, mixed_policy_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
B, T = 16, 4096


def rows(seed: int = 0) -> dict[str, torch.Tensor]:
    """Ragged rows, one in eight a demonstration: log-probabilities [B, T] float64, masks bool, advantages float64."""
    generator = torch.Generator().manual_seed(seed)
    log_prob = -3 * torch.rand(B, T, generator=generator, dtype=torch.float64)
    mask = torch.arange(T) < torch.randint(1, T + 1, (B, 1), generator=generator)
    return {
        "log_prob": log_prob,
        "old_log_prob": log_prob + 0.1 * torch.randn(B, T, generator=generator, dtype=torch.float64),
        "advantages": torch.randn(B, 1, generator=generator, dtype=torch.float64).expand(B, T).contiguous(),
        "response_mask": mask,
        "off_policy_mask": (torch.arange(B)[:, None] % 8 == 0) & mask,
        "entropy": torch.rand(B, T, generator=generator, dtype=torch.float64),
    }


def loss_and_gradient(batch: dict[str, torch.Tensor], config: ObjectiveConfig) -> tuple[float, torch.Tensor]:
    batch = {**batch, "log_prob": batch["log_prob"].clone().requires_grad_()}
    loss = mixed_policy_loss(**batch, entropy_coefficient=0.001, config=config).loss
    loss.backward()
    return loss.item(), batch["log_prob"].grad.double().cpu()


@pytest.mark.parametrize("aggregation", ["constant", "token_mean", "sequence_mean"])
@pytest.mark.parametrize("clip", [None, 0.2])
def test_cuda_under_autocast_equals_the_cpu_in_float64(aggregation: str, clip: float | None) -> None:
    config = ObjectiveConfig(aggregation=aggregation, constant_length=T, clip_low=clip, clip_high=clip)
    batch = rows()
    expected, gradient = loss_and_gradient(batch, config)
    on_gpu = {name: (each.float() if each.is_floating_point() else each).cuda() for name, each in batch.items()}
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss, found = loss_and_gradient(on_gpu, config)
    error = (found - gradient).abs().max().item() / gradient.abs().max().item()
    print(
        f"\n{torch.cuda.get_device_name()}, {aggregation}, clip {clip}: loss {loss:.9f} beside {expected:.9f}, gradient {error:.1e} apart"
    )
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-7)
    edge = 0 if clip is None else 3  # a ratio that float32 rounds to the other side of the clip
    assert ((found - gradient).abs() > 1e-5 * gradient.abs().max()).sum() <= edge
    assert not found[~batch["response_mask"]].any()


def test_forward_and_backward_of_a_whole_mini_batch() -> None:
    shape = (64, 8192)
    batch = {name: each.float().cuda() if each.is_floating_point() else each.cuda() for name, each in rows().items()}
    batch = {name: each.repeat(shape[0] // B, shape[1] // T) for name, each in batch.items()}
    config = ObjectiveConfig(constant_length=shape[1])
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        loss_and_gradient_on_device(batch, config)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() - before
    print(f"\n{shape}: median {1e3 * sorted(times)[10]:.2f} ms (least {1e3 * min(times):.2f}), {peak / 2**20:.0f} MiB beyond its arguments")
    assert peak < 64 * batch["log_prob"].nbytes


def loss_and_gradient_on_device(batch: dict[str, torch.Tensor], config: ObjectiveConfig) -> None:
    log_prob = batch["log_prob"].detach().clone().requires_grad_()
    mixed_policy_loss(**{**batch, "log_prob": log_prob}, entropy_coefficient=0.001, config=config).loss.backward()
