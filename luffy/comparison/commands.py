"""The command lines that train and measure a cell."""

from __future__ import annotations

from luffy.comparison.cells import Cell
from luffy.comparison.layout import Layout
from luffy.comparison.methods import ON_POLICY, STEPS
from luffy.comparison.prepare import CURVE_FILE
from luffy.tiny.dataset import HARDER_FILE, HELDOUT_FILE, TRAIN_FILE
from luffy.tiny.example import MODEL_FOLDER

RL_MODULE, SFT_MODULE, MEASURE_MODULE = "verl.mix_src.main_mix_ppo", "verl.mix_src.main_sft", "luffy.comparison.measure"
UNGUIDED = (ON_POLICY, "sft_rl")
ROWS = 8  # of a prompt's group, in the cpu profile; all rows of a step are one micro-batch


def training_command(cell: Cell, layout: Layout) -> list[str]:
    """Module and arguments that train a cell, for ``python -m``."""
    data, steps = layout.data(cell), cell.steps - cell.start_step
    shared = [
        "profile=cpu",
        f"luffy.run.seed={cell.seed}",
        f"trainer.total_training_steps={steps}",
        f"trainer.default_local_dir={layout.cell(cell)}",
        f"data.train_files={data / TRAIN_FILE}",
        f"data.train_batch_size={cell.regime.prompts}",
        f"data.val_files={data / CURVE_FILE}",
        "luffy.run.validate_greedy=false",
    ]
    if cell.method.experiment is None:
        own = [
            f"model.path={_start_model(cell, layout)}",
            f"data.micro_batch_size_per_gpu={cell.regime.prompts}",
            f"trainer.save_freq={min(cell.check_every, cell.steps // 2)}",
        ]
        return [SFT_MODULE, *shared, *own]
    own = [
        f"experiment={cell.method.experiment}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={cell.regime.prompts}",
        f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={cell.regime.prompts * ROWS}",
        f"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu={cell.regime.prompts * ROWS}",
        f"actor_rollout_ref.model.path={_start_model(cell, layout)}",
        f"trainer.test_freq={cell.check_every}",
        "trainer.val_before_train=false",
        f"trainer.save_freq={steps}",
    ]
    guided = () if cell.method.experiment in UNGUIDED else cell.regime.overrides
    return [RL_MODULE, *shared, *own, *guided, *(each.replace(STEPS, str(steps)) for each in cell.method.overrides)]


def measuring_command(cell: Cell, layout: Layout) -> list[str]:
    """Module and arguments that measure a trained cell, for ``python -m``."""
    data = layout.data(cell)
    return [
        MEASURE_MODULE,
        f"--model_path={layout.model(cell, cell.steps - cell.start_step)}",
        f"--heldout={data / HELDOUT_FILE}",
        f"--harder={data / HARDER_FILE}",
        f"--seed={cell.seed}",
        f"--output={layout.measurement(cell)}",
    ]


def _start_model(cell: Cell, layout: Layout) -> str:
    start = cell.start
    return str(layout.base(cell.regime) / MODEL_FOLDER if start is None else layout.model(start, cell.start_step))
