"""Interpolations of config/*.yaml that follow other keys; registered in every process that imports veRL."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

AUTO = "auto"  # data.val_files: hold a part of data.train_files out


def add(*numbers: int) -> int:
    """``${luffy.add:a,b}``: their sum."""
    return sum(numbers)


def held_out_of(train_files: Any, *pair: str) -> str:
    """``${luffy.held_out:${data.train_files},KNOWN...,FILE}``: FILE where the training file is one of KNOWN, else ``auto``.

    A profile's held-out problems belong to its own training files; those of another file are drawn from it.
    """
    *known, file = pair
    return file if train_files in known else AUTO


def half(number: int) -> int:
    """``${luffy.half:a}``: half of an even number, else the number."""
    return number if number % 2 else number // 2


def micro_batch(prompts: int, group: int, ranks: int, tokens: int, row_tokens: int) -> int:
    """``${luffy.micro_batch:...}``: the most rows of a micro-batch that hold so many tokens together and divide the rows of a rank."""
    rows = max(1, prompts * group // max(1, ranks))
    most = max(1, min(rows, tokens // max(1, row_tokens)))
    return max(size for size in range(1, most + 1) if rows % size == 0)


def register() -> None:
    """Make the resolvers known to OmegaConf in this process."""
    resolvers = {"luffy.add": add, "luffy.half": half, "luffy.held_out": held_out_of, "luffy.micro_batch": micro_batch}
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
