"""One rank of ``ranks.run_ranks``: runs veRL's SFT trainer through a list of cases and writes the final weights.

``python tests/sft_rank.py CASES.json``, with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment. Each case is
``{"name": str, "overrides": [Hydra overrides], "output": path}``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict
from ranks import whole_weights
from verl.utils.distributed import initialize_global_process_group_ray

from verl.mix_src.sft.trainer import DemonstrationTrainer


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    initialize_global_process_group_ray()
    with initialize_config_module("verl.mix_src.config.sft", version_base=None):
        for case in cases:
            config = compose("sft", overrides=["profile=cpu", *case["overrides"]])
            OmegaConf.set_struct(config, False)
            with open_dict(config):
                config.data.val_files = None
            run(config, Path(case["output"]))
    torch.distributed.destroy_process_group()


def run(config, output: Path) -> None:
    trainer = DemonstrationTrainer(config)
    record = []
    upstream = trainer.training_client.train_batch

    def recorded(data):
        record.append([row.tolist() for row in data["input_ids"].unbind()])
        result = upstream(data=data)
        record.append(dict(result["metrics"]))
        return result

    trainer.training_client.train_batch = recorded
    trainer.fit()
    weights = whole_weights(trainer.engine.module)
    rows, metrics = record[0::2], record[1::2]
    gathered = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, rows)
    if torch.distributed.get_rank() == 0:
        torch.save({"weights": weights, "rows": gathered, "metrics": metrics}, output)


if __name__ == "__main__":
    main()
