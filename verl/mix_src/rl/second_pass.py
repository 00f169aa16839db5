"""What a step computes, as the config says before anything that trains is imported: a pass before its first update, or not; all rows, or not."""

from __future__ import annotations

from omegaconf import DictConfig

from luffy.config import LuffyConfig


def second_pass_for(config: DictConfig, luffy: LuffyConfig) -> str | None:
    """What needs log-probabilities of all rows before the first update, and so a forward pass of their own; None: nothing."""
    rollout, actor, trainer = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor, config.trainer
    needs = {
        "luffy.run.own_pass is false": not luffy.run.own_pass,
        "actor_rollout_ref.rollout.calculate_log_probs compares them with the sampler's": rollout.calculate_log_probs,
        "algorithm.use_kl_in_reward reads them": config.algorithm.use_kl_in_reward,
        f"luffy.store.admit={luffy.store.admit} keeps them": luffy.store.admit == "partly_solved",
        "actor_rollout_ref.actor.ppo_epochs is above 1": actor.ppo_epochs > 1,
        "actor_rollout_ref.actor.shuffle draws the order of updates": actor.shuffle,
        "actor_rollout_ref.actor.calculate_entropy is false": not actor.calculate_entropy and not actor.entropy_coeff,
        "trainer.v1.separate_async.parameter_sync_step is above 1": (
            trainer.v1.trainer_mode == "separate_async" and trainer.v1.separate_async.parameter_sync_step > 1
        ),
    }
    return next((reason for reason, holds in needs.items() if holds), None)


def leaves_out(config: DictConfig, luffy: LuffyConfig) -> bool:
    """Whether rows without a gradient leave the update. With ``actor.shuffle`` each rank draws an order of its own, and no update would
    have as many of the others on each rank."""
    return luffy.run.leave_out != "nothing" and not config.actor_rollout_ref.actor.shuffle


def passes_of(config: DictConfig, luffy: LuffyConfig) -> str:
    """The forward passes of a step's rows, for a person."""
    if why := second_pass_for(config, luffy):
        return f"two of every row: {why}"
    one_update = config.actor_rollout_ref.actor.ppo_mini_batch_size >= config.data.train_batch_size
    return "one of every row, the update's own" if one_update else "one of the first update's rows, two of the others"
