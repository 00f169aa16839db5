"""NaN and infinity in loss or gradient: no rank updates with them, the step is counted, its rows are written, and a run of them ends."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from mix_example import ROWS, write_mix_example
from ranks import run_ranks
from safetensors.torch import load_file
from sft_example import SGD as SFT_SGD
from sft_example import overrides, write_example
from test_mix_gradient import ACTOR, SGD, TOLERANCE, Case, largest, micro_batches_of, reference
from test_training import command
from transformers import Qwen2ForCausalLM

pytestmark = pytest.mark.integration

LAST = ROWS - 1  # a row of the last mini-batch, and on two ranks of the second
KL = ["luffy.objective.kl_coefficient=0.1", "luffy.objective.kl_estimator=k1"]  # its gradient does not know the reference


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def updates(request, tmp_path_factory) -> dict[str, Any]:
    """The model and rows before, and what updates leave in which one row has a NaN, or a reference that rules a token out."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    model, rows = write_mix_example(folder)
    for row in rows:
        row["ref_log_prob"] = torch.zeros_like(row["advantages"])
    broken = {"gradient": ("advantages", torch.nan), "loss alone": ("ref_log_prob", -torch.inf)}
    cases = {}
    for kind, (column, value) in broken.items():
        changed = [{**row, column: row[column].clone()} for row in rows]
        changed[LAST][column][-1] = value
        torch.save(changed, folder / f"{kind}.pt")
        for mini_batches in (1, 2) if kind == "gradient" else (1,):
            case = Case(split=micro_batches_of(3), mini_batch=ROWS // mini_batches, rate=0.1)
            cases[kind, mini_batches] = {
                "overrides": [f"actor_rollout_ref.model.path={model}", *SGD, f"{ACTOR}.optim.lr=0.1", *case.formula.overrides(), *case.split,
                              *(KL if kind == "loss alone" else [])],
                "rows": str(folder / f"{kind}.pt"), "mini_batch": case.mini_batch, "columns": [], "entropy_coefficient": case.formula.alpha,
                "output": str(folder / f"{kind}{mini_batches}.out"),
            }  # fmt: skip
    run_ranks("mix_rank.py", request.param, list(cases.values()), folder)
    found = {name: torch.load(case["output"]) for name, case in cases.items()}
    return {"model": model, "rows": rows, **found}


@pytest.mark.parametrize("kind", ["gradient", "loss alone"])
def test_no_rank_updates_where_one_row_of_one_rank_is_broken(updates, kind: str) -> None:
    start = Qwen2ForCausalLM.from_pretrained(updates["model"]).state_dict()
    found = updates[kind, 1]
    assert largest(found["weights"], start) == 0.0
    assert not torch.tensor([found["metrics"]["actor/loss"], found["metrics"]["actor/grad_norm"]]).isfinite().any()


def test_the_mini_batch_before_it_is_learned_from(updates) -> None:
    start = Qwen2ForCausalLM.from_pretrained(updates["model"]).state_dict()
    case = Case(split=[], rate=0.1)
    weights, _ = reference(updates["model"], updates["rows"][: ROWS // 2], case)
    assert largest(weights, start) > 0.01
    assert largest(updates["gradient", 2]["weights"], weights) < TOLERANCE


@pytest.mark.parametrize("ranks", [1, 2])
def test_fine_tuning_leaves_out_such_steps_and_ends_after_some_in_a_row(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate at which the first step makes all weights infinite."""
    example = write_example(tmp_path / "sft")
    steps = ["trainer.total_training_steps=6", "data.micro_batch_size_per_gpu=4", "luffy.safety.bad_steps=2", "trainer.logger=[file]"]
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "metrics.jsonl"))
    case = {"overrides": overrides(example, tmp_path / "run", [*SFT_SGD, "optim.lr=1e38", *steps]), "output": str(tmp_path / "out")}
    with pytest.raises(AssertionError, match=r"BadNumbers: the gradient is not finite at step 4, .*; 3 such steps in a row"):
        run_ranks("sft_rank.py", ranks, [case], tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["data"]["training/skipped_steps"] for each in records] == [0.0, 1.0, 1.0]


PART = """
import torch
from luffy.objective.parts import TokenWeight, token_weight


@token_weight("broken")
class Broken(TokenWeight):
    def __call__(self, tokens, selected):
        return torch.full_like(tokens.log_prob, float("nan") if tokens.step + 1 in (2, 4, 5) else 1.0)
"""


@pytest.mark.alone
@pytest.mark.soak
def test_a_run_leaves_out_such_steps_and_ends_after_some_in_a_row(tiny_example, tmp_path: Path) -> None:
    """A part of the user's own that gives NaN at steps 2, 4 and 5, of which two in a row are too many."""
    (tmp_path / "broken_part.py").write_text(PART)
    folder = tmp_path / "run"
    overrides = ["trainer.total_training_steps=6", "trainer.save_freq=1", "trainer.max_actor_ckpt_to_keep=9", "luffy.safety.bad_steps=1",
                 "luffy.objective.token_weight.name=broken"]  # fmt: skip
    environment = {**os.environ, "VERL_USE_EXTERNAL_MODULES": "broken_part", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command(tiny_example, folder, *overrides), env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert "error: the run failed, actor/loss and actor/grad_norm not finite at step 5" in last
    assert f"{folder}/bad_rows/step_5.jsonl; 2 such steps in a row (luffy.safety.bad_steps)" in last
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {each["step"]: each["data"]["training/skipped_steps"] for each in records} == {1: 0.0, 2: 1.0, 3: 0.0, 4: 1.0}
    assert {path.name for path in (folder / "bad_rows").iterdir()} == {f"step_{step}.jsonl" for step in (2, 4, 5)}
    rows = [json.loads(line) for line in (folder / "bad_rows" / "step_2.jsonl").read_text().splitlines()]
    assert len(rows) == 128 and len({row["row"] for row in rows}) == 128 and all(row["response_text"] for row in rows)
    weights = {step: load_file(folder / f"global_step_{step}/actor/huggingface/model.safetensors") for step in (1, 2, 3, 4)}
    assert largest(weights[2], weights[1]) == 0.0 and largest(weights[4], weights[3]) == 0.0
    assert largest(weights[3], weights[2]) > 0.0
