#!/usr/bin/env python
"""Build the embedded example: a tiny base model, training and held-out problems (about a minute on one CPU core)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, option, parse, run

explain_missing_packages()
from luffy.errors import InputError
from miniature.dataset import DataRecipe, Teacher
from miniature.example import build
from miniature.recipe import BaseRecipe, CarryNoise


def teacher(text: str) -> Teacher:
    """Read ``NAME=SHARE``."""
    name, _, share = text.partition("=")
    try:
        return Teacher(name=name, semicolon_share=float(share))
    except ValueError as error:
        raise InputError(f"--teachers {text}: give NAME=SHARE with a share from 0 to 1, such as expert=0.3") from error


@dataclass(frozen=True, kw_only=True)
class EmbeddedExample:
    """What the example holds: the flags."""

    output_dir: str = option("outputs/tiny", "gets model/ and the parquet files")
    seed: int = option(0, "of the model, the problems and the traces")
    only: Literal["data", "model"] | None = option(None, "build one of the two; default: both")
    n_prompts: int = option(DataRecipe.n_prompts, "training prompts")
    n_traces: int | None = option(None, "how many of the prompts have traces; default: all")
    wrong_share: float = option(DataRecipe.wrong_share, "share of traces with a mistake")
    teachers: tuple[str, ...] = option(
        ("expert=0.3",), "who write a trace for each prompt, and their share of ';' as separator", metavar="NAME=SHARE"
    )
    n_heldout: int = option(DataRecipe.n_heldout, "held-out problems, of each size")
    base_right: float = option(CarryNoise.right, "the base's skill: share of right links")
    base_zero: float = option(CarryNoise.zero, "share of links that start with 0 instead")


def main() -> None:
    """Build what is missing and say where it is."""
    args = parse(EmbeddedExample, description=__doc__)
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
