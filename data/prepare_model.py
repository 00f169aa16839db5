"""Prepare a model for long responses: a new folder with another RoPE base, a longer window, a thought-opening prompt.

python data/prepare_model.py --source Qwen/Qwen2.5-Math-7B --output models/Qwen2.5-Math-7B-16k
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy.command_line import Parser, explain_missing_packages, run

explain_missing_packages()
from luffy.data.system_prompt import NONE, first_system_message, message_text
from luffy.long_context import LongContext, fetch_model, prepare_model

TRAINING_SET = Path(__file__).parent / "openr1.parquet"  # of prepare_train.py


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="model folder, or owner/name of the Hugging Face Hub; never changed")
    parser.add_argument("--output", type=Path, required=True, help="the new model folder")
    parser.add_argument("--rope_theta", type=float, default=40_000.0, help="base of the rotary embedding (default: %(default)s)")
    parser.add_argument("--max_positions", type=int, default=16_384, help="longest sequence in tokens (default: %(default)s)")
    parser.add_argument("--no_thought", action="store_true", help="leave the chat template as it is")
    parser.add_argument(
        "--system-prompt",
        help="message that the chat template gives a prompt without one: 'none', a text or a file; default: the training "
        f"set's ({TRAINING_SET.name})",
    )
    parser.add_argument("--weights", choices=("copy", "link"), default="copy", help="copy the weights, or make hard links")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder")
    arguments = parser.parse_args()
    source = fetch_model(arguments.source)
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
