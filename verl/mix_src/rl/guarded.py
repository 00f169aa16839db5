"""What a training step does about faults: it says which phase it is in, saves whole checkpoints, and does not learn from bad numbers.

:class:`GuardedTrainer` stands above :class:`~verl.mix_src.rl.trainer.MixTrainer` and veRL's trainer, whose methods it extends.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import OmegaConf, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from luffy import metric_names as names
from luffy.files import replacing
from luffy.safety import Phase
from verl.mix_src.rl.rollout import BEHAVIOUR_PROB, OFF_POLICY_MASK
from verl.mix_src.run.checkpoints import (
    STEP_METRICS,
    CheckpointFailed,
    is_out_of_space,
    keep_best,
    keep_newest,
    require_room,
    score_of,
    unpickling_numbers_alone,
    written_aside,
)
from verl.mix_src.run.failure import SKIPPED, BadNumbers
from verl.mix_src.run.folder import RunFiles
from verl.mix_src.run.stalls import begin

logger = logging.getLogger(__name__)

FAILED_SAVES, GRADIENT = "training/failed_saves", "actor/grad_norm"
BAD_ROWS = "bad_rows"
ROW_FIELDS = ("prompts", "responses", "rm_scores", "advantages", "old_log_probs", OFF_POLICY_MASK, BEHAVIOUR_PROB)


class GuardedTrainer:
    """Mixed in above the trainer of a mode."""

    _metrics: dict[str, Any]
    _bad_in_a_row = 0

    def on_init_end(self) -> None:
        """The first weights go to the engines."""
        begin(Phase.WEIGHT_SYNC, self.global_steps)
        super().on_init_end()
        begin(Phase.START, self.global_steps)

    def on_step_begin(self) -> None:
        begin(Phase.ROLLOUT, self.global_steps)
        super().on_step_begin()

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        self._metrics = metrics
        return super().step(metrics, timing_raw)

    def on_sample_begin(self) -> None:
        begin(Phase.ROLLOUT, self.global_steps)  # of each part of a step, where it has several
        super().on_sample_begin()

    def _compute_reward_colocate(self, batch: KVBatchMeta, metrics: dict[str, Any] | None = None) -> KVBatchMeta:
        begin(Phase.REWARD, self.global_steps)
        return super()._compute_reward_colocate(batch, metrics)

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        begin(Phase.UPDATE, self.global_steps)  # what follows the rollouts
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    def on_step_end(self) -> None:
        begin(Phase.WEIGHT_SYNC, self.global_steps)
        super().on_step_end()

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], *args: Any, **kwargs: Any
    ) -> None:
        begin(Phase.RECORD, self.global_steps)
        super()._compute_metrics(batch, metrics, timing_raw, *args, **kwargs)

    def _validate(self) -> dict[str, float]:
        begin(Phase.VALIDATION, self.global_steps)
        metrics = super()._validate()
        begin(Phase.RECORD, self.global_steps)
        if (score := score_of(metrics)) is not None:
            keep_best(Path(self.config.trainer.default_local_dir), self.global_steps, score)
        return metrics

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        bad = [name for name in (names.LOSS, GRADIENT) if name in metrics and not math.isfinite(metrics[name])]
        metrics[SKIPPED] = float(bool(bad))
        self._bad_in_a_row = self._bad_in_a_row + 1 if bad else 0
        if bad:
            file = write_rows(
                batch, Path(self.config.trainer.default_local_dir) / BAD_ROWS / f"step_{self.global_steps}.jsonl", self.tokenizer
            )
            said = f"{' and '.join(bad)} not finite at step {self.global_steps}, nothing was learned from it; its rows are in {file}"
            if self._bad_in_a_row > self.luffy.safety.bad_steps:
                raise BadNumbers(f"{said}; {self._bad_in_a_row} such steps in a row (luffy.safety.bad_steps): go on from an earlier "
                                 "checkpoint with a lower learning rate, or leave the rows out")  # fmt: skip
            logger.warning(said)
        return batch

    def _save_checkpoint(self) -> None:
        begin(Phase.CHECKPOINT, self.global_steps)
        folder, kept = Path(self.config.trainer.default_local_dir), self.config.trainer.max_actor_ckpt_to_keep
        try:
            require_room(folder)
            facts = {"identity": RunFiles(folder).read_record.get("identity", {})}
            with written_aside(folder, self.global_steps, facts) as aside:
                with self._saving_in(aside):
                    super()._save_checkpoint()
                (aside / f"global_step_{self.global_steps}" / STEP_METRICS).write_text(json.dumps(numbers_of(self._metrics)))
        except (OSError, RuntimeError, CheckpointFailed, ray.exceptions.RayError) as error:
            self._on_failed_save(folder, error)
            return
        self.checkpoint_callback.on_save(
            trainer=self, global_step=self.global_steps, checkpoint_dir=str(folder / f"global_step_{self.global_steps}"), async_save=False
        )
        if kept:
            keep_newest(folder, kept)

    def _load_checkpoint(self) -> None:
        with unpickling_numbers_alone():
            super()._load_checkpoint()

    @contextmanager
    def _saving_in(self, aside: Path) -> Iterator[None]:
        """Let veRL write there, keep all that it finds there, and leave the callback to the end."""
        callback, own = self.checkpoint_callback, dict(self.config.trainer)
        self.checkpoint_callback = CheckpointCallback()
        try:
            with open_dict(self.config):
                self.config.trainer.default_local_dir, self.config.trainer.max_actor_ckpt_to_keep = str(aside), None
            yield
        finally:
            for key in ("default_local_dir", "max_actor_ckpt_to_keep"):
                OmegaConf.update(self.config, f"trainer.{key}", own[key])
            self.checkpoint_callback = callback

    def _on_failed_save(self, folder: Path, error: Exception) -> None:
        """Go on without the checkpoint, or end, as the config says; an error that no full disk explains ends the run as it is.

        Where one of several ranks fails in the middle of a save, the others wait for it: that always ends the run.
        """
        full = isinstance(error, CheckpointFailed)
        if not full and not is_out_of_space(error):
            raise error
        said = str(error) if full else f"the disk of {folder} filled up during the save ({type(error).__name__})"
        alone = full or self.actor_rollout_wg.world_size == 1
        if self.luffy.safety.failed_save == "end" or not alone:
            raise CheckpointFailed(f"checkpoint of step {self.global_steps}: {said}; the one before it is whole") from error
        self._metrics[FAILED_SAVES] = 1.0
        logger.warning("no checkpoint of step %d: %s; the run goes on, the checkpoint before it is whole", self.global_steps, said)


def write_rows(batch: KVBatchMeta, file: Path, tokenizer: Any) -> Path:
    """Write the rows of a step as JSON lines: first those with a number that is not finite, where there are any, and else all.

    Returns:
        ``file``.
    """
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(ROW_FIELDS))
    rows = []
    for position, key in enumerate(batch.keys):
        row = {name: data[name][position] for name in ROW_FIELDS if name in data}
        broken = [name for name, value in row.items() if value.is_floating_point() and not value.isfinite().all()]
        lists = {name: row[name].tolist() for name in ROW_FIELDS if name in row}
        texts = {f"{name[:-1]}_text": tokenizer.decode(lists[name]) for name in ("prompts", "responses")}
        rows.append({"row": key, "not_finite": broken, **texts, **lists})
    suspects = [row for row in rows if row["not_finite"]] or rows
    with replacing(file) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in suspects), encoding="utf-8")
    return file


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite plain numbers among metrics, for a file of JSON."""
    found = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            found[name] = number
    return found
