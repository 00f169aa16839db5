"""The symbols of veRL 0.9.1 that the extension touches: an upgrade fails here, with a list, and not somewhere inside."""

from __future__ import annotations

import ast
import hashlib
import inspect
import subprocess
import sys

import pytest
import torch
import upstream_contract

import verl
from verl.mix_src.upstream import VERL_VERSION


def test_version() -> None:
    assert verl.__version__ == VERL_VERSION == "0.9.1"


def test_what_the_source_uses_is_what_the_table_says() -> None:
    used, known = set(upstream_contract.collect()), set(upstream_contract.TABLE.read_text(encoding="utf-8").splitlines())
    assert sorted(used - known) == [], "not in the table"
    assert sorted(known - used) == [], "no longer used, or of another signature"


@pytest.mark.parametrize(
    "line",
    [
        "verl.trainer.main_ppo.TaskRunnerV1.run(self, config)",  # under Ray's decoration
        "verl.trainer.ppo.v1.trainer_base.PPOTrainer._update_actor(self, batch, metrics)",  # overridden by a mixin
        "verl.trainer.sft_trainer.SFTTrainer._build_engine(self)",
        "verl.plugin.platform.platform_base.PlatformBase.set_device(self, device_index)",
        "verl.workers.rollout.vllm_rollout.utils.vLLMColocateWorkerExtension._update_weights(self, weights, peft_config, base_sync_done)",
        "verl.workers.utils.losses.sft_loss: config, data, dp_group, model_output",  # called, with these
        "verl.utils.dataset.rl_dataset.collate_fn(data_list)",  # handed on
    ],
)
def test_each_way_of_use_is_found(line: str) -> None:
    assert line in upstream_contract.TABLE.read_text(encoding="utf-8").splitlines()


def test_what_a_call_gives() -> None:
    def function(first, second, *, third=None): ...

    def other(first, **others): ...

    shown = [upstream_contract.signature(each) for each in (function, other)]
    call = ast.parse("f(1, third=2, fourth=3)").body[0].value
    assert [upstream_contract.given(call, each) for each in shown] == [{"first", "third", "unknown:fourth"}, {"first", "third", "fourth"}]


def test_rollout_workers_are_chosen_by_an_attribute() -> None:
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ

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

    from verl.mix_src.rl.weight_sync import MixServerAdapter

    assert get_rollout_class("vllm") is MixServerAdapter
    for source in (ServerAdapter.__init__, vLLMColocateWorkerExtension._get_zmq_handle):
        assert "ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{" in inspect.getsource(source)


def test_weights_that_cannot_be_received_end_the_process() -> None:
    """The sender would wait for ever; the watch sees that the engine ended, and the log says why."""
    program = (
        "from verl.mix_src.rl.weight_sync import MixWorkerExtension as Extension\n"
        "try:\n    Extension.update_weights_from_ipc(object.__new__(Extension))\n"
        "finally:\n    print('the sender waits')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "the sender waits" not in done.stdout
    assert "Traceback (most recent call last):" in done.stderr and "AttributeError" in done.stderr


PATCHED = {
    "distributed.initialize_global_process_group_ray": "761a94d1a2e058d3",
    "torch_functional.logprobs_from_logits_v2": "1074be97faf338ae",
}


@pytest.mark.parametrize("path", PATCHED)
def test_patched_function_is_the_known_one(path: str) -> None:
    """A patch replaces a part of this function; look again when it changes."""
    function = upstream_contract.resolve(f"verl.utils.{path}")
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
