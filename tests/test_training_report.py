"""The summary of a run, from records written by hand."""

from __future__ import annotations

import pytest

from luffy.training_report import held_out_accuracy, summarize

AVG8, GREEDY = "val-core/luffy_tiny/acc/mean@8", "val-core/luffy_tiny_greedy/acc/mean@1"


def record(step: int, **data: float) -> dict:
    return {"step": step, "data": data}


def test_before_and_after_are_the_first_and_the_last_look():
    looks = [record(0, **{AVG8: 0.125, GREEDY: 0.0}), record(1, **{AVG8: 0.5, GREEDY: 0.25}), record(2, **{AVG8: 0.75, GREEDY: 1.0})]
    found = summarize(looks, experiment="luffy")
    assert (found["heldout_avg8_before"], found["heldout_avg8_after"]) == (0.125, 0.75)
    assert (found["heldout_greedy_before"], found["heldout_greedy_after"]) == (0.0, 1.0)
    assert (found["steps"], found["experiment"]) == (2, "luffy")


def test_a_look_during_training_is_not_before_it():
    found = summarize([record(1), record(2, **{AVG8: 0.75})])
    assert found["heldout_avg8_before"] is None and found["heldout_before"] == {}
    assert found["heldout_avg8_after"] == 0.75


def test_accuracy_has_one_order_whichever_answers_came_first():
    for data in ({AVG8: 0.5, GREEDY: 0.25}, {GREEDY: 0.25, AVG8: 0.5}):
        assert list(held_out_accuracy(data).items()) == [("avg@8", 0.5), ("greedy", 0.25)]


def test_entropy_is_of_the_last_ten_steps():
    records = [record(step, **{"on_policy/entropy": float(step), "timing/overhead_share": 0.1 * (step % 2)}) for step in range(1, 21)]
    found = summarize(records)
    assert found["entropy_last10"] == pytest.approx(15.5)  # mean of 11 to 20
    assert found["overhead_share"] == pytest.approx(0.05)
    assert found["heldout_avg8_after"] is None
