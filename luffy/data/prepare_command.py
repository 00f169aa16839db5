"""The options of the commands that make training sets, and how they become a run."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luffy.command_line import Parser, positive
from luffy.data.filtering import Filter, FilterOptions
from luffy.data.layout import ColumnNames
from luffy.data.lengths import TokenCounter, load_tokenizer
from luffy.data.merge import MergeOptions
from luffy.data.overlap import THRESHOLD, EvaluationPrompts, read_evaluation_prompts
from luffy.data.prepare import PrepareOptions, prepare
from luffy.data.report import format_report, report_folder
from luffy.data.source import Source, SourceSpec, open_source
from luffy.data.system_prompt import KEEP, system_rewriter
from luffy.data.text_keys import digest
from luffy.data.verification import verifier
from luffy.errors import InputError
from luffy.traces import UNKNOWN_SOURCE

logger = logging.getLogger(__name__)


def train_parser(description: str, examples: str, *, source: list[str], output: Path) -> argparse.ArgumentParser:
    """The parser of ``prepare_train.py``, with its defaults."""
    parser = Parser(description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_source_arguments(parser, source=source, output=output)
    _add_trace_arguments(parser)
    _add_verifier_arguments(parser)
    return parser


def complement_parser(description: str, examples: str, *, source: list[str], output: Path, exclude: Path) -> argparse.ArgumentParser:
    """The parser of ``prepare_train_sft_rl.py``, with its defaults; its set has no traces, so no options of them."""
    parser = Parser(description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--exclude",
        type=Path,
        default=exclude,
        help="the training set whose prompts are left out; default: %(default)s",
    )
    _add_source_arguments(parser, source=source, output=output)
    _add_verifier_arguments(parser)
    return parser


def _add_source_arguments(parser: argparse.ArgumentParser, *, source: list[str], output: Path) -> None:
    add = parser.add_argument
    add(
        "--source",
        "--dataset_name",
        nargs="+",
        default=source,
        help="hub names, folders or files (parquet, JSONL, JSON, CSV, Arrow); default: %(default)s",
    )
    add("--output", "--output_file", type=Path, default=output, help="the parquet file to write; default: %(default)s")
    add("--config", help="configuration of a hub data set or a clone of one; default: its own default")
    add("--split", default="train", help="split of a hub data set or a folder; default: %(default)s")
    add(
        "--prompt-column",
        nargs="+",
        help="column of the problem or chat, one for all sources or one each; default: found by name",
    )
    add(
        "--answer-column",
        nargs="+",
        help="column of the gold answer (a boxed or #### answer is taken out of a solution)",
    )
    add(
        "--system-prompt",
        default=KEEP,
        help="'keep' (default; bare questions get the project's), 'none', a text, or a text or parquet file with it",
    )
    add("--tokenizer", help="folder or hub name; without it lengths are not checked")
    add(
        "--max-prompt-length",
        type=positive,
        default=1024,
        help="tokens of the rendered prompt; default: %(default)s (the paper's)",
    )
    add(
        "--eval-files",
        nargs="*",
        type=Path,
        help="evaluation sets that must not be trained on; default: data/valid*.parquet beside the output",
    )
    add(
        "--on-overlap",
        choices=("error", "drop", "keep"),
        help="for prompts that are in an evaluation set; default: error (with --no-filter: keep)",
    )
    add(
        "--overlap-threshold",
        type=_share,
        default=THRESHOLD,
        help="share of equal characters from which a problem with the same numbers is in an evaluation set; 1 asks for "
        "the whole problem, within other sentences or not; default: %(default)s",
    )
    add("--drop-malformed", action="store_true", help="leave out rows with values of a wrong type, instead of stopping")
    add("--max-samples", type=positive, help="write at most this many prompts")
    add("--shuffle", action="store_true", help="write prompts in random order")
    add("--seed", type=int, default=0, help="of the order; default: %(default)s")
    add("--dry-run", action="store_true", help="write the report alone")
    add("--restart", action="store_true", help="throw away the finished parts of a stopped run with other settings")


def _add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--trace-column", nargs="+", help="column of the traces: a text, a list of them, or messages")
    add("--teacher", nargs="+", default=[UNKNOWN_SOURCE], help="who wrote the traces, one for all sources or one each")
    add(
        "--max-response-length",
        type=positive,
        default=8192,
        help="tokens of (trace + EOS); default: %(default)s (the paper's)",
    )
    add("--max-traces", type=positive, help="keep at most this many traces a prompt")
    add("--no-think-tags", action="store_true", help="accept traces without <think> and </think>")
    add(
        "--no-filter",
        action="store_true",
        help="write every row and trace as it is, in a training file's columns: nothing is checked, left out or merged",
    )


def _add_verifier_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--no-verify", action="store_true", help="do not ask the verifier about traces and gold answers")
    add("--keep-unreadable", action="store_true", help="keep rows whose gold answer the verifier cannot read")
    add(
        "--num-workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="verifier processes; default: the cores (%(default)s)",
    )
    add("--time-limit", type=float, default=5.0, help="seconds a verdict; default: %(default)s")


def prepare_from_arguments(arguments: argparse.Namespace, *, traces: bool = True, excluded: frozenset[bytes] = frozenset()) -> str:
    """Run a command.

    Args:
        arguments: of :func:`train_parser`, or of :func:`complement_parser` where there are no traces.
        traces: whether rows carry traces.
        excluded: keys of prompts that are left out.

    Returns:
        The report as text, and where everything was written.
    """
    sources = _sources(arguments, traces)
    tokenizer = load_tokenizer(arguments.tokenizer) if arguments.tokenizer else None
    evaluation = _evaluation(arguments)
    filter_options = FilterOptions(
        max_prompt_length=arguments.max_prompt_length,
        max_response_length=arguments.max_response_length if traces else 0,
        think_tags=traces and not arguments.no_think_tags,
        traces=traces,
        keep_unreadable=arguments.keep_unreadable,
        keep_all=getattr(arguments, "no_filter", False),
    )
    if traces:
        logger.info(
            "every row is written as it is (--no-filter)"
            if filter_options.keep_all
            else "rows go through the filter, those of the published set as well; --no-filter writes them as they are"
        )
    with contextlib.ExitStack() as stack:
        gate = traces and not arguments.no_think_tags
        pool = verifier(workers=arguments.num_workers, time_limit_s=arguments.time_limit, thought_gate=gate)
        verify = None if arguments.no_verify or filter_options.keep_all else stack.enter_context(pool)
        counter = TokenCounter(tokenizer) if tokenizer else None
        row_filter = Filter(filter_options, counter=counter, verify=verify, evaluation=evaluation, excluded=excluded)
        options = _options(arguments, filter_options, settings=_settings(arguments, traces, evaluation, excluded))
        report = prepare(sources, arguments.output, row_filter, options)
    written = "dry run, no data written" if arguments.dry_run else f"data: {arguments.output}"
    return f"{format_report(report)}\n{written}\nreport: {report_folder(arguments.output)}"


def _sources(arguments: argparse.Namespace, traces: bool) -> list[Source]:
    count = len(arguments.source)
    prompts = _one_each(arguments.prompt_column, count, "--prompt-column")
    answers = _one_each(arguments.answer_column, count, "--answer-column")
    named = _one_each(arguments.trace_column if traces else None, count, "--trace-column")
    teachers = _one_each(arguments.teacher if traces else UNKNOWN_SOURCE, count, "--teacher")
    system = system_rewriter(arguments.system_prompt)
    return [
        open_source(
            SourceSpec(
                location=location,
                columns=ColumnNames(prompt=prompt, trace=trace, answer=answer),
                teacher=teacher,
                config=arguments.config,
                split=arguments.split,
            ),
            system=system,
            traces=traces,
        )
        for location, prompt, trace, answer, teacher in zip(arguments.source, prompts, named, answers, teachers, strict=True)
    ]


def _one_each(values: Sequence[str] | str | None, count: int, flag: str) -> list[Any]:
    if values is None or isinstance(values, str):
        return [values] * count
    if len(values) not in (1, count):
        raise InputError(f"{flag} was given {len(values)} values for {count} sources; give one for all or one each")
    return list(values) * count if len(values) == 1 else list(values)


def _evaluation(arguments: argparse.Namespace) -> EvaluationPrompts:
    files = arguments.eval_files
    if files is None:
        files = sorted(arguments.output.parent.glob("valid*.parquet"))
    if not files:
        logger.warning("overlap with evaluation sets is not checked: there are no --eval-files (data/prepare_eval.py makes one)")
    return read_evaluation_prompts(files, arguments.overlap_threshold)


def _options(arguments: argparse.Namespace, filter_options: FilterOptions, *, settings: dict[str, Any]) -> PrepareOptions:
    return PrepareOptions(
        filter=filter_options,
        merge=MergeOptions(
            on_overlap=arguments.on_overlap or ("keep" if filter_options.keep_all else "error"),
            max_traces=getattr(arguments, "max_traces", None),
            max_samples=arguments.max_samples,
            shuffle=arguments.shuffle,
            seed=arguments.seed,
        ),
        drop_malformed=arguments.drop_malformed,
        dry_run=arguments.dry_run,
        restart=arguments.restart,
        settings=settings,
    )


def _settings(arguments: argparse.Namespace, traces: bool, evaluation: EvaluationPrompts, excluded: frozenset[bytes]) -> dict[str, Any]:
    return {
        "tokenizer": arguments.tokenizer,
        "system_prompt": arguments.system_prompt,
        "verify": not arguments.no_verify,
        "time_limit": arguments.time_limit,
        "evaluation": evaluation.fingerprint(),
        "excluded": digest("".join(sorted(key.hex() for key in excluded))).hex(),
    }


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return number
