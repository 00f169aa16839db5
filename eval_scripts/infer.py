"""Ask a model a question and print its answer as it is written (``--help`` lists the flags)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # outside the environment, too, luffy says what to do
from luffy import command_line

command_line.explain_missing_packages()
from luffy.evaluation.flags import infer_parser, read_sampling
from luffy.evaluation.infer import answer


def main() -> None:
    """Run the command line."""
    arguments = infer_parser().parse_args()
    pieces = answer(
        arguments.question,
        model_path=arguments.model_path,
        sampling=read_sampling(arguments),
        template=arguments.template,
        system=arguments.system,
        seed=arguments.seed,
        max_model_len=arguments.max_model_len,
        dtype=arguments.dtype,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        enforce_eager=arguments.enforce_eager,
        tensor_parallel_size=arguments.tensor_parallel_size,
    )
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    command_line.run(main)
