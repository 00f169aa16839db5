"""veRL's SFT trainer with a seeded data order, resuming mended, whole checkpoints, and one more metric.

The loss is veRL's own: the sum of the learnt tokens' negative log-likelihood over all micro-batches and ranks, divided
by their number in the whole batch (``tests/test_sft_gradient.py`` proves it against plain PyTorch).

``torchrun -m verl.mix_src.sft.trainer CONFIG.yaml`` runs one rank; ``main_sft`` starts them.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_torch_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group_ray
from verl.workers.utils.losses import sft_loss

from luffy import ledger
from luffy.errors import InputError
from luffy.safety import Phase
from verl.mix_src.run.checkpoints import ASIDE, keep_newest, unpickling_numbers_alone, written_aside
from verl.mix_src.run.failure import SKIPPED, BadNumbers
from verl.mix_src.run.folder import RunFiles, go_on_with_metrics
from verl.mix_src.run.stalls import begin
from verl.mix_src.upstream import METRICS_FILE

PROBABILITY = "off_policy/probability"  # as reinforcement learning logs it
SLOWEST_S = 36000  # a rank waits for another, as veRL's own command lets it: while the first one writes a whole checkpoint


class DemonstrationTrainer(SFTTrainer):
    """veRL's SFT trainer on demonstrations."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        if self.resume_global_step and self.resume_global_step % self.steps_per_epoch == 0:
            # A loader restored at the very end of an epoch gives nothing: veRL would skip the whole next epoch.
            self._build_dataloader()
            self.ckpt_handler.train_dataloader = self.train_dataloader
        self.training_client.step = self.resume_global_step

    def _build_ckpt_handler(self) -> None:
        super()._build_ckpt_handler()
        self.ckpt_handler.save_checkpoint = partial(self._save_whole, self.ckpt_handler.save_checkpoint)
        self.ckpt_handler.load_checkpoint = unpickling_numbers_alone()(self.ckpt_handler.load_checkpoint)

    def _save_whole(self, upstream: Callable[..., None], step: int) -> None:
        """Let all ranks write aside; then the first one lets the whole take its place."""
        handler, folder, first = self.ckpt_handler, Path(self.config.trainer.default_local_dir), torch.distributed.get_rank() == 0
        kept = handler.max_ckpt_to_keep
        if first:
            begin(Phase.CHECKPOINT, step)
        facts = {"identity": RunFiles(folder).read_record.get("identity", {})}
        with written_aside(folder, step, facts) if first else nullcontext():
            torch.distributed.barrier()  # the folder is there
            handler.default_local_dir, handler.max_ckpt_to_keep = str(folder / ASIDE), None
            try:
                upstream(step=step)
            finally:
                handler.default_local_dir, handler.max_ckpt_to_keep = str(folder), kept
        if first and kept:
            keep_newest(folder, kept)
        torch.distributed.barrier()

    def _build_engine(self) -> None:
        super()._build_engine()
        self.training_client.set_loss_fn(measured_sft_loss)
        self.training_client = _SummedMetrics(self.training_client, bad_steps=self.config.luffy.safety.bad_steps)

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.seed = self.config.trainer.seed  # veRL leaves PyTorch's constant 0


class _SummedMetrics:
    """veRL's training worker, whose metrics are sums over micro-batches and ranks instead of nested lists.

    It makes no update where the gradient's norm, which is that of all ranks, is not finite; more of these in a row than ``bad_steps`` end
    the run.
    """

    def __init__(self, worker: Any, bad_steps: int) -> None:
        self._worker, self._bad_steps, self._bad_in_a_row, self.step = worker, bad_steps, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def train_batch(self, data: TensorDict) -> TensorDict | None:
        """One optimizer step; None on ranks without outputs."""
        self.step += 1
        if torch.distributed.get_rank() == 0:
            begin(Phase.UPDATE, self.step)  # until the next one begins
        output = self._worker.train_batch(data=data)
        if output is not None:
            metrics = tu.get(output, "metrics")
            for name in (PROBABILITY, ledger.TRAINED, ledger.PROCESSED, ledger.TRACES):
                metrics[name] = float(sum(torch.tensor(metrics[name]).flatten()))
            metrics[SKIPPED] = float(self._is_skipped(metrics))
            tu.assign_non_tensor(output, metrics=metrics)
        return output

    def _is_skipped(self, metrics: dict[str, Any]) -> bool:
        bad = not math.isfinite(metrics["grad_norm"])
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        if self._bad_in_a_row > self._bad_steps:
            raise BadNumbers(
                f"the gradient is not finite at step {self.step}, and nothing was learned from it; {self._bad_in_a_row} such steps in a row "
                "(luffy.safety.bad_steps): go on from an earlier checkpoint with a lower learning rate"
            )
        return bad


def measured_sft_loss(model_output: dict[str, Any], data: TensorDict, dp_group: Any = None) -> tuple[torch.Tensor, dict[str, float]]:
    """veRL's SFT loss, this micro-batch's share of the mean probability of a learnt token, and what it cost (:mod:`luffy.ledger`).

    Args:
        model_output: ``log_probs``, nested [B, T]: of each token's successor.
        data: the micro-batch, with ``loss_mask`` (nested [B, T]) and the batch's ``batch_num_tokens``.
        dp_group: unused; veRL passes it.
    """
    loss, metrics = sft_loss(None, model_output, data, dp_group)
    learnt = torch.roll(data["loss_mask"].values(), shifts=-1).bool()
    probability = model_output["log_probs"].values().detach()[learnt].exp().sum() / data["batch_num_tokens"]
    costs = {ledger.TRAINED: learnt.sum().item(), ledger.PROCESSED: learnt.numel(), ledger.TRACES: len(data["loss_mask"])}
    return loss, {**metrics, PROBABILITY: probability.item(), **costs}


def train(config: DictConfig) -> None:
    """Train in this process, as one rank of the process group that the environment describes."""
    config.data.val_files = None  # held-out problems are answered by generation, not scored by a loss
    files = RunFiles.of(config)
    files.folder.mkdir(parents=True, exist_ok=True)  # started by hand, on several nodes, it is not there yet
    os.environ.setdefault(METRICS_FILE, str(files.metrics.resolve()))
    go_on_with_metrics()
    get_torch_device().set_device(int(os.environ["LOCAL_RANK"]))  # torchrun shows all devices to every rank, Ray one to each
    initialize_global_process_group_ray(timeout_second=SLOWEST_S)
    try:
        DemonstrationTrainer(config).fit()
    finally:
        destroy_global_process_group()


if __name__ == "__main__":
    try:
        train(OmegaConf.load(sys.argv[1]))
    except InputError as error:
        sys.exit(f"error: {error}")
