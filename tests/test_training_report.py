"""The summary of a run, from records written by hand."""

from __future__ import annotations

import pytest

from luffy import figures
from luffy.training_report import held_out_accuracy, plot_training, summarize

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


def test_an_own_reward_is_shown_as_one():
    data = {"val-core/mine/reward/mean@8": 1.5, "val-core/mine_greedy/reward/mean@1": 2.0, "val-aux/mine/short/mean@8": 1.0}
    assert held_out_accuracy(data) == {"reward avg@8": 1.5, "reward greedy": 2.0}
    both = {"val-core/mine/acc/mean@8": 0.5, "val-aux/mine/reward/mean@8": 0.75}
    assert list(held_out_accuracy(both).items()) == [("avg@8", 0.5), ("reward avg@8", 0.75)]
    found = summarize([{"step": 0, "data": both}, {"step": 3, "data": both}])
    assert found["heldout_after"]["reward avg@8"] == 0.75 and found["heldout_avg8_after"] == 0.5


@pytest.mark.parametrize("steps", [(1,), (1, 2), (4, 5), (0, 40), tuple(range(61))])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_axes_at_the_borders(tmp_path, monkeypatch, steps, value):
    drawn = {}

    def keep(drawing, path, formats):
        (axis,) = drawing.axes
        drawing.canvas.draw()
        ticks = [text.get_text() for text in axis.get_xticklabels()]
        drawn[path.name] = (axis.get_xlim(), axis.get_ylim(), ticks, axis.get_lines()[0].get_marker())

    monkeypatch.setattr(figures, "_save", keep)
    names = ("val-core/a/acc/mean@8", "val-core/a/reward/mean@8", "on_policy/entropy", "on_policy/reward", "off_policy/probability")
    records = [{"step": step, "data": dict.fromkeys(names, value)} for step in steps]
    plot_training(records, tmp_path)
    titles = {"heldout_accuracy", "heldout_reward", "entropy", "reward", "demonstration_probability"}
    assert drawn.keys() == titles
    for name, ((left, right), (low, high), ticks, marker) in drawn.items():
        assert left <= min(steps) and max(steps) <= right and left < right
        assert all(text.lstrip("−").isdigit() for text in ticks)  # whole steps
        assert low == 0 and high >= max(value, 0.1) and (high == 1.0 or name not in ("heldout_accuracy", "demonstration_probability"))
        assert (marker == "o") == (len(steps) < figures.FEW)
