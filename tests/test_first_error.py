"""The earliest error in a log, on the shapes of logs that Ray, vLLM and torchrun write; and why a step earned no reward."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from luffy.rewards.verdict import WHAT_TO_DO, Reason, why_zero
from luffy.safety import SafetyConfig
from verl.mix_src.run.console import Progress
from verl.mix_src.run.failure import errors, origin, what_failed
from verl.mix_src.run.processes import Watch

RAY = "\x1b[36m({} pid={})\x1b[0m {}\n"
NO_ROOM = [
    RAY.format("vLLMHttpServer", 7, "INFO 11-26 01:08:31 [api_server.py:5] Traceback is not a traceback: line"),
    *(RAY.format("AgentLoopWorkerTQ", 9, line) for line in (
        "Task exception was never retrieved",
        "Traceback (most recent call last):",
        '  File "agent_loop.py", line 5, in run',
        "    output = await self.generate()",
        "ray.exceptions.RayTaskError(ValueError): ray::vLLMHttpServer.generate() (pid=7, ip=10.0.0.1)",
        '  File "vllm_async_server.py", line 595, in generate',
        "ValueError: Prompt length (269) leaves no room to generate within the model's maximum context length (128)",
    )),
    *(RAY.format("MixTaskRunner", 3, line) for line in (
        "Traceback (most recent call last):",
        "ValueError: Received an empty list as keys.",
    )),
]  # fmt: skip
ENGINE = [
    RAY.format("vLLMHttpServer", 7, f"\x1b[0;36m(EngineCore_DP0 pid=41)\x1b[0;0m ERROR 11-26 01:08:31 [core.py:1100] {line}")
    for line in (
        "EngineCore failed to start.",
        "Traceback (most recent call last):",
        '  File "core.py", line 1091, in run_engine_core',
        "RuntimeError: Unsupported CPU attention configuration: head_dim=16",
        "The above exception was the direct cause of the following exception:",
        "Traceback (most recent call last):",
        "RuntimeError: Engine core initialization failed.",
    )
]
MEMORY = "AssertionError: Error in memory profiling. Initial free memory 16.1 GiB, current free memory 95.2 GiB."
WORKER = [
    *(RAY.format("vLLMHttpServer", 7, f"\x1b[0;36m(Worker{{}} pid=52)\x1b[0;0m ERROR 11-28 02:36:21 [multiproc_executor.py:1000] {line}")
      for line in ("WorkerProc hit an exception.", "Traceback (most recent call last):", '  File "gpu_worker.py", line 480, in f', MEMORY)),
    *(line.replace("Unsupported CPU attention configuration: head_dim=16", "Worker failed with error") for line in ENGINE),
]  # fmt: skip
RANKS = [
    "[rank1]: Traceback (most recent call last):\n",
    "[rank0]: Traceback (most recent call last):\n",
    '[rank1]:   File "sft_trainer.py", line 3, in fit\n',
    "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n",
    "[rank0]: torch.distributed.DistBackendError: peer closed\n",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n",
]
KILLED = [
    RAY.format("raylet", 2, "[2026-11-26 01:02:03,000 E 2 2] (raylet) node_manager.cc:3: 1 Workers (tasks / actors) killed due to memory pressure (OOM)"),
    RAY.format("MixTaskRunner", 3, "Traceback (most recent call last):"),
    RAY.format("MixTaskRunner", 3, "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "part", "text"),
    [
        (NO_ROOM, "vLLMHttpServer", "ValueError: Prompt length (269) leaves no room"),
        (ENGINE, "EngineCore_DP0", "RuntimeError: Unsupported CPU attention configuration: head_dim=16"),
        (RANKS, "rank1", "torch.OutOfMemoryError: CUDA out of memory."),
        (KILLED, "raylet", "killed due to memory pressure"),
        (["error: data.max_length=5 is too short\n"], "", "data.max_length=5 is too short"),
        (["(WorkerDict pid=4) Fatal Python error: Segmentation fault\n"], "WorkerDict", "Fatal Python error: Segmentation fault"),
    ],
)
def test_the_cause_and_not_its_consequence(lines, part, text):
    found = next(errors(lines))
    assert found.part == part and text in found.text


def test_healthy_logs_have_no_error():
    lines = [
        "[36m(WorkerDict pid=1)[0m 'truncation': 'error',\n",
        "(vLLMHttpServer pid=2) WARNING 11-26 01:08:46 [vllm.py:609] Model Runner V2 requires Triton; Error handling: none\n",
        "Traceback (most recent call last):\n",
        "KeyboardInterrupt\n",
        "0 errors found: fine\n",
    ]
    assert list(errors(lines)) == []


def test_origin_of_what_the_driver_gets():
    text = (
        '\x1b[36mray::MixTaskRunner.run()\x1b[39m (pid=3, ip=1.2.3.4)\n  File "a.py", line 1, in run\n    x()\n'
        "ray.exceptions.RayTaskError(AttributeError): \x1b[36mray::WorkerDict.init_model()\x1b[39m (pid=5, ip=1.2.3.4)\n"
        "  File \"b.py\", line 2, in init_model\nAttributeError: Optimizer 'NoSuch' not found"
    )
    found = origin(text)
    assert (found.part, found.text) == ("WorkerDict", "AttributeError: Optimizer 'NoSuch' not found")
    assert origin("nothing of the kind") is None


def test_the_line_names_parts_as_people_do(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("Traceback (most recent call last):\nKeyError: of an earlier start\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.writelines(NO_ROOM)
    error = RuntimeError("ray::MixTaskRunner.run() (pid=3)\nValueError: Received an empty list as keys.")
    line = what_failed(log, start, None, error)
    assert line.startswith("first in a rollout server (vLLM): ValueError: Prompt length (269) leaves no room")
    assert line.endswith("; then in the trainer: ValueError: Received an empty list as keys.")
    killed = what_failed(log, start, "an agent loop worker ended")  # what others say of it came after
    assert killed == "first an agent loop worker ended; then in the trainer: ValueError: Received an empty list as keys."
    assert what_failed(log, log.stat().st_size, "Ray's head ended") == "first Ray's head ended"
    with log.open("a") as file:
        file.writelines(ENGINE)
    raised = what_failed(log, start, "a rollout engine (vLLM) ended")
    assert raised.startswith("first in a rollout engine (vLLM): RuntimeError: Unsupported CPU attention configuration: head_dim=16; then a")
    for name in ("", "_TP0", "_DP1_PP0_TP3"):
        late = log.stat().st_size
        with log.open("a") as file:
            file.writelines(line.replace("{}", name) for line in WORKER)
        raised = what_failed(log, late, "a rollout engine's worker (vLLM) ended")
        assert raised == f"first in a rollout engine's worker (vLLM): {MEMORY}; then a rollout engine's worker (vLLM) ended"
    with log.open("a") as file:
        file.writelines(KILLED)
    assert "killed due to memory pressure" in what_failed(log, start, "an actor worker (FSDP) ended")


def test_why_there_is_no_reward():
    reason, line = why_zero({"reward/truncated": 0.37, "reward/no_answer": 0.22, "reward/gate_failed": 0.0})
    assert reason is Reason.WRONG and "wrong .41, truncated .37, no answer found .22" in line and WHAT_TO_DO[Reason.WRONG] in line
    assert why_zero({"reward/truncated": 1.0})[0] is Reason.TRUNCATED
    assert "data.max_response_length" in why_zero({"reward/truncated": 1.0})[1] and "wrong" not in why_zero({"reward/truncated": 1.0})[1]
    assert why_zero({"on_policy/reward": 0.0}) is None  # a reward of the user's own gives no reasons


def test_the_console_says_it_first_and_when_it_changes(tmp_path: Path):
    file, console = tmp_path / "metrics.jsonl", io.StringIO()
    file.write_text('{"step": 1, "data": {"on_policy/reward": 0.5}}\n')
    zero = '"on_policy/reward": 0.0, "on_policy/entropy": 1.0, "training/global_step": 2'
    with Progress(console, file, 6, Watch(), first_step=1):
        with file.open("a") as lines:
            lines.write(f'{{"step": 2, "data": {{{zero}, "reward/truncated": 0.9}}}}\n')
            lines.write(f'{{"step": 3, "data": {{{zero}, "reward/truncated": 0.8}}}}\n')
            lines.write(f'{{"step": 4, "data": {{{zero}, "reward/no_answer": 0.7}}}}\n')
            lines.write('{"step": 5, "data": {"on_policy/reward": 0.1, "on_policy/entropy": 1.0}}\n')
    said = [line for line in console.getvalue().splitlines() if "earned a reward" in line]
    assert [line.split("] ")[1].split(":")[0] for line in said] == ["step 2", "step 4"]
    assert "truncated .90, wrong .10" in said[0] and "no answer found .70" in said[1]
    assert "training:  83%" in console.getvalue() and "5/6" in console.getvalue() and "\r" not in console.getvalue()


def test_the_console_goes_on_over_a_metric_that_is_no_number(tmp_path: Path):
    """veRL writes NaN and infinity as null."""
    file, console = tmp_path / "metrics.jsonl", io.StringIO()
    bad = '"on_policy/entropy": null, "actor/ppo_kl": null, "off_policy/probability": null, "actor/loss": null'
    with Progress(console, file, 4, Watch(), safety=SafetyConfig(alarm_steps=3)):
        file.write_text(f'{{"step": 1, "data": {{"on_policy/reward": null, {bad}}}}}\n')
        with file.open("a") as lines:
            lines.writelines(f'{{"step": {step}, "data": {{"on_policy/reward": 0.0, {bad}}}}}\n' for step in (2, 3, 4))
    assert "4/4" in console.getvalue() and "step 4: for 3 steps no rollout earns a reward" in console.getvalue()


@pytest.mark.parametrize("kind", ["verl.mix_src.run.checkpoints.CheckpointFailed", "verl.mix_src.run.failure.BadNumbers"])
def test_the_projects_last_word_is_the_line(kind: str, tmp_path: Path) -> None:
    """Whatever other parts have written; but not where a part was lost first."""
    log = tmp_path / "log"
    log.write_text("".join(NO_ROOM))
    text = 'ray::MixTaskRunner.run() (pid=3, ip=127.0.0.1)\n  File "trainer.py", line 1, in f\n' + f"{kind}: checkpoint of step 3: full"
    assert what_failed(log, 0, None, RuntimeError(text)) == "checkpoint of step 3: full"
    assert what_failed(log, 0, "an actor worker (FSDP) ended", RuntimeError(text)).startswith("first an actor worker (FSDP) ended")
