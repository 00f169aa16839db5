"""Verdicts per second beside a serial Math-Verify loop, and a soak with hostile responses.

    python benchmarks/rewards.py speed [--rows 1024] [--repeats 3] [--workers 2]
    python benchmarks/rewards.py soak [--verdicts 10000] [--hostile-share 0.01] [--time-limit-s 2]

Speed, on 2 cores: at least 1.8 x on cold, all-different answers, and 10 x on a batch as in training (8 responses a
prompt, most of which repeat an answer). Each ratio is of the two loops run one after the other on the same rows; the
one on free cores divides the CPU time of the serial loop by that of the pool's busiest process, so that it does not
depend on what else the machine does. Both have judged one batch of other problems before, as at any step of a training
but the first: SymPy fills its own caches then. No problem is in two batches.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import runpy
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path

from tqdm import tqdm

from luffy import command_line
from luffy.rewards import Grader, Reason

HOSTILE = Path(__file__).parents[1] / "tests" / "cases" / "rewards_hostile.py"
FORMS = (
    (r"\frac{{{a}}}{{{b}}}", r"\dfrac{{{a}}}{{{b}}}"),
    (r"{a}\sqrt{{{b}}}", r"\sqrt{{{b}}} \cdot {a}"),
    (r"x^2 + {a}x + {b}", r"{b} + x^2 + {a}x"),
    (r"({a}, {b})", r"\left({a}, {b}\right)"),
    (r"[{a}, {b} + 100)", r"[{a}, 100 + {b})"),
    (r"\frac{{{a}\pi}}{{{b}}}", r"\frac{{{a}}}{{{b}}}\pi"),
    (r"{a}.5", r"{a}\frac{{1}}{{2}}"),
)
"""Gold answers and another way to write each; a and b are drawn."""
INTEGER = ("{a}{b}", "{a}{b}")
INTEGER_SHARE = 0.6
"""Share of integers among the gold answers of a batch as in training; the cold batch has none."""
STEP = "We substitute $t = {a}$ and get $x^2 + {a}x = \\frac{{{b}}}{{2}}$, so that $x < {b}$. Let us check this again. "
HUNG_S = 60.0
"""A verdict that takes longer counts as hung; the limit on one is a few seconds."""
STEPS = 100
"""Steps of a response before its answer: about 10 000 characters, an ordinary response of a reasoning model."""


def make_rows(number: int, rng: random.Random, *, distinct: bool, first: int = 0) -> list[tuple[str, str]]:
    """(response, gold) pairs.

    Args:
        number: how many.
        rng: draws them.
        first: number of the first problem.
        distinct: all answers differ and none is an integer; else 8 responses a gold answer, of which each gives the
            gold answer, the same in another form, or one of two wrong ones.
    """
    rows: list[tuple[str, str]] = []
    for problem in range(first, first + (number if distinct else number // 8)):
        integer = not distinct and rng.random() < INTEGER_SHARE
        gold, other = INTEGER if integer else FORMS[problem % len(FORMS)]
        a, b = 2 + problem, rng.choice((3, 5, 7, 11, 13))
        text = "".join(STEP.format(a=a + step, b=b + step) for step in range(STEPS))
        forms = [other.format(a=a + wrong, b=b) for wrong in (0, 1)]
        if not distinct:
            forms = rng.choices([gold.format(a=a, b=b), *forms, other.format(a=a, b=b + 6)], weights=(5, 1, 1, 1), k=8)
        else:
            forms = [rng.choice(forms)]
        rows += [(f"{text}Hence the answer is $\\boxed{{{form}}}$.", gold.format(a=a, b=b)) for form in forms]
    return rows


def time_serial(rows: list[tuple[str, str]]) -> tuple[float, float, list[bool]]:
    """Seconds of wall clock and of CPU of a plain Math-Verify loop, and its verdicts."""
    from math_verify import parse, verify

    wall, cpu = time.perf_counter(), time.process_time()
    verdicts = [verify(parse(f"\\boxed{{{gold}}}"), parse(response)) for response, gold in rows]
    return time.perf_counter() - wall, time.process_time() - cpu, verdicts


def time_pool(grader: Grader, rows: list[tuple[str, str]]) -> tuple[float, float, list[bool]]:
    """Seconds of wall clock, and of CPU of the busiest process, of a started grader, and its verdicts."""
    processes = [os.getpid(), *family()]
    wall, cpu = time.perf_counter(), [cpu_seconds(pid) for pid in processes]
    verdicts = [verdict.correct for verdict in grader.grade_batch(rows)]
    wall = time.perf_counter() - wall
    busiest = max(cpu_seconds(pid) - before for pid, before in zip(processes, cpu, strict=True))
    return wall, busiest, verdicts


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speed(options: argparse.Namespace) -> int:
    """Print rates and ratios for each kind of batch."""
    print(f"verdicts per second, {options.workers} workers, median of {options.repeats} (smallest to largest ratio)")
    print(f"{'batch':28} {'serial':>7} {'pool':>7} {'ratio':>20} {'ratio on free cores':>20}")
    for name, distinct in (("cold, all different", True), ("as in training, 8 a prompt", False)):
        found = measured(options, distinct)
        serial, pool = (statistics.median(column) for column in list(zip(*found, strict=True))[:2])
        spreads = [spread(column) for column in list(zip(*found, strict=True))[2:]]
        print(f"{name:28} {serial:7.0f} {pool:7.0f} {spreads[0]:>20} {spreads[1]:>20}")
    return 0


def measured(options: argparse.Namespace, distinct: bool) -> list[tuple[float, float, float, float]]:
    """For each repeat: verdicts a second, serial and in the pool, and the two ratios."""
    found = []
    with Grader(workers=options.workers, time_limit_s=30) as grader:
        for repeat in tqdm(range(options.repeats + 1), desc="distinct" if distinct else "training", leave=False):
            rows = make_rows(options.rows, random.Random(repeat), distinct=distinct, first=repeat * options.rows)
            serial, serial_cpu, expected = time_serial(rows)
            pool, pool_cpu, verdicts = time_pool(grader, rows)
            if verdicts != expected:
                raise AssertionError(f"{sum(map(bool.__ne__, verdicts, expected))} verdicts differ from Math-Verify's")
            found.append((len(rows) / serial, len(rows) / pool, serial / pool, serial_cpu / pool_cpu))
    return found[1:]


def spread(values: Sequence[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def family() -> set[int]:
    """Every process below this one."""
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            below = {int(pid) for pid in task.read_text().split()} - found
            found |= below
            waiting.extend(below)
    return found


def soak(options: argparse.Namespace) -> int:
    """Grade many rows with a share of hostile ones, and count what went wrong."""
    rng = random.Random(0)
    hostile = list(runpy.run_path(str(HOSTILE))["HOSTILE"].values())
    rows: list[tuple[object, str]] = list(make_rows(options.verdicts, rng, distinct=True))
    attacked = rng.sample(range(len(rows)), round(options.hostile_share * len(rows)))
    for place in attacked:
        rows[place] = (rng.choice(hostile), f"{7 + place}/13")
    before = family()
    start = time.perf_counter()
    with Grader(workers=options.workers, time_limit_s=options.time_limit_s) as grader:
        futures = [grader.submit(response, gold) for response, gold in rows]
        for future in tqdm(futures, desc="soak", unit="verdict"):
            wait([future], timeout=HUNG_S)
        hung = sum(not future.done() for future in futures)
        during = family() - before
    verdicts = [future.result() for future in futures]
    seconds = time.perf_counter() - start
    leaked = [pid for pid in during if Path(f"/proc/{pid}").exists()]
    lost = sum(verdicts[place].reason in (Reason.TIMED_OUT, Reason.ERROR) for place in set(range(len(rows))) - set(attacked))
    fooled = sum(verdicts[place].correct for place in attacked)
    print(f"{len(verdicts)} verdicts in {seconds:.0f} s, {len(attacked)} hostile: {hung} hung, {lost} lost, {len(leaked)} leaked processes")
    print(f"lost: ordinary ones timed out or in error; hostile ones called correct: {fooled}")
    print(", ".join(f"{reason}: {count}" for reason, count in Counter(str(each.reason) for each in verdicts).most_common()))
    return 1 if hung or lost or leaked or fooled else 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "soak"))
    parser.add_argument("--rows", type=int, default=1024, help="rows of a speed batch")
    parser.add_argument("--repeats", type=int, default=3, help="times that each speed batch is measured")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--verdicts", type=int, default=10_000, help="verdicts of a soak")
    parser.add_argument("--hostile-share", type=float, default=0.01, help="share of hostile responses in a soak")
    parser.add_argument("--time-limit-s", type=float, default=2.0, help="seconds a verdict in a soak")
    options = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return {"speed": speed, "soak": soak}[options.what](options)


if __name__ == "__main__":
    command_line.run(main)
