"""veRL's SFT trainer with a seeded data order, resuming mended, and one more metric.

The loss is veRL's own: the sum of the learnt tokens' negative log-likelihood over all micro-batches and ranks, divided
by their number in the whole batch (``tests/test_sft_gradient.py`` proves it against plain PyTorch).

``torchrun -m verl.mix_src.sft_trainer CONFIG.yaml`` runs one rank; ``main_sft`` starts them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_torch_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray
from verl.workers.utils.losses import sft_loss

from luffy.errors import InputError
from verl.mix_src.metrics_log import go_on_with_metrics

PROBABILITY = "off_policy/probability"  # as reinforcement learning logs it


class DemonstrationTrainer(SFTTrainer):
    """veRL's SFT trainer on demonstrations."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        if self.resume_global_step and self.resume_global_step % self.steps_per_epoch == 0:
            # A loader restored at the very end of an epoch gives nothing: veRL would skip the whole next epoch.
            self._build_dataloader()
            self.ckpt_handler.train_dataloader = self.train_dataloader

    def _build_engine(self) -> None:
        super()._build_engine()
        self.training_client.set_loss_fn(measured_sft_loss)
        self.training_client = _SummedMetrics(self.training_client)

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.seed = self.config.trainer.seed  # veRL leaves PyTorch's constant 0


class _SummedMetrics:
    """veRL's training worker, whose metrics are sums over micro-batches and ranks instead of nested lists."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def train_batch(self, data: TensorDict) -> TensorDict | None:
        """One optimizer step; None on ranks without outputs."""
        output = self._worker.train_batch(data=data)
        if output is not None:
            metrics = tu.get(output, "metrics")
            metrics[PROBABILITY] = float(sum(torch.tensor(metrics[PROBABILITY]).flatten()))
            tu.assign_non_tensor(output, metrics=metrics)
        return output


def measured_sft_loss(model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> tuple[torch.Tensor, dict[str, float]]:
    """veRL's SFT loss, and this micro-batch's share of the mean probability of a learnt token.

    Args:
        model_output: ``log_probs``, nested [B, T]: of each token's successor.
        data: the micro-batch, with ``loss_mask`` (nested [B, T]) and the batch's ``batch_num_tokens``.
        dp_group: unused; veRL passes it.
    """
    loss, metrics = sft_loss(None, model_output, data, dp_group)
    learnt = torch.roll(data["loss_mask"].values(), shifts=-1).bool()
    probability = model_output["log_probs"].values().detach()[learnt].exp().sum() / data["batch_num_tokens"]
    return loss, {**metrics, PROBABILITY: probability.item()}


def train(config: DictConfig) -> None:
    """Train in this process, as one rank of the process group that the environment describes."""
    config.data.val_files = None  # held-out problems are answered by generation, not scored by a loss
    go_on_with_metrics()
    get_torch_device().set_device(int(os.environ["LOCAL_RANK"]))  # torchrun shows all devices to every rank, Ray one to each
    initialize_global_process_group_ray()
    try:
        DemonstrationTrainer(config).fit()
    finally:
        destroy_global_process_group()


if __name__ == "__main__":
    try:
        train(OmegaConf.load(sys.argv[1]))
    except InputError as error:
        sys.exit(f"error: {error}")
