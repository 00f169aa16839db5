"""The store in a training step: rows that come back are given to the agent loop, results are observed, the next step is planned.

A kept row enters a step as a demonstration does, by a column of its prompt's row in the data (:data:`GIVEN`): the agent loop forces
its tokens in the group's first session. Everything between two steps happens while the rollout engines sleep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn
from verl.utils.debug import marked_timer
from verl.utils.metric import reduce_metrics

from luffy import ledger, metric_names
from luffy.config import LuffyConfig
from luffy.digests import uniform
from luffy.objective import ObjectiveConfig
from luffy.store import FINE_TUNING, Experience, Group, Row
from luffy.traces import TARGET, read_traces
from verl.mix_src.rl.batch import RolloutBatch, row_name
from verl.mix_src.rl.loss import ENTROPY_COEFFICIENT, mix_ppo_loss
from verl.mix_src.rl.rollout import GIVEN, PLACE, RIGHT

logger = logging.getLogger(__name__)

STORE = "store"  # folder in the run's and in a checkpoint's


class ReplayTrainer:
    """The store's part of a trainer; below :class:`verl.mix_src.rl.trainer.MixTrainer`, above veRL's."""

    luffy: LuffyConfig
    experience: Experience | None = None
    _looked_at = 0.0  # tokens of kept rows that a step went forward over, to choose among them

    def on_init_end(self) -> None:
        """Give the actor the loss of the phase that the run is in."""
        self._set_objective(self._objective)
        super().on_init_end()

    @property
    def _objective(self) -> ObjectiveConfig:
        clip = self.luffy.store.clip_before_start
        if self.experience is None or self.experience.started or clip is None:
            return self.luffy.objective
        return replace(self.luffy.objective, clip_low=clip, clip_high=clip)

    def _set_objective(self, objective: ObjectiveConfig) -> None:
        self.actor_rollout_wg.set_loss_fn(partial(mix_ppo_loss, objective))

    def _init_dataloader(self) -> None:
        store, data = self.luffy.store, self.config.data
        if store.replays:  # a step takes as many prompts as are not replayed, and no more
            with open_dict(self.config):
                data.gen_batch_size = 1
        super()._init_dataloader()
        if store.admit != "nothing":
            self.experience = Experience(
                store,
                self._folder / STORE,
                group_size=self.config.actor_rollout_ref.rollout.n,
                prompts=data.train_batch_size,
                data_size=len(self.train_dataloader) * (data.get("gen_batch_size") or data.train_batch_size),
            )

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        while self.luffy.store.replays and not self.experience.fetch(int(batch[PLACE][0])):  # of one prompt
            batch = super()._fetch_one_gen_batch()
        return batch

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        """A batch of the data, in which planned groups have the place of the last prompts; these are the next step's first."""
        if not self.luffy.store.replays:
            return super()._next_train_batch(num_prompts)
        kept, prompts = self.experience.plan, self.config.data.train_batch_size
        chunks = [self._fetch_one_gen_batch() for _ in range(prompts - len(kept))]
        for chunk in chunks:
            chunk[GIVEN] = _column([{}] * len(chunk))
        if kept:
            chunks.append(self._prompts([self._given(row) for row in kept]))
        batch = tu.concat_tensordict(chunks)
        order = sorted(range(prompts), key=lambda place: uniform(self.luffy.store.seed, "order", self.global_steps, place))
        batch = batch[torch.tensor(order)]
        tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
        return batch

    def observe(self, rollouts: RolloutBatch) -> dict[str, float]:
        """Let the store take note of a step's rows; returns its metrics."""
        if self.experience is None:
            return {}
        return self.experience.observe(groups_of(rollouts, has_trace=self._has_trace))

    def _step_once(self, metrics: dict[str, Any], timing_raw: dict[str, float], sample_batch_size: int) -> KVBatchMeta:
        before = self._objective
        batch = super()._step_once(metrics, timing_raw, sample_batch_size)
        if self.experience is None:
            return batch
        if self._objective != before:
            self._set_objective(self._objective)
        if self.luffy.store.replays:
            with marked_timer("plan_replay", timing_raw):
                self.experience.plan_replay(self.global_steps + 1, self._values)
            metrics[ledger.FORWARDED] = metrics.get(ledger.FORWARDED, 0.0) + self._looked_at
            self._looked_at = 0.0
        elif keys := self.experience.take_queue():
            with marked_timer("update_sft", timing_raw):
                metrics.update(self._update_sft(keys))
        return batch

    def _values(self, rows: Sequence[int]) -> list[float]:
        """Mean entropy, or mean -log π, of rows of the store under the policy as it is now: one forward pass."""
        batch = self._rows_of([self._given(row) for row in rows])
        batch = self._cut_evenly(
            batch, self.config.actor_rollout_ref.rollout, "log_prob_micro_batch_size_per_gpu", "log_prob_use_dynamic_bsz"
        )
        self._compute_old_log_prob(batch, {})
        fields = ["old_log_probs", "entropy", "response_mask", "input_ids"]
        data = tq.kv_batch_get(keys=batch.keys[: len(rows)], partition_id=batch.partition_id, select_fields=fields)
        self._forget(batch)
        self._looked_at += data["input_ids"].values().numel()
        values = (
            data["entropy"].unbind() if self.luffy.store.pick == "least_entropy" else [-each for each in data["old_log_probs"].unbind()]
        )
        return [each.double().mean().item() for each in values]

    def _update_sft(self, keys: Sequence[int]) -> dict[str, float]:
        """One update on the prompts' demonstrations, by the optimizer of all others; returns its metrics, ``sft/...``."""
        actor, rollout = self.config.actor_rollout_ref.actor, self.config.actor_rollout_ref.rollout
        batch = self._rows_of([self._row_of_data(key) | {GIVEN: {"share": 1.0}} for key in keys])
        batch = self._cut_evenly(batch, actor, "ppo_micro_batch_size_per_gpu", "use_dynamic_bsz")
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask", "input_ids"])
        nothing = torch.nested.nested_tensor_from_jagged(torch.zeros(data["response_mask"].values().shape), data["response_mask"].offsets())
        fields = TensorDict({"old_log_probs": nothing, "advantages": nothing}, batch_size=len(batch))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        batch.extra_info |= {
            "calculate_entropy": actor.calculate_entropy, "global_batch_size": len(batch), "mini_batch_size": len(batch), "epochs": 1,
            "seed": actor.data_loader_seed, "dataloader_kwargs": {"shuffle": False}, "temperature": rollout.temperature,
            ENTROPY_COEFFICIENT: self.entropy_coefficient.value,
        }  # fmt: skip
        self._set_objective(FINE_TUNING)
        output = self.actor_rollout_wg.update_actor(batch)["metrics"]
        self._set_objective(self._objective)
        self._forget(batch)
        shown = metric_names.finish({f"actor/{name.removeprefix('actor/')}": value for name, value in reduce_metrics(output).items()})
        names = {"sft/loss": metric_names.SFT_LOSS, "sft/entropy": metric_names.ENTROPY, "sft/grad_norm": "actor/grad_norm"}
        tokens = {
            ledger.TRAINED: sum(mask.sum().item() for mask in data["response_mask"].unbind()[: len(keys)]),
            ledger.PROCESSED: sum(map(len, data["input_ids"].unbind()[: len(keys)])),
            ledger.TRACES: len(keys),
        }
        counts = {"sft/prompts": float(len(keys))} | {ledger.OWN_UPDATE + name: float(value) for name, value in tokens.items()}
        return counts | {name: shown[key] for name, key in names.items() if key in shown}

    def _row_of_data(self, key: int) -> dict[str, Any]:
        return self.train_dataset[key]

    def _has_trace(self, key: int) -> bool:
        return bool(read_traces(self._row_of_data(key).get(TARGET)))

    def _given(self, row: int) -> dict[str, Any]:
        """The data's row of a kept row's prompt, with the kept row in it."""
        kept = self.experience.rows.read(row)
        given = {"tokens": kept.tokens, "log_probs": kept.log_probs}
        return self._row_of_data(self.experience.rows.key_of(row)) | {GIVEN: given}

    def _prompts(self, rows: Sequence[dict[str, Any]]) -> TensorDict:
        """Rows of the data as the data loader gives them."""
        batch = collate_fn(list(rows))
        return tu.get_tensordict(batch | {"uid": np.array([str(number) for number in range(len(rows))], dtype=object)})

    def _rows_of(self, rows: Sequence[dict[str, Any]]) -> KVBatchMeta:
        """The forced rows alone, one of each of the data's rows, from the agent loop: nothing is generated, and nothing judged."""
        batch = self._prompts([row | {GIVEN: row[GIVEN] | {"judged": False}, "__rollout_n__": 1} for row in rows])
        names = [f"store{self.global_steps}-{number:010d}" for number in range(len(rows))]
        batch["uid"] = _column(names)
        tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
        self._submit_batch_to_rollout(batch)
        while True:
            tags = tq.kv_list("train")["train"]
            status = {tags[name]["status"] for name in names}
            if "failure" in status:
                raise RuntimeError("a row of the store could not be made ready; its error is above in the log")
            if status == {"finished"}:
                break
            time.sleep(self.replay_buffer.poll_interval)
        keys = [f"{name}_0_0" for name in names]
        tq.kv_clear(keys=names, partition_id="train")
        return KVBatchMeta(partition_id="train", keys=keys, tags=[tags[key] for key in keys], extra_info={})

    def _cut_evenly(self, batch: KVBatchMeta, sizes: Any, micro_key: str, dynamic_key: str) -> KVBatchMeta:
        """Let ranks and micro-batches share the rows evenly, with padding rows where they cannot."""
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        micro = 1 if sizes[dynamic_key] else min(sizes[micro_key], -(-len(batch) // ranks))
        batch = upsample_batch_to_divisible_size(batch, ranks * micro, self.tokenizer.eos_token_id)
        batch.extra_info |= {"micro_batch_size_per_gpu": micro}
        return batch

    @staticmethod
    def _forget(batch: KVBatchMeta) -> None:
        tq.kv_clear(keys=batch.keys, partition_id=batch.partition_id)

    def save_store(self, checkpoint: Path) -> None:
        """Write the store into a checkpoint."""
        if self.experience is not None:
            self.experience.save(checkpoint / STORE)

    def load_store(self, checkpoint: Path) -> None:
        """Go on with a checkpoint's store; with an empty one where it has none, being another method's."""
        if self.experience is None:
            return
        if (checkpoint / STORE).is_dir():
            self.experience.load(checkpoint / STORE)
        else:
            logger.warning("%s has no store; it begins empty", checkpoint)


def groups_of(rollouts: RolloutBatch, *, has_trace: Any) -> list[Group]:
    """The groups of a step, in order of their names.

    Args:
        rollouts: the step.
        has_trace: whether the data have a demonstration of a prompt (its number); asked for groups without a right row.
    """
    responses = rollouts.nested["responses"].unbind()
    groups: dict[str, list[int]] = {}
    for row in sorted(range(len(rollouts.groups)), key=lambda row: row_name(rollouts.keys[row])):
        if rollouts.real[row]:
            groups.setdefault(str(rollouts.groups[row]), []).append(row)
    found = []
    for rows in groups.values():
        key, right = rollouts.places[rows[0]], [row for row in rows if rollouts.rewards[row] >= RIGHT]
        kept = [
            Row(tokens=responses[row].numpy(), log_probs=rollouts.old_log_probs_BT[row, : len(responses[row])].float().numpy())
            for row in (right if rollouts.old_log_probs_BT is not None else ())
            if not rollouts.off_policy[row]  # a demonstration is not the policy's, and a replayed row is kept already
        ]
        found.append(Group(key=key, rows=kept, size=len(rows), correct=len(right), has_trace=not right and has_trace(key)))
    return found


def _column(values: Sequence[Any]) -> Any:
    """A column of a tensordict that holds any objects."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return tu.get_tensordict({"column": column})["column"]
