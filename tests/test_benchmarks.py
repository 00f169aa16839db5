"""What ``make bench`` writes: every part has its place on the page, and ratios are of runs of one round."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH = runpy.run_path(str(ROOT / "benchmarks" / "bench.py"))
STEP = runpy.run_path(str(ROOT / "benchmarks" / "step.py"))


def test_each_part_has_one_place_on_the_page_and_a_script():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for part, (script, *_) in BENCH["PARTS"].items():
        assert (ROOT / "benchmarks" / script).is_file()
        new = BENCH["written"](page, part, "1 2 3")
        assert f"<!-- {part} -->\n```\n1 2 3\n```\n<!-- /{part} -->" in new
        others = [each for each in BENCH["PARTS"] if each != part]
        assert all(_block(page, each) == _block(new, each) for each in others)
    with pytest.raises(SystemExit, match="0 places for nothing"):
        BENCH["written"](page, "nothing", "")


def _block(page: str, part: str) -> str:
    return page[page.index(f"<!-- {part} -->") : page.index(f"<!-- /{part} -->")]


def test_a_ratio_is_of_runs_of_one_round():
    # A machine that is slower in the second round.
    rounds = {"LUFFY": (3.0, 8.0), "veRL GRPO": (4.0, 10.0), "the same, 0.1 s poll": (3.0, 10.0)}
    runs = {name: [dict.fromkeys((*STEP["PHASES"], "left out"), value) for value in values] for name, values in rounds.items()}
    ours, theirs, often = (line.split()[-8:] for line in STEP["table"](runs).splitlines()[1:])
    assert ours == ["0.78", "(0.75", "to", "0.80)", "0.90", "(0.80", "to", "1.00)"]  # means of 3/4 and 8/10, of 3/3 and 8/10
    assert theirs == ["1.00", "(1.00", "to", "1.00)", "1.17", "(1.00", "to", "1.33)"]  # of 4/3 and 10/10
    assert often == ["0.88", "(0.75", "to", "1.00)", "1.00", "(1.00", "to", "1.00)"]


@pytest.mark.parametrize(("response", "earned"), [("1+1=02;>12", 1.0), ("1+1=02;>12 \n", 1.0), ("1+1=02;>13", 0.0), ("12", 1.0)])
def test_the_reward_of_verls_run(response, earned):
    assert STEP["reward"]("luffy_tiny", response, "12") == earned
