"""What the loss keeps of a recorded step, however its rows are split; where a row comes from; and the trackers' tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recorded_run import HOSTILE, responses
from test_mix_loss import BONUS, ENTROPY, LENGTHS, LOG_P, WHOLE, make_rows

from luffy.objective import ObjectiveConfig
from luffy.record import GREEDY_ANSWER, HELD_OUT
from verl.mix_src.rl import kept
from verl.mix_src.rl.loss import STEP, mix_ppo_loss
from verl.mix_src.rl.recording import held_out_responses, source_of
from verl.mix_src.rl.trackers import COLUMNS, escaped, in_code, log_groups, table_of

CONFIG = ObjectiveConfig(aggregation="token_mean")


def computed(rows: list, numbers: list[int], **facts) -> None:
    """The loss of a micro-batch whose rows have these numbers."""
    from mix_example import to_batch

    batch = to_batch(rows, **WHOLE | BONUS | facts)
    batch[kept.ROW] = torch.tensor(numbers)
    output = {name: batch.pop(name).detach().requires_grad_() for name in (LOG_P, ENTROPY)}
    loss, _ = mix_ppo_loss(CONFIG, output, batch)
    loss.backward()


def test_nothing_is_kept_where_nothing_is_recorded() -> None:
    kept.kept_values(None, [])
    computed(make_rows(0.5), list(range(6)))
    assert kept.kept_weights(None) == {}


def test_what_is_kept_does_not_depend_on_the_split() -> None:
    rows, step = make_rows(0.5), {kept.RECORDED: True, STEP: 7}
    computed(rows, [10, 11, 12, 13, 14, 15], **step)
    whole, weights = dict(kept._kept), kept.kept_weights(None)
    kept._kept.clear()
    for first in (0, 2, 4):
        computed(rows[first : first + 2], [10 + first, 11 + first], **step)
    assert kept.kept_weights(None) == pytest.approx(weights, rel=1e-5)
    split = kept.kept_values(None, [11, 14, 99])
    assert set(split) == {11, 14} and kept.kept_weights(None) == {}
    for row in split:
        length = LENGTHS[row - 10][1]
        for name in ("ratio", "loss", "gradient_weight"):
            np.testing.assert_allclose(split[row][name][:length], whole[row][name][:length], rtol=1e-5, atol=1e-7)
            assert split[row][name].dtype == np.float32


def test_another_step_forgets_the_one_before() -> None:
    rows = make_rows(0.0)
    computed(rows[:2], [0, 1], **{kept.RECORDED: True, STEP: 1})
    computed(rows[:2], [5, 6], **{kept.RECORDED: True, STEP: 2})
    assert set(kept.kept_weights(None)) == {5, 6}
    kept.kept_values(None, [])


@pytest.mark.parametrize(
    ("fact", "source"),
    [(None, "rollout"), ("expert", "teacher expert"), (None, "rollout"), ("", "teacher"), ("replay", "replay")],
)
def test_where_a_row_comes_from(fact: str | None, source: str) -> None:
    assert source_of({} if fact is None else {"demonstration": {"source": fact, "ratio": 1.0}}) == source


def test_held_out_answers_are_grouped_by_problem_whoever_gave_them() -> None:
    prompts = [f"problem {number}" for number in (0, 1, 2) for _ in range(2)] + ["problem 0", "problem 1", "problem 2"]
    sources = ["sums"] * 6 + ["sums_greedy"] * 3
    infos = {"reward": [0.0, 1.0] * 3 + [1.0] * 3, "reason": ["wrong", "correct"] * 3 + [None] * 3}
    found = held_out_responses(prompts, [f"text {number}" for number in range(9)], sources, infos, with_text=1)
    assert [len({each.group}) for each in found] == [1] * 9 and len({each.group for each in found}) == 3
    assert [each.source for each in found] == ["rollout", "rollout", GREEDY_ANSWER] * 3
    assert [list(each.tokens) for each in found[3:]] == [[]] * 6
    place = prompts.index(found[0].prompt)
    assert [each.tokens for each in found[:3]] == [[f"text {place}"], [f"text {place + 1}"], [f"text {6 + place // 2}"]]
    assert [each.reason for each in found[:3]] == ["wrong", "correct", ""] and {each.chosen for each in found} == {HELD_OUT}


def test_tables_have_the_numbers_of_the_record(tmp_path: Path) -> None:
    made = responses(np.random.default_rng(0), 10, 2, 3, 12, hostile=True)
    table = table_of(made)
    assert [len(row) for row in table] == [len(COLUMNS)] * 6
    row = dict(zip(COLUMNS, table[4], strict=True))
    assert row["reward"] == made[4].reward and row["tokens"] == len(made[4].tokens)
    assert row["Σ|gradient weight|"] == pytest.approx(float(np.abs(made[4].values["gradient_weight"]).sum()), rel=1e-6)
    assert row["mean probability"] == pytest.approx(float(made[4].values["old_probability"].mean()), rel=1e-6)
    assert HOSTILE[0] in row["response"] and "\udc80" not in row["response"]


def test_markdown_of_a_model_is_a_text() -> None:
    assert escaped("![x](http://a) <b>") == r"\!\[x\]\(http\:\/\/a\) \<b\>"
    block = in_code(table_of(responses(np.random.default_rng(0), 10, 1, 2, 12, hostile=True)))
    assert all(line.startswith("    ") for line in block.split("\n")[:-1]) and HOSTILE[0] in block


def test_trackers_without_a_table_are_left_alone() -> None:
    log_groups(SimpleNamespace(logger={"console": None, "file": None}), "groups", responses(np.random.default_rng(0), 1, 1, 1, 3), 1)


def test_tensorboard_holds_the_table(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    made = responses(np.random.default_rng(0), 10, 1, 2, 5)
    log_groups(SimpleNamespace(logger={"tensorboard": SimpleNamespace(writer=writer)}), "groups", made, 10)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Tensors("record/groups/text_summary")
    assert event.step == 10 and "".join(made[0].tokens).split("\n")[0] in event.tensor_proto.string_val[0].decode()


def test_wandb_holds_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    run = wandb.init(project="test", dir=str(tmp_path))
    made = responses(np.random.default_rng(0), 10, 1, 2, 5)
    log_groups(SimpleNamespace(logger={"wandb": run_logger(wandb)}), "groups", made, 10)
    run.finish()
    (file,) = tmp_path.rglob("*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == list(COLUMNS)
    assert table["data"][1][COLUMNS.index("reward")] == made[1].reward
    assert table["data"][1][-1] == "".join(made[1].tokens)


def run_logger(wandb):
    """What veRL keeps of wandb: the module."""
    return wandb


def test_trackio_holds_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = pytest.importorskip("trackio", reason="trackio is not installed")
    logged = []
    logger = SimpleNamespace(Table=trackio.Table, log=lambda data, step: logged.append((data, step)))
    made = responses(np.random.default_rng(0), 10, 1, 2, 5, hostile=True)
    log_groups(SimpleNamespace(logger={"trackio": SimpleNamespace(trackio=logger)}), "groups", made, 10)
    ((data, step),) = logged
    rows = data["record/groups"].data
    assert step == 10 and rows[1]["reward"] == made[1].reward and rows[1]["response"].startswith(escaped(HOSTILE[0]))
