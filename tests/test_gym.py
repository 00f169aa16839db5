"""Procedural tasks: their scorers in the verifier's workers, sets without overlap, and a training of three steps on three of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_sets import ROOT, read_rows, run_script
from openai_server import serving

from luffy.data.check import check_training_file
from luffy.data.schema import arrow_schema
from luffy.digests import uniform
from luffy.errors import InputError
from luffy.rewards import Grader, Reason, Verdict, kind_for
from luffy.rewards.gym import KIND, read, read_reference, reference, shown_answer
from verl.mix_src.rl.reward import score_row

reasoning_gym = pytest.importorskip("reasoning_gym", reason="the extra 'gym' is not installed")
TASKS = ("chain_sum", "letter_counting", "countdown")


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=1, time_limit_s=10.0) as grader:
        yield grader


def test_a_reference_is_read_back():
    gold = reference("chain_sum", 5, {"seed": 0, "size": 9, "min_terms": 3}, "a# b+1\n2%")
    assert gold.startswith("chain_sum?index=5&min_terms=3&seed=0&size=9#") and gold.count("#") == 1
    assert read_reference(gold) == ("chain_sum", 5, {"seed": 0, "size": 9, "min_terms": 3})
    assert shown_answer(gold) == "a# b+1\n2%"
    for wrong in ("439", "chain_sum#1", "a?b", "a?index=true"):
        with pytest.raises(ValueError, match="no problem of reasoning-gym|JSON|Expecting"):
            read_reference(wrong)


def test_where_an_answer_stands():
    assert read("so <answer>1</answer> no, <answer>\n1 2\n3 4 </answer>.") == "1 2\n3 4"
    assert read(r"so \boxed{7}") == "7"
    assert read("<answer></answer>") is None and read("seven") is None


def test_scores_of_the_library_are_verdicts(grader):
    """The first problem of chain_sum with seed 0, by its own words, is added up here."""
    data = reasoning_gym.create_dataset("chain_sum", seed=0, size=4)
    question = data[0]["question"]
    total = sum(int(sign + number) for sign, number in re.findall(r"([+-]?)\s*(\d+)", question.split(":")[-1].split("=")[0]))
    gold = reference("chain_sum", 0, {"seed": 0, "size": 4}, str(total))
    assert kind_for("gym:chain_sum") == KIND
    judged = [
        grader.submit(text, gold, kind=KIND).result()
        for text in (
            f"</think><answer>{total}</answer>",
            f"</think><answer>{total + 1}</answer>",
            f"</think> {total}",
            "</think><answer>x</answer>",
        )
    ]
    assert [verdict.reason for verdict in judged] == [Reason.CORRECT, Reason.WRONG, Reason.NO_ANSWER, Reason.WRONG]
    gated = grader.submit(f"<answer>{total}</answer>", gold, kind=KIND, thought_gate=True).result()
    assert gated.reason is Reason.GATE_FAILED
    assert grader.submit("<answer>1</answer>", "no reference", kind=KIND).result() == Verdict(Reason.ERROR, "1")


def test_partial_scores_are_cut_or_kept(grader):
    """The common scorer gives len(answer) / len(what was said) where the answer is part of it: 2 of 8 signs."""
    data = reasoning_gym.create_dataset("letter_counting", seed=0, size=40)
    own = data[0]["answer"]
    said = f"it is {own}"
    verdict = grader.submit(f"<answer>{said}</answer>", reference("letter_counting", 0, {"seed": 0, "size": 40}, own), kind=KIND).result()
    assert verdict.reason is Reason.WRONG and verdict.partial == pytest.approx(len(own) / len(said), abs=1e-12)
    assert score_row(verdict)["score"] == 0.0
    assert score_row(verdict, partial=True)["score"] == pytest.approx(len(own) / len(said), abs=1e-12)
    assert score_row(verdict, partial=True)["acc"] == 0.0
    assert score_row(Verdict(Reason.CORRECT), partial=True)["score"] == 1.0


def test_a_scorer_that_evaluates_an_answer_is_refused_to(grader, tmp_path):
    """spiral_matrix hands what is no list of numbers to eval: code in an answer does not run, and the worker goes on."""
    gold = reference("spiral_matrix", 0, {"seed": 0, "size": 4}, "")
    code = f"[open({str(tmp_path / 'written')!r}, 'w')]"
    assert grader.submit(f"<answer>{code}</answer>", gold, kind=KIND).result().reason is Reason.ERROR
    assert list(tmp_path.iterdir()) == []
    own = reasoning_gym.create_dataset("spiral_matrix", seed=0, size=4)[0]["answer"]
    assert grader.submit(f"<answer>{own}</answer>", gold, kind=KIND).result().correct


def test_both_sets_have_no_problem_in_common(monkeypatch, tmp_path):
    def prepare(folder: Path, *flags: object) -> tuple[list[dict], list[dict]]:
        output = folder / "gym.parquet"
        arguments = ("--tasks", *TASKS, "--size", 30, "--held-out", 10, "--output", output, "--num-workers", 1)
        assert run_script(monkeypatch, "prepare_gym.py", *arguments, *flags) == 0
        assert pq.read_schema(output).equals(arrow_schema("train"))
        return read_rows(output), read_rows(folder / "gym_held_out.parquet")

    train, held_out = prepare(tmp_path / "one")
    questions = [row["prompt"][-1]["content"] for row in train + held_out]
    assert len(train) == 90 and len(held_out) == 30 and len(set(questions)) == 120
    assert {row["data_source"] for row in train} == {f"gym:{task}" for task in TASKS}
    for row in train[::17]:
        task, index, settings = read_reference(row["reward_model"]["ground_truth"])
        assert reasoning_gym.create_dataset(task, **settings)[index]["question"] == row["prompt"][-1]["content"]
    assert {str(found).split(": ")[2] for found in check_training_file(tmp_path / "one" / "gym.parquet")} == {"trace_missing"}
    assert (tmp_path / "one" / "gym.parquet").read_bytes()
    again, _ = prepare(tmp_path / "two")
    assert again == train
    small = [f"chain_sum.{bound}_{what}={1 + (what == 'terms')}" for bound in ("min", "max") for what in ("terms", "digits")]
    few = [row["prompt"][-1]["content"] for rows in prepare(tmp_path / "small", "--settings", *small) for row in rows]
    assert len(set(few)) == len(few) == 120  # of two digits and a sign between them, which the library draws more than once


def test_near_seeds_have_no_draws_in_common(monkeypatch, tmp_path):
    """Seeds 0 and 20 of tasks with many problems: of the library's own draws, seed 20's held-out ones are all among seed 0's for training."""

    def questions(seed: int) -> list[set[str]]:
        output = tmp_path / f"{seed}.parquet"
        flags = ("--tasks", "chain_sum", "spell_backward", "--size", 30, "--held-out", 10, "--num-workers", 1, "--seed", seed)
        assert run_script(monkeypatch, "prepare_gym.py", *flags, "--output", output) == 0
        return [{row["prompt"][-1]["content"] for row in read_rows(path)} for path in (output, tmp_path / f"{seed}_held_out.parquet")]

    (train, held_out), (other, others_held_out) = questions(0), questions(20)
    assert len(train) == len(other) == 60 and len(held_out) == len(others_held_out) == 20
    assert not (train | held_out) & (other | others_held_out)
    settings = {"size": 40, "min_terms": 2}
    direct = [{reasoning_gym.create_dataset("chain_sum", seed=seed, **settings)[i]["question"] for i in range(40)} for seed in (0, 20)]
    assert len(direct[0] & direct[1]) == 20


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--tasks", "chainsum"], "no task 'chainsum'; did you mean 'chain_sum'?"),
        (["--tasks", "chain_sum", "chain_sum"], "--tasks names chain_sum twice"),
        (["--tasks", "codeio"], "of its own answers get no reward (error)"),
        (["--tasks", "coin_flip", "--settings", "coin_flip.max_trials=2", "coin_flip.min_trials=2"], "different problems in 160 draws"),
        (["--tasks", "chain_sum", "--settings", "chain_sum.min_terms=-1"], "does not take these settings"),
        (["--tasks", "chain_sum", "--settings", "min_terms=3"], "give TASK.NAME=VALUE"),
    ],
)
def test_what_is_no_task_is_refused(monkeypatch, tmp_path, capsys, flags, says):
    output = tmp_path / "gym.parquet"
    assert run_script(monkeypatch, "prepare_gym.py", *flags, "--size", 30, "--held-out", 10, "--output", output, "--num-workers", 1) == 2
    assert says in capsys.readouterr().err
    assert not output.exists()


