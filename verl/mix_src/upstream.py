"""What this extension knows of one version of veRL and the libraries below it beyond their public interfaces, in one place.

Look at each line when the version changes; ``tests/test_upstream.py`` holds them against what is installed. Signatures of all that is
called or overridden are in ``tests/upstream_contract.txt``, and checked there.
"""

from __future__ import annotations

import re

import torch

VERL_VERSION = "0.9.1"
PLUGIN = "verl.mix_src.register"  # the entry point in setup.py, which veRL imports with itself

LATEST = "latest_checkpointed_iteration.txt"  # veRL's note of the newest checkpoint
CHECKPOINT = re.compile(r"global_step_(\d+)")
OUT_OF_SPACE = ("unexpected pos", "No space left", "Disk quota exceeded", "PytorchStreamWriter failed", "File too large")
"""How PyTorch and the system say that a file could not be written whole."""
METRICS_FILE = "VERL_FILE_LOGGER_PATH"  # environment variable of veRL's file logger
SOCKETS, SOCKET_PREFIX = "/tmp", "rl-colocate-zmq-"  # of the weight sync between actor workers and vLLM
QUEUE = {"name": "TransferQueueController", "namespace": "transfer_queue"}  # fixed in TransferQueue 0.1.11
RAY_ADDRESS_FILE = "ray/ray_current_cluster"  # below RAY_TMPDIR or /tmp: where Ray notes a cluster that was started by hand
BACKEND_PACKAGES = {"nccl": "cupy", "nixl": "nixl", "mooncake": "mooncake", "kimi_ckpt_engine": "checkpoint_engine"}
"""The package that a backend of ``rollout.checkpoint_engine`` needs."""

NODE_MANAGER, SERVER, ENGINE = "raylet", "ray::vLLMHttpServer", "VLLM::EngineCore"
FORK_SERVER = "forkserver.py"  # verl.mix_src.run.forkserver: what forks Ray's workers, where they are forked
HEAD = "Ray's head"
ACTORS = {  # class of a Ray actor: what a person calls it
    "TaskRunnerV1": "the trainer",  # a process is titled by the class that was decorated, Ray's table has the subclass
    "MixTaskRunner": "the trainer",
    "TransferQueueController": "the TransferQueue controller",
    "SimpleStorageUnit": "a TransferQueue storage unit",
    "WorkerDict": "an actor worker (FSDP)",
    "CheckpointEngineWorker": "a weight-sync worker",
    "vLLMHttpServer": "a rollout server (vLLM)",
    "RewardLoopWorker": "a reward worker",
    "AgentLoopWorkerTQ": "an agent loop worker",
    "MixAgentLoopWorker": "an agent loop worker",
}
ENGINE_NAME, ENGINE_WORKER_NAME = "a rollout engine (vLLM)", "a rollout engine's worker (vLLM)"
RANK_NAME = "a training process"  # of supervised fine-tuning
ENDS_FIRST = {ACTORS["TransferQueueController"], ACTORS["SimpleStorageUnit"]}  # the trainer closes them when it is done
PLACES = (  # start of a title, start of the next title above (None: there is none), what a person calls it
    ("gcs_server", None, HEAD),
    (NODE_MANAGER, None, "Ray's node manager"),
    (FORK_SERVER, None, "the fork server of Ray's workers"),
    *((f"ray::{actor}", place, name) for place in (NODE_MANAGER, FORK_SERVER) for actor, name in ACTORS.items()),
    (ENGINE, SERVER, ENGINE_NAME),
    ("VLLM::Worker", ENGINE, ENGINE_WORKER_NAME),
    ("VLLM::Worker", SERVER, ENGINE_WORKER_NAME),
)
TITLED = ("gcs_server", NODE_MANAGER, FORK_SERVER, "ray::", "VLLM::")
CALLED = {  # part of a process's name in the log: what a person calls it
    **ACTORS,
    "TaskRunner": ACTORS["TaskRunnerV1"],
    "AgentLoopWorker": ACTORS["AgentLoopWorkerTQ"],
    "EngineCore": ENGINE_NAME,
    NODE_MANAGER: "Ray's node manager",
    "rank": RANK_NAME,
}

ALL_KEYS = "trainer/config/_generated_ppo_trainer.yaml"  # veRL's whole config in one file

NOT_STARTED = (
    "experimental/fully_async_policy", "experimental/one_step_off_policy", "experimental/separation",
    "experimental/teacher_loop", "trainer/distillation", "trainer/main_ppo_v0.py", "trainer/sft_trainer", "trainer/main_eval",
    "trainer/main_generation", "model_merger", "models/mcore", "third_party", "utils/megatron",
    "workers/engine/automodel", "workers/engine/megatron", "workers/engine/mindspeed", "workers/engine/torchtitan",
    "workers/engine/veomni", "workers/engine_workers_tinker.py", "workers/rollout/hf_rollout.py", "workers/rollout/naive",
    "workers/rollout/sglang_rollout", "workers/rollout/trtllm_rollout", "workers/config/critic.py",
    "workers/config/distillation.py", "workers/config/megatron_peft.py",
)  # fmt: skip
"""Parts of veRL that no LUFFY training starts."""

