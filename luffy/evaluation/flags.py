"""The flags of the evaluation scripts: those of the released script under their names, and a few more."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from luffy.command_line import Parser, positive
from luffy.errors import InputError
from luffy.evaluation.engine import Sampling
from luffy.evaluation.job import Evaluation
from luffy.evaluation.scoring import Scoring
from luffy.evaluation.templates import TEMPLATES

DEBUG_ROWS = 10


def boolean(text: str) -> bool:
    """Read ``True``/``False`` as the released script takes them (``--remove_system True``)."""
    value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value


def add_switch(parser: argparse._ActionsContainer, name: str, default: bool | None, text: str) -> None:
    """A flag that takes True or False, and means True when it is given alone."""
    parser.add_argument(name, type=boolean, nargs="?", const=True, default=default, metavar="True|False", help=text)


def add_scoring_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that become a :class:`~luffy.evaluation.scoring.Scoring`."""
    group = parser.add_argument_group("scoring")
    group.add_argument(
        "--thought_gate",
        choices=("auto", "on", "off"),
        default="auto",
        help="a response that does not close its thought (</think>) is wrong: always, never, or where its prompt opened "
        "one (default, as in the released script)",
    )
    add_switch(group, "--no_split_think", False, "the released script's name for --thought_gate off")
    add_switch(group, "--add_think_before_answer", False, "take every response to start inside a thought")
    add_switch(group, "--add_oat_evaluate", False, "an answer outside \\boxed{} is wrong; keep the other verdict beside it")
    add_switch(group, "--any_true", False, "with --add_oat_evaluate: right is what either verdict calls right")
    group.add_argument("--workers", type=positive, help="grading processes (default: one a core)")
    group.add_argument("--time_limit", type=float, default=10.0, help="seconds to grade one response (default 10)")


