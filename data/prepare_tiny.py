#!/usr/bin/env python
"""Build the embedded example: a tiny base model, training and held-out problems (about a minute on one CPU core)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Parser, explain_missing_packages, run

explain_missing_packages()
from luffy.errors import InputError
from luffy.tiny.dataset import DataRecipe, Teacher
from luffy.tiny.example import build
from luffy.tiny.noise import CarryNoise
from luffy.tiny.recipe import BaseRecipe


def teacher(text: str) -> Teacher:
    """Read ``NAME=SHARE``."""
    name, _, share = text.partition("=")
    try:
        return Teacher(name=name, semicolon_share=float(share))
    except ValueError as error:
        raise InputError(f"--teachers {text}: give NAME=SHARE with a share from 0 to 1, such as expert=0.3") from error


def main() -> None:
    """Build what is missing and say where it is."""
    data, noise = DataRecipe(), CarryNoise()
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output_dir", default="outputs/tiny", help="gets model/ and the parquet files")
    parser.add_argument("--seed", type=int, default=0, help="of the model, the problems and the traces")
    parser.add_argument("--only", choices=("data", "model"), help="build one of the two (default: both)")
    parser.add_argument("--n_prompts", type=int, default=data.n_prompts, help="training prompts")
    parser.add_argument("--n_traces", type=int, help="how many of the prompts have traces (default: all)")
    parser.add_argument("--wrong_share", type=float, default=data.wrong_share, help="share of traces with a mistake")
    parser.add_argument("--teachers", nargs="+", default=["expert=0.3"], metavar="NAME=SHARE",
                        help="who write a trace for each prompt, and their share of ';' as separator")  # fmt: skip
    parser.add_argument("--n_heldout", type=int, default=data.n_heldout, help="held-out problems, of each size")
    parser.add_argument("--base_right", type=float, default=noise.right, help="the base's skill: share of right links")
    parser.add_argument("--base_zero", type=float, default=noise.zero, help="share of links that start with 0 instead")
    args = parser.parse_args()
    example = build(
        args.output_dir,
        args.seed,
        data=DataRecipe(
            n_prompts=args.n_prompts,
            n_traces=args.n_traces,
            wrong_share=args.wrong_share,
            teachers=tuple(teacher(text) for text in args.teachers),
            n_heldout=args.n_heldout,
        ),
        base=BaseRecipe(noise=CarryNoise(right=args.base_right, zero=args.base_zero)),
        only=args.only,
    )
    for name, path in vars(example).items():
        print(f"{name}: {path}")


if __name__ == "__main__":
    run(main)