REPLACED = frozenset(
    ("ppo_loss", "value_loss", "agg_loss", "compute_advantage", "migrate_legacy_reward_impl", "RayPPOTrainer", "_update_critic")
)
"""Functions and classes of veRL in whose place LUFFY's own stand, or that the V1 trainer does not call."""

REPLACED_KINDS = frozenset(("register_policy_loss", "register_adv_est"))
"""Decorators of veRL's losses and estimators: ``luffy`` is the only one in use."""

IGNORES_ARGUMENTS = frozenset(("compute_advantage_for_multi_trajectories", "agg_loss"))
"""Calls that hand keys on to what is replaced, or to a metric that the extension defines itself."""

HANDED_ON = (
    "ray_kwargs.ray_init", "transfer_queue", "actor_rollout_ref.rollout.engine_kwargs", "actor_rollout_ref.model.override_config",
    "actor_rollout_ref.actor.optim.override_optimizer_config", "actor_rollout_ref.rollout.checkpoint_engine.engine_kwargs",
    "actor_rollout_ref.model.tiled_mlp", "data.apply_chat_template_kwargs", "data.mm_processor_kwargs",
    "data.dataset_kwargs", "global_profiler.global_tool_config", "reward.reward_kwargs",
    "reward.custom_reward_function.reward_kwargs", "trainer.v1.sampler.sampler_kwargs",
    "actor_rollout_ref.actor.profiler.tool_config", "actor_rollout_ref.ref.profiler.tool_config",
    "actor_rollout_ref.rollout.profiler.tool_config",
)  # fmt: skip
"""Nodes that go as a whole to another library, or to a check of their own."""

INSTEAD = {
    "actor_rollout_ref.actor.clip_ratio": "set luffy.objective.clip_low and luffy.objective.clip_high",
    "actor_rollout_ref.actor.clip_ratio_low": "set luffy.objective.clip_low",
    "actor_rollout_ref.actor.clip_ratio_high": "set luffy.objective.clip_high",
    "actor_rollout_ref.actor.clip_ratio_c": "set luffy.objective.dual_clip",
    "actor_rollout_ref.actor.loss_agg_mode": "set luffy.objective.aggregation",
    "actor_rollout_ref.actor.loss_scale_factor": "set luffy.objective.constant_length",
    "actor_rollout_ref.actor.kl_loss_coef": "set luffy.objective.kl_coefficient",
    "actor_rollout_ref.actor.kl_loss_type": "set luffy.objective.kl_estimator",
    "actor_rollout_ref.actor.policy_loss": "the loss is luffy.objective.*",
    "algorithm.norm_adv_by_std_in_grpo": "set luffy.advantage.normalize_std",
    "algorithm.gamma": "an advantage is the whole response's (luffy.advantage.*): nothing is discounted",
    "algorithm.lam": "an advantage is the whole response's (luffy.advantage.*): nothing is discounted",
    "custom_reward_function": "set reward.custom_reward_function.*",
    "reward_model": "set reward.reward_model.*",
    "sandbox_fusion": "set reward.sandbox_fusion.*",
    "critic": "there is no critic: advantages are a group's",
    "distillation": "the loss knows no teacher but the demonstrations",
}
"""What to do in place of a key, or of any key below a node, that a training does not read."""

SWITCHED = {
    "algorithm.kl_ctrl": ("algorithm.use_kl_in_reward",),
    "algorithm.kl_penalty": ("algorithm.use_kl_in_reward",),
    "algorithm.rollout_correction.rollout_is_threshold": ("algorithm.rollout_correction.rollout_is",),
    "algorithm.rollout_correction.rollout_is_batch_normalize": ("algorithm.rollout_correction.rollout_is",),
    "algorithm.rollout_correction.rollout_rs_threshold": ("algorithm.rollout_correction.rollout_rs",),
    "actor_rollout_ref.ref": ("actor_rollout_ref.actor.use_kl_loss", "algorithm.use_kl_in_reward"),
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": ("actor_rollout_ref.actor.use_dynamic_bsz",),
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": ("actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",),
    "actor_rollout_ref.model.lora_alpha": ("actor_rollout_ref.model.lora_rank",),
    "actor_rollout_ref.model.target_modules": ("actor_rollout_ref.model.lora_rank",),
    "actor_rollout_ref.model.exclude_modules": ("actor_rollout_ref.model.lora_rank",),
    "trainer.resume_from_path": ("trainer.resume_mode",),
}
"""Keys, and nodes, that are read only where one of these is on; beside every node's own ``enable`` (:data:`SWITCHES`)."""

SWITCHED_OFF = {
    "actor_rollout_ref.actor.ppo_micro_batch_size": "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size": "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",
}
"""Keys that are read only where another is off."""


def runs_on_cpu() -> bool:
    """Whether the installed PyTorch is a CPU build, so that veRL needs the CPU platform."""
    return torch.version.cuda is None and torch.version.hip is None