def test_kinds_that_cannot_score_say_so(monkeypatch):
    from luffy.rewards import kinds

    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(InputError, match=r"answers of kind 'gym' cannot be judged: .*pip install 'luffy-rl\[gym\]'"):
        kinds.prepare_scorer(KIND)


@pytest.mark.integration
def test_three_tasks_are_trained_on_for_three_steps(monkeypatch, tmp_path):
    """A teacher that knows the library's answers teaches a random model; its traces get their reward, the model's own answers none."""
    from test_own_run import write_model

    output, traces = tmp_path / "gym.parquet", tmp_path / "traces.parquet"
    arguments = ("--tasks", *TASKS, "--size", 16, "--held-out", 4, "--output", output, "--num-workers", 1)
    assert run_script(monkeypatch, "prepare_gym.py", *arguments) == 0
    known = {row["prompt"][-1]["content"]: shown_answer(row["reward_model"]["ground_truth"]) for row in read_rows(output)}

    def knows(question: str, seed: int) -> tuple[str, str]:
        wrong = uniform(question, seed) < 0.2
        return f"<think>\nI know.\n</think>\n<answer>{'unknown' if wrong else known[question]}</answer>", "stop"

    with serving(answer=knows) as teacher:
        flags = ("--problems", output, "--teacher", teacher.url, "--samples", 3, "--output", traces, "--num-workers", 1, "--max-tokens", 64)
        assert run_script(monkeypatch, "collect_traces.py", *flags) == 0
    assert [found for found in check_training_file(traces) if found.severity == "error"] == []
    model, run = write_model(tmp_path / "model", positions=4096), tmp_path / "run"
    command = [
        sys.executable, "-m", "verl.mix_src.main_mix_ppo", "profile=cpu", "experiment=luffy", f"actor_rollout_ref.model.path={model}",
        f"data.train_files={traces}", f"data.val_files={tmp_path / 'gym_held_out.parquet'}", "data.max_prompt_length=2048",
        "data.max_response_length=96", "data.train_batch_size=8", "trainer.total_training_steps=3", f"trainer.default_local_dir={run}",
        "reward.reward_kwargs.partial_scores=true", "trainer.val_before_train=false",  # one look, for time
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    records = [json.loads(line)["data"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    taught = [record["off_policy/reward"] for record in records if "off_policy/reward" in record]
    assert taught == [1.0] * 3
