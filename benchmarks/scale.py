#!/usr/bin/env python3
"""How the cost of an update and of a rollout grows with rows, length and size: exponents fitted to measurements, on a CPU.

usage: python benchmarks/scale.py [--part update|ranks|rollout] [--repeats 3]

Each sweep doubles one quantity and leaves the others; the exponent is the slope of log(seconds) over log(quantity), least squares. The
update is that of veRL's FSDP worker with this project's loss, the rollout vLLM's on random weights without an end of sequence. Seconds are
those of the process on one thread, the least of some repeats, so that a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from update import TINY, Actor, Setting, process_group, write_model

BASE = Setting(shape=TINY, rows=8, prompt=32, response=224, micro_rows=4)
UPDATES: Mapping[str, Sequence[tuple[float, Setting]]] = {
    "rows (prompts x n), micro-batches alike": [(rows, replace(BASE, rows=rows)) for rows in (4, 8, 16, 32)],
    "rows of a micro-batch, 16 rows": [(size, replace(BASE, rows=16, micro_rows=size)) for size in (1, 2, 4, 8)],
    "tokens of a row": [(length + 32, replace(BASE, rows=4, response=length)) for length in (224, 480, 992, 1504)],
    "parameters, by width": [
        (
            replace(TINY, hidden=64 * heads, heads=heads, intermediate=170 * heads).parameters,
            replace(BASE, shape=replace(TINY, hidden=64 * heads, heads=heads, intermediate=170 * heads)),
        )
        for heads in (3, 6, 9)
    ],
}
RANKS = (1, 2, 4)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of log y over log x."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def least(work: Callable[[], object], repeats: int) -> float:
    """Fewest processor seconds of this process."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def show(name: str, points: Sequence[tuple[float, float]]) -> None:
    """A line of the table."""
    measured = ", ".join(f"{x:.3g}: {y:.2f}" for x, y in points)
    print(f"| {name} | {slope(points):.2f} | {measured} |", flush=True)


def updates(repeats: int) -> None:
    """The sweeps of an update."""
    with process_group(), tempfile.TemporaryDirectory() as folder:
        for name, sweep in UPDATES.items():
            points = []
            for quantity, setting in sweep:
                actor = Actor(setting, write_model(setting.shape, Path(folder)))
                actor.update("luffy")
                points.append((quantity, least(lambda actor=actor: actor.update("luffy"), repeats)))
            show(f"update: {name}", points)


def ranks(repeats: int) -> None:
    """The processor seconds of an update, all ranks together, by their number."""
    points = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(BASE.shape, Path(folder))
        for number in RANKS:
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            arguments = [(rank, number, port, folder, repeats) for rank in range(number)]
            with multiprocessing.get_context("spawn").Pool(number) as pool:
                points.append((number, sum(pool.starmap(rank_seconds, arguments, chunksize=1))))
    show("update: ranks, 16 rows in all, the processor seconds of all", points)


def rank_seconds(rank: int, number: int, port: int, folder: str, repeats: int) -> float:
    """Fewest processor seconds of one rank of an update; in a process of its own."""
    torch.set_num_threads(1)
    with process_group(rank, number, port):
        actor = Actor(replace(BASE, rows=16, micro_rows=4), Path(folder), number)
        actor.update("luffy")
        return least(lambda: actor.update("luffy"), repeats)


def rollouts(repeats: int) -> None:
    """The sweeps of a rollout."""
    from luffy import vllm_cpu

    vllm_cpu.prepare()
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        write_model(TINY, Path(folder))
        engine = LLM(folder, dtype="float32", enforce_eager=True, max_num_seqs=256, max_model_len=2048, enable_prefix_caching=True)

        def generate(rows: int, length: int, same: int = 1) -> Callable[[], object]:
            sampling = SamplingParams(max_tokens=length, ignore_eos=True, temperature=1.0, n=same, detokenize=False)
            prompts = [{"prompt_token_ids": [3 + (row * 7 + place) % 200 for place in range(32)]} for row in range(rows // same)]
            return lambda: engine.generate(prompts, sampling, use_tqdm=False)

        sweeps: Mapping[str, Sequence[tuple[float, Callable[[], object]]]] = {
            "rows": [(rows, generate(rows, 32)) for rows in (16, 32, 64, 128)],
            "n of 64 rows": [(same, generate(64, 32, same)) for same in (1, 2, 4, 8)],
            "demonstrations k of n = 8, 16 prompts (rows 8 - k)": [(8 - k, generate(16 * (8 - k), 32)) for k in (0, 2, 4, 6)],
            "tokens of a response, 16 rows": [(length, generate(16, length)) for length in (32, 64, 128, 256)],
        }
        for name, sweep in sweeps.items():
            points = []
            for quantity, work in sweep:
                work()
                points.append((quantity, least(work, repeats)))
            show(f"rollout: {name}", points)
    sys.stdout.flush()
    os._exit(0)  # vLLM's threads outlive it


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("update", "ranks", "rollout"), default="update")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| what grows | exponent | seconds |\n|---|---|---|")
    {"update": updates, "ranks": ranks, "rollout": rollouts}[arguments.part](arguments.repeats)


if __name__ == "__main__":
    main()
