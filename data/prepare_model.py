"""Prepare a model for long responses: a new folder with another RoPE base, a longer window, a thought-opening prompt.

python data/prepare_model.py --source Qwen/Qwen2.5-Math-7B --output models/Qwen2.5-Math-7B-16k
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import explain_missing_packages, option, parse, run

explain_missing_packages()
from luffy.data.system_prompt import NONE, first_system_message, message_text
from luffy.long_context import LongContext, prepare_model, source_folder

TRAINING_SET = Path(__file__).parent / "openr1.parquet"  # of prepare_train.py


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """What is made of which model: the flags."""

    source: str = option(help="model folder, or owner/name of the Hugging Face Hub; never changed")
    output: Path = option(help="the new model folder")
    rope_theta: float = option(40_000.0, "base of the rotary embedding")
    max_positions: int = option(16_384, "longest sequence in tokens")
    no_thought: bool = option(False, "leave the chat template as it is")
    system_prompt: str | None = option(
        None,
        "message that the chat template gives a prompt without one: 'none', a text or a file; default: the training "
        f"set's ({TRAINING_SET.name})",
        aliases=("--system-prompt",),
    )
    weights: Literal["copy", "link"] = option("copy", "copy the weights, or make hard links")
    overwrite: bool = option(False, "replace the output folder")


def main() -> None:
    """Run the command."""
    arguments = parse(NewModel, description=__doc__)
    source = source_folder(arguments.source)
    change = LongContext(
        rope_theta=arguments.rope_theta,
        max_positions=arguments.max_positions,
        open_thought=not arguments.no_thought,
        system=_system_message(arguments.system_prompt),
        weights=arguments.weights,
    )
    prepare_model(source, arguments.output, change, overwrite=arguments.overwrite)
    print(f"{arguments.output}: RoPE base {change.rope_theta:g}, {change.max_positions} positions")


def _system_message(choice: str | None) -> str | None:
    if choice is not None:
        return None if choice == NONE else message_text(choice)
    if TRAINING_SET.is_file():
        return first_system_message(TRAINING_SET)
    logging.warning("%s is not there: the model's chat template carries no system message of it", TRAINING_SET)
    return None


if __name__ == "__main__":
    run(main)
