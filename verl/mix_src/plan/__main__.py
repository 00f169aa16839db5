"""Show what a config needs; refuse what cannot fit, with the nearest setting that does."""

from __future__ import annotations

import sys

from hydra import compose, initialize_config_module

from luffy import command_line
from luffy.errors import InputError
from verl.mix_src.plan.fitting import refusal
from verl.mix_src.plan.reading import Command, Plan, read_plan
from verl.mix_src.plan.screen import rows_of, table
from verl.mix_src.run.preflight.overrides import check_command_line


def planned(command: Command) -> Plan:
    """The plan of a command line.

    Raises:
        InputError: where the overrides or the model are wrong.
    """
    check_command_line(command.overrides)
    with initialize_config_module("verl.mix_src.config", version_base=None):
        return read_plan(compose("mix_ppo", overrides=list(command.overrides)), command)


def main() -> int | None:
    """Show the plan; exit code 2 where it cannot fit."""
    command = command_line.parse(Command, description=__doc__, prog="python -m verl.mix_src.plan")
    plan = planned(command)
    for name, value in rows_of(plan, command):
        sys.stdout.write(f"{name:<17}{value}\n")
    sys.stdout.write(table(plan) + "\n")
    sys.stdout.flush()
    if problem := refusal(plan):
        raise InputError(problem)
    return None


if __name__ == "__main__":
    command_line.run(main)
