"""The rehearsal changes nothing of profile gpu but what a CPU forces: every key that it sets, and the reason."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

DEVICE = "there is no GPU"
KERNEL = "a CPU has no kernel for it"
SLEEP = "a CPU's memory cannot be put to sleep"
SIZE = "two cores and a few GiB instead of a node"

RL = {
    "data.train_batch_size": SIZE,
    "data.max_prompt_length": SIZE,
    "data.max_response_length": SIZE,
    "data.val_max_samples": SIZE,
    "luffy.run.fork_workers": DEVICE,
    "actor_rollout_ref.model.override_config.attn_implementation": KERNEL,
    "actor_rollout_ref.actor.ppo_mini_batch_size": SIZE,
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": SIZE,
    "actor_rollout_ref.rollout.enforce_eager": KERNEL,
    "actor_rollout_ref.rollout.enable_sleep_mode": SLEEP,
    "actor_rollout_ref.rollout.free_cache_engine": SLEEP,
    "actor_rollout_ref.rollout.max_num_batched_tokens": SIZE,
    "actor_rollout_ref.rollout.max_num_seqs": SIZE,
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": SIZE,
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": SIZE,
    "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls": KERNEL,
    "actor_rollout_ref.rollout.agent.num_workers": SIZE,
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu": SIZE,
    "reward.num_workers": SIZE,
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": SIZE,
    "trainer.device": DEVICE,
    "trainer.n_gpus_per_node": SIZE,
    "trainer.total_training_steps": SIZE,
    "trainer.save_freq": SIZE,
    "trainer.test_freq": SIZE,
    "ray_kwargs.ray_init.num_gpus": DEVICE,
    "ray_kwargs.ray_init.num_cpus": DEVICE,
    "ray_kwargs.ray_init.include_dashboard": SIZE,
    "ray_kwargs.ray_init.object_store_memory": SIZE,
}
SFT = {
    "luffy.run.validate_greedy": SIZE,
    "data.train_batch_size": SIZE,
    "data.max_length": SIZE,
    "data.max_token_len_per_gpu": SIZE,
    "data.max_response_length": SIZE,
    "model.override_config.attn_implementation": KERNEL,
    "trainer.device": DEVICE,
    "trainer.n_gpus_per_node": SIZE,
    "trainer.total_epochs": SIZE,
}
REASONS = {DEVICE, KERNEL, SLEEP, SIZE}


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested mapping by their dotted names; an empty mapping has none."""
    leaves: dict[str, Any] = {}
    for name, value in node.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


def keys_that_differ(module: str, name: str) -> dict[str, tuple[Any, Any]]:
    """Values under profile gpu, and under the overlay, of every key whose two values are not the same."""
    with initialize_config_module(module, version_base=None):
        gpu, rehearsal = (
            flat(OmegaConf.to_container(compose(name, overrides=["profile=gpu", *overlay]), resolve=False))
            for overlay in ([], ["overlay=rehearsal"])
        )
    missing = object()
    values = {key: (gpu.get(key, missing), rehearsal.get(key, missing)) for key in {*gpu, *rehearsal}}
    return {key: (there, here) for key, (there, here) in values.items() if there != here}


@pytest.mark.parametrize(
    ("module", "name", "reasons"),
    [("verl.mix_src.config", "mix_ppo", RL), ("verl.mix_src.config.sft", "sft", SFT)],
    ids=["reinforcement learning", "supervised"],
)
def test_the_overlay_changes_what_a_cpu_forces_and_nothing_else(module, name, reasons):
    assert set(keys_that_differ(module, name)) == set(reasons)
    assert set(reasons.values()) <= REASONS


def test_sizes_keep_their_proportions():
    """Two updates a step, two full sequences a micro-batch, as under profile gpu."""
    with initialize_config_module("verl.mix_src.config", version_base=None):
        gpu, rehearsal = (compose("mix_ppo", overrides=["profile=gpu", *more]) for more in ([], ["overlay=rehearsal"]))
    for config in (gpu, rehearsal):
        rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
        sequence = config.data.max_prompt_length + config.data.max_response_length
        assert config.data.train_batch_size == 2 * actor.ppo_mini_batch_size
        assert 2 * sequence <= actor.ppo_max_token_len_per_gpu < 2.3 * sequence
        assert rollout.log_prob_max_token_len_per_gpu == 2 * actor.ppo_max_token_len_per_gpu
        assert rollout.tensor_model_parallel_size == 2 and rollout.n == 8
        assert config.data.filter_overlong_prompts and config.data.dataloader_num_workers == 8
