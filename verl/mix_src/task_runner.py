"""veRL's task runner, in whose process each trainer mode means LUFFY's trainer of that mode."""

from __future__ import annotations

from omegaconf import DictConfig
from verl.trainer.main_ppo import TaskRunnerV1
from verl.trainer.ppo.v1 import trainer_base

from verl.mix_src.metrics_log import go_on_with_metrics
from verl.mix_src.trainer import TRAINERS


class MixTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
    """Runs a whole training in one Ray actor."""

    def run(self, config: DictConfig) -> None:
        """Train until the end of ``config``."""
        go_on_with_metrics()
        trainer_base.TRAINER_REGISTRY.update(TRAINERS)
        super().run(config)
