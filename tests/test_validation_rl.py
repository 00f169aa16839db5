"""Validation in the trainer: rows in an order that shares the work, and veRL's own statistics from fewer draws."""

from __future__ import annotations

import numpy as np
from verl.trainer.ppo import metric_utils

from verl.mix_src.rl.validation import SampledAndGreedy, each_bootstrap_once


def test_each_row_is_sampled_and_then_asked_greedily() -> None:
    rows = SampledAndGreedy([{"data_source": "a", "x": 1}, {"data_source": "b", "x": 2}], 8)
    found = [(row["x"], row["data_source"], row["__rollout_n__"], row["greedy"]) for row in (rows[i] for i in range(len(rows)))]
    assert found == [(1, "a", 8, False), (1, "a_greedy", 1, True), (2, "b", 8, False), (2, "b_greedy", 1, True)]


def test_statistics_are_verls_to_the_last_bit(monkeypatch) -> None:
    """40 problems of 8 verdicts and a vote each, half of them alike; also what is drawn after them."""
    draw = np.random.default_rng(0)
    verdicts = [float(each) for _ in range(40) for each in (draw.integers(0, 2, 8) if draw.random() < 0.5 else [0] * 8)]
    uids = [f"p{row // 8}" for row in range(len(verdicts))]
    infos = {"acc": verdicts, "pred": [str(int(each)) for each in verdicts]}
    given = ["a" if row < 160 else "b" for row in range(len(verdicts))], uids, infos
    upstream, calls = metric_utils.bootstrap_metric, []

    def counted(*arguments, **others):
        calls.append(1)
        return upstream(*arguments, **others)

    monkeypatch.setattr(metric_utils, "bootstrap_metric", counted)
    expected, after, times = metric_utils.process_validation_metrics(*given), np.random.random(), len(calls)
    with each_bootstrap_once():
        found = metric_utils.process_validation_metrics(*given)
    assert found == expected and np.random.random() == after
    of_votes = 40 * 3  # these are drawn for each problem, as before
    assert times == 2 * of_votes and of_votes < len(calls) - times < of_votes + 100
    assert metric_utils.bootstrap_metric is counted
