#!/usr/bin/env python3
"""Every benchmark of this folder in its short form, one after another, into ``docs/performance.md`` (``make bench``).

usage: python benchmarks/bench.py [--parts step objective ...]

A part's output takes the place of what stands between its two marks on the page.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
TINY = HERE.parent / "outputs" / "tiny"
PARTS = {
    "objective": ["objective.py", "--rounds", "31"],
    "rewards": ["rewards.py", "speed", "--rows", "512", "--repeats", "2"],
    "data": ["data.py", "--rows", "1000", "4000"],
    "scoring": ["evaluation.py", "scoring", "--samples", "12000"],
    "generation": ["evaluation.py", "generation", "--model_path", str(TINY / "model"), "--input_file", str(TINY / "heldout.parquet"),
                   "--n", "8"],
    "step": ["step.py"],
}  # fmt: skip


def measured(part: str) -> str:
    """A part's output, with its command and its duration."""
    script, *options = PARTS[part]
    start = time.monotonic()
    done = subprocess.run([sys.executable, HERE / script, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks/{script} failed with {done.returncode}")
    shown = " ".join(options).replace(f"{HERE.parent}/", "")
    return f"$ python benchmarks/{script} {shown}".rstrip() + f"   # {time.monotonic() - start:.0f} s\n{done.stdout.rstrip()}"


def written(page: str, part: str, output: str) -> str:
    """The page with a part's new output.

    Raises:
        SystemExit: the page has no marks of that part.
    """
    block = f"<!-- {part} -->\n```\n{output}\n```\n<!-- /{part} -->"
    new, number = re.subn(rf"<!-- {part} -->\n.*?<!-- /{part} -->", lambda _: block, page, flags=re.DOTALL)
    if number != 1:
        sys.exit(f"docs/performance.md has {number} places for {part}; it must have one, from <!-- {part} --> to <!-- /{part} -->")
    return new


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS), help="those alone; default: all")
    for part in tqdm(parser.parse_args().parts, desc="benchmarks", unit="part"):
        output = measured(part)
        print(f"\n{output}\n", flush=True)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(written(page, part, output), encoding="utf-8")


if __name__ == "__main__":
    main()
