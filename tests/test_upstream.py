"""The symbols of veRL 0.9.1 that the extension touches: an upgrade fails here, with a list, and not somewhere inside."""

from __future__ import annotations

import hashlib
import importlib
import inspect

import pytest
import torch

import verl
from verl.mix_src import VERL_VERSION

SIGNATURES = {
    "verl.trainer.main_ppo:run_ppo": "(config, task_runner_class) -> None",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer.__init__": "(self, config)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer.on_init_end": "(self)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._init_dataloader": "(self)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._fetch_one_gen_batch": "(self)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._balance_batch": (
        "(self, batch, metrics, logging_prefix, keep_minibatch)"
    ),
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._compute_advantage": "(self, batch, metrics)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._update_actor": "(self, batch, metrics)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._compute_metrics": (
        "(self, batch, metrics, timing_raw, global_steps, epoch)"
    ),
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._save_checkpoint": "(self)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._validate": "(self)",
    "verl.trainer.ppo.v1.trainer_base:PPOTrainer._load_checkpoint": "(self)",
    "verl.trainer.ppo.core_algos:register_adv_est": "(name_or_enum)",
    "verl.trainer.ppo.v1.agent_loop_tq:apply_greedy_sampling_params": "(params)",
    "verl.experimental.agent_loop.agent_loop:register": "(agent_name)",
    "verl.experimental.agent_loop.agent_loop:AgentLoopOutput.as_dict": "(self)",
    "verl.experimental.agent_loop.agent_loop:AgentLoopWorker._run_agent_loop": (
        "(self, sampling_params, trajectory, agent_name, trace, kwargs)"
    ),
    "verl.experimental.agent_loop.agent_loop:AgentLoopBase.ct_build_initial_tokens": None,
    "verl.experimental.agent_loop.single_turn_agent_loop:SingleTurnAgentLoop.run": None,
    "verl.workers.engine_workers:ActorRolloutRefWorker.set_loss_fn": None,
    "verl.workers.utils.padding:no_padding_2_padding": "(tensor, data)",
    "verl.workers.utils.padding:response_to_nested": "(tensor, response_mask)",
    "verl.utils.distributed:initialize_global_process_group_ray": None,
    "verl.workers.utils.losses:ppo_loss": "(config, model_output, data, dp_group)",
    "verl.workers.rollout.base:get_rollout_class": "(rollout_name, mode)",
    "verl.workers.rollout.vllm_rollout.vllm_rollout:ServerAdapter.__init__": (
        "(self, config, model_config, device_mesh, replica_rank)"
    ),
    "verl.workers.rollout.vllm_rollout.utils:vLLMColocateWorkerExtension._get_zmq_handle": "(self)",
    "ray._private.state:actors": "(actor_id, job_id, actor_state_name)",
    "ray._private.authentication.authentication_token_setup:maybe_enable_token_auth_if_token_available": "(warn_if_disabled)",
    "verl.utils.dataset.rl_dataset:collate_fn": "(data_list)",
}


def _resolve(path: str):
    module, _, attributes = path.partition(":")
    found = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


def _parameters(function) -> list[str]:
    """Names of the parameters, without the one that Ray adds to methods of its actors."""
    return [name for name in inspect.signature(function).parameters if name != "_ray_trace_ctx"]


def test_version() -> None:
    assert verl.__version__ == VERL_VERSION == "0.9.1"


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature(path: str) -> None:
    parameters = _parameters(_resolve(path))
    if SIGNATURES[path] is not None:
        wanted = SIGNATURES[path].partition(")")[0].strip("(").replace(" ", "").split(",")
        assert parameters == wanted


def test_ray_classes_can_be_subclassed() -> None:
    from verl.trainer.main_ppo import TaskRunnerV1
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

    assert hasattr(TaskRunnerV1.__ray_metadata__.modified_class, "run")
    worker = AgentLoopWorkerTQ.__ray_metadata__.modified_class
    assert _parameters(worker._agent_loop_postprocess) == ["self", "output", "validate", "kwargs"]
    assert "agent_loop_workers_class" in inspect.getsource(AgentLoopManagerTQ.__init__)


def test_trainer_registry_holds_the_modes() -> None:
    import verl.trainer.ppo.v1  # noqa: F401  registers them
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

    assert {"sync", "colocate_async", "separate_async"} <= set(TRAINER_REGISTRY)


def test_weight_sync_sockets_are_named_as_known() -> None:
    """Both ends name the socket by themselves, with one prefix, which the extension replaces by the run's name."""
    from verl.workers.rollout.base import get_rollout_class
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
    from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

    from verl.mix_src.weight_sync import MixServerAdapter

    assert get_rollout_class("vllm") is MixServerAdapter
    for source in (ServerAdapter.__init__, vLLMColocateWorkerExtension._get_zmq_handle):
        assert "ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{" in inspect.getsource(source)


PATCHED = {
    "distributed:initialize_global_process_group_ray": "761a94d1a2e058d3",
    "torch_functional:logprobs_from_logits_v2": "1074be97faf338ae",
}


@pytest.mark.parametrize("path", PATCHED)
def test_patched_function_is_the_known_one(path: str) -> None:
    """A patch replaces a part of this function; look again when it changes."""
    function = _resolve(f"verl.utils.{path}")
    source = inspect.getsource(getattr(function, "upstream", function))
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == PATCHED[path]


@pytest.mark.parametrize("shape", [(7,), (2, 5)])
def test_patched_log_probabilities_are_the_log_softmax(shape: tuple[int, ...]) -> None:
    from verl.utils.torch_functional import logprobs_from_logits

    generator = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(*shape, 11, generator=generator)).requires_grad_()
    labels = torch.randint(11, shape, generator=generator)
    weights = torch.randn(shape, generator=generator)
    found = logprobs_from_logits(logits, labels)
    one_by_one = [row.double().softmax(-1)[label].log() for row, label in zip(logits.view(-1, 11), labels.view(-1), strict=True)]
    torch.testing.assert_close(found, torch.stack(one_by_one).view(shape).float())
    (gradient,) = torch.autograd.grad((weights * found).sum(), logits)
    one_hot = torch.nn.functional.one_hot(labels, 11)
    torch.testing.assert_close(gradient, weights.unsqueeze(-1) * (one_hot - logits.softmax(-1)))