def read_scoring(arguments: argparse.Namespace) -> Scoring:
    """The scoring that the flags ask for."""
    return Scoring(
        thought_gate="off" if arguments.no_split_think else arguments.thought_gate,
        add_think_before_answer=arguments.add_think_before_answer,
        add_oat_evaluate=arguments.add_oat_evaluate,
        any_true=arguments.any_true,
        workers=arguments.workers,
        time_limit=arguments.time_limit,
    )


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where and how the model runs."""
    group = parser.add_argument_group("engine")
    group.add_argument("--max_model_len", type=positive, help="longest prompt and response together, in tokens")
    group.add_argument("--dtype", default="auto", choices=("auto", "bfloat16", "float16", "float32"))
    group.add_argument("--gpu_memory_utilization", type=float, default=0.85, help="share of a GPU's memory (0.85)")
    add_switch(group, "--enforce_eager", False, "run without CUDA graphs")
    group.add_argument("--tensor_parallel_size", type=positive, help="GPUs of one copy of the model (default: chosen)")


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that become a :class:`~luffy.evaluation.engine.Sampling`."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--temperature", type=float, default=0.6)
    group.add_argument("--top_p", type=float, default=1.0)
    group.add_argument("--max_tokens", type=positive, default=8192, help="longest response in tokens (8192)")
    group.add_argument("--seed", type=int, default=0)


def read_sampling(arguments: argparse.Namespace) -> Sampling:
    """The sampling that the flags ask for.

    Raises:
        InputError: for a temperature or top-p outside its range.
    """
    if not 0 <= arguments.temperature < math.inf:
        raise InputError(f"--temperature {arguments.temperature}: must be 0 (greedy) or more")
    if not 0 < arguments.top_p <= 1:
        raise InputError(f"--top_p {arguments.top_p}: must be above 0 and at most 1")
    return Sampling(temperature=arguments.temperature, top_p=arguments.top_p, max_tokens=arguments.max_tokens)


def generation_parser() -> argparse.ArgumentParser:
    """The command line of ``eval_scripts/generate_vllm.py``."""
    parser = Parser(description="Evaluate a model on a file of problems.")
    parser.add_argument("--model_path", required=True, help="a folder, or owner/name of the Hugging Face Hub")
    parser.add_argument("--input_file", required=True, help="parquet file of problems")
    parser.add_argument("--output_file", type=Path, help="JSONL file of scored samples")
    parser.add_argument("--template", default="own", help=f"{', '.join(TEMPLATES)}, or the path of a Jinja file")
    add_switch(parser, "--remove_system", True, "drop the data's system messages (default True)")
    parser.add_argument("--n", type=positive, default=1, help="samples of each row of the file (1)")
    parser.add_argument("--limit", type=positive, help="evaluate the first rows only")
    add_switch(parser, "--debug", False, f"the same as --limit {DEBUG_ROWS}")
    add_switch(parser, "--skip_scoring", False, "generate only; eval_scripts/score.py scores")
    parser.add_argument("--output_eval", type=Path, help="JSON file of the accuracies (default: beside the output)")
    add_switch(parser, "--overwrite", False, "start anew instead of going on from what the output holds")
    add_switch(parser, "--force_generate", None, "the released script's name for --overwrite")
    add_switch(parser, "--show-prompt", False, "print the first prompt and stop")
    add_sampling_flags(parser)
    add_scoring_flags(parser)
    add_engine_flags(parser)
    parser.add_argument("--data_parallel_size", type=positive, help="copies of the model (default: as many as fit)")
    return parser


def score_parser() -> argparse.ArgumentParser:
    """The command line of ``eval_scripts/score.py``."""
    parser = Parser(description="Score generated samples.")
    parser.add_argument("--input_file", type=Path, required=True, help="NAME.decoded.jsonl of generate_vllm.py")
    parser.add_argument("--output_file", type=Path, help="JSONL file of scored samples (default: NAME.jsonl)")
    parser.add_argument("--output_eval", type=Path, help="JSON file of the accuracies (default: beside the output)")
    add_switch(parser, "--overwrite", False, "score anew where the output was scored in another way")
    add_scoring_flags(parser)
    return parser


def report_parser() -> argparse.ArgumentParser:
    """The command line of ``eval_scripts/report.py``."""
    parser = Parser(description="Tables and figures from files of scored samples.")
    parser.add_argument("results", nargs="*", type=Path, metavar="RESULT", help="JSONL files of scored samples")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="a name for each RESULT (default: its file's name)")
    parser.add_argument("--output_dir", type=Path, default=Path("report"), help="where files go (default: report)")
    add_switch(parser, "--published", False, "add the paper's rows to the tables")
    add_switch(parser, "--figures", False, "draw response lengths, pass@k over k and over temperature")
    parser.add_argument("--pass_k", type=positive, default=8, help="the k of pass@k over temperature (8, as the paper)")
    parser.add_argument("--metrics", nargs="+", type=Path, metavar="FILE", help="JSON-lines metrics of training runs")
    parser.add_argument("--metrics_names", nargs="+", metavar="NAME", help="a name for each of them")
    add_switch(parser, "--shaping", False, "draw loss and gradient weight against p for every shaping function")
    parser.add_argument("--gamma", nargs="+", type=float, default=[0.1], help="γ of p / (p + γ) (0.1)")
    return parser


def infer_parser() -> argparse.ArgumentParser:
    """The command line of ``eval_scripts/infer.py``."""
    parser = Parser(description="Ask a model a question and print its answer as it is written.")
    parser.add_argument("question")
    parser.add_argument("--model_path", required=True, help="a folder, or owner/name of the Hugging Face Hub")
    parser.add_argument("--template", default="own", help=f"{', '.join(TEMPLATES)}, or the path of a Jinja file")
    parser.add_argument("--system", help="a system message (default: the chat template's own)")
    add_sampling_flags(parser)
    add_engine_flags(parser)
    return parser


def read_evaluation(arguments: argparse.Namespace) -> Evaluation:
    """The evaluation that the flags of :func:`generation_parser` ask for.

    Raises:
        InputError: where a flag is missing or out of range.
    """
    if arguments.output_file is None and not arguments.show_prompt:
        raise InputError("--output_file is missing: a JSONL file for the scored samples")
    return Evaluation(
        model_path=arguments.model_path,
        input_file=arguments.input_file,
        output_file=arguments.output_file or Path("unused"),
        template=arguments.template,
        remove_system=arguments.remove_system,
        sampling=read_sampling(arguments),
        n=arguments.n,
        seed=arguments.seed,
        limit=arguments.limit or (DEBUG_ROWS if arguments.debug else None),
        skip_scoring=arguments.skip_scoring,
        output_eval=arguments.output_eval,
        overwrite=arguments.overwrite or bool(arguments.force_generate),
        scoring=read_scoring(arguments),
        tensor_parallel_size=arguments.tensor_parallel_size,
        data_parallel_size=arguments.data_parallel_size,
        max_model_len=arguments.max_model_len,
        dtype=arguments.dtype,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        enforce_eager=arguments.enforce_eager,
    )
