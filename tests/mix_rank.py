"""One rank of ``ranks.run_ranks``: updates an actor of veRL with LUFFY's loss in each of several cases.

``python tests/mix_rank.py CASES.json``. Each case is ``{"overrides": [of mix_ppo.yaml], "rows": path, "mini_batch":
rows, "columns": [optional ones], "entropy_coefficient": float, "output": path}``, and may have ``"old"``: where the old log-probabilities
come from, the rows ("given", the default), a pass of their own ("pass"), or the update's ("own"); and ``"computed"``: 0 or 1 of each row.
The weights and metrics after the update, and of the passes the old log-probabilities of each row on rank 0, are written to the output.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from hydra import compose, initialize_config_module
from mix_example import to_batch
from omegaconf import DictConfig, OmegaConf
from ranks import whole_weights
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.distributed import initialize_global_process_group_ray
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict
from verl.workers.utils.padding import response_from_nested

from luffy import metric_names
from verl.mix_src.config import luffy_config
from verl.mix_src.rl.kept import COMPUTED, OWN_PASS, ROW, kept_passes
from verl.mix_src.rl.loss import ENTROPY_COEFFICIENT, MixWorker, mix_ppo_loss


def main() -> None:
    initialize_global_process_group_ray()
    with initialize_config_module("verl.mix_src.config", version_base=None):
        base = compose("mix_ppo", overrides=["profile=cpu"])
    OmegaConf.set_struct(base, False)
    for case in json.loads(Path(sys.argv[1]).read_text()):
        run(OmegaConf.merge(base, OmegaConf.from_dotlist(case["overrides"])), case)
    torch.distributed.destroy_process_group()


def run(config: DictConfig, case: dict[str, Any]) -> None:
    worker = MixWorker(config.actor_rollout_ref, role="actor")
    worker.init_model()
    worker.set_loss_fn(partial(mix_ppo_loss, luffy_config(config).objective))
    rows = rows_of_this_rank(torch.load(case["rows"]), case["mini_batch"])
    data = to_batch(
        rows,
        case["columns"],
        calculate_entropy=True,  # from here on as in veRL's _update_actor
        distillation_use_topk=False,
        distillation_only=False,
        global_batch_size=case["mini_batch"],
        mini_batch_size=case["mini_batch"],
        epochs=1,
        seed=0,
        dataloader_kwargs={"shuffle": False},
        temperature=1.0,
        **{ENTROPY_COEFFICIENT: case["entropy_coefficient"]},
    )
    if "computed" in case:
        data[COMPUTED] = torch.tensor(rows_of_this_rank(case["computed"], case["mini_batch"]))
    passed = old_log_probs(worker, data, case.get("old", "given"))
    output = worker.update_actor(data)
    passed |= {row: torch.from_numpy(values["old_log_probs"]) for row, values in kept_passes(None).items()}
    metrics = reduce_metrics(rename_dict(tu.get(output, "metrics"), "actor/"))
    weights = whole_weights(worker.actor.engine.module)
    if torch.distributed.get_rank() == 0:
        finished = {name: float(value) for name, value in metric_names.finish(metrics).items()}
        torch.save({"weights": weights, "metrics": finished, "passed": passed}, case["output"])


def old_log_probs(worker: MixWorker, data: TensorDict, source: str) -> dict[int, torch.Tensor]:
    """Set or leave the column of a batch; returns what a pass of its own told, by row."""
    if source == "own":
        del data["old_log_probs"]
        data[ROW], data[OWN_PASS] = torch.arange(len(data)), torch.ones(len(data), dtype=torch.int64)
    if source != "pass":
        return {}
    inputs = data.clone()
    tu.assign_non_tensor(inputs, compute_loss=False)
    told = response_from_nested(worker.compute_log_prob(inputs)["log_probs"], data["response_mask"])
    data["old_log_probs"] = told
    return dict(enumerate(told.unbind()))


def rows_of_this_rank(rows: list[Any], mini_batch: int) -> list[Any]:
    """An equal part of each mini-batch, so that a mini-batch holds the same rows on any number of ranks."""
    share = mini_batch // torch.distributed.get_world_size()
    first = torch.distributed.get_rank() * share
    return [row for start in range(0, len(rows), mini_batch) for row in rows[start + first : start + first + share]]


if __name__ == "__main__":
    main()
