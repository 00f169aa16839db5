"""Rows per second of making a training set (tokenise, verify, write), its peak memory, and how its cost grows.

Runs on synthetic rows: random words, one trace a prompt, a byte-pair tokenizer trained on them, and answers of which
one in ten needs the algebra system (the others equal the gold answer as text). Each size runs in its own process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from luffy.command_line import run
from luffy.data.judge import Filter, FilterOptions, verifier
from luffy.data.lengths import TokenCounter
from luffy.data.merge import MergeOptions
from luffy.data.overlap import EvaluationPrompts
from luffy.data.prepare import write_training_set
from luffy.data.source import SourceSpec, open_source
from luffy.data.system_prompt import KEEP, system_rewriter

EXAMPLES = """examples:
  python benchmarks/data.py                                     two minutes: 1000, 4000 and 16000 rows of 2000 tokens
  python benchmarks/data.py --rows 46000 --trace-tokens 8000    the size of the paper's set
"""
WORDS = 4000


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000, 16000], help="sizes; default: %(default)s")
    parser.add_argument("--trace-tokens", type=int, default=2000, help="tokens a trace, about; default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="verifier processes; default: %(default)s")
    parser.add_argument("--output", type=Path, help="also write the numbers to this JSON file")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)  # what the process of one size does
    args = parser.parse_args()
    if args.prepare:
        print(json.dumps(prepare_measured(args.prepare, args.workers)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(rows, args.trace_tokens, args.workers, Path(folder)) for rows in args.rows]
    columns = list(results[0])
    print(*(f"{column:>18}" for column in columns))
    for result in results:
        print(*(f"{result[column]:>18.6g}" for column in columns))
    if len(results) > 1:
        cost = [result["cpu_ms_a_row"] for result in results]
        print(f"processor time a row, last set / first set: {cost[-1] / cost[0]:.2f} (linear: at most about 1)")
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measure(rows: int, trace_tokens: int, workers: int, folder: Path) -> dict[str, float]:
    """Make a source, and prepare it in a new process whose memory, that of its workers included, is watched."""
    source = folder / f"{rows}.parquet"
    write_source(source, rows, trace_tokens)
    command = [sys.executable, __file__, "--prepare", str(source), "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = watch_memory(process)
        printed = process.stdout.read()
    source.unlink()
    return {"rows": rows, **json.loads(printed), "tree_peak_mib": peak / 2**20}


def write_source(path: Path, rows: int, trace_tokens: int) -> None:
    """Rows in the layout of question/solution/answer, written in parts."""
    generator = np.random.default_rng(0)
    words = vocabulary(generator)
    schema = pa.schema([("question", pa.string()), ("solution", pa.string()), ("answer", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, 200):
            part = [row(number, words, trace_tokens, generator) for number in range(start, min(rows, start + 200))]
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


def row(number: int, words: np.ndarray, trace_tokens: int, generator: np.random.Generator) -> dict[str, str]:
    """One problem; a word is about one token and a half, its space included."""
    thought = " ".join(words[generator.integers(0, WORDS, size=round(trace_tokens / 1.7))])
    gold, given = (f"\\frac{{{number}}}{{4}}", str(number / 4)) if number % 10 == 0 else (str(number), str(number))
    question = f"Problem {number}: " + " ".join(words[generator.integers(0, WORDS, size=60)])
    return {"question": question, "solution": f"<think>\n{thought}\n</think>\n\\boxed{{{given}}}", "answer": gold}


def vocabulary(generator: np.random.Generator) -> np.ndarray:
    """Random words of two to nine letters."""
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    return np.array(["".join(generator.choice(letters, size=size)) for size in generator.integers(2, 10, size=WORDS)])


def train_tokenizer(source: Path) -> object:
    """A byte-pair tokenizer of the source's own words, with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from miniature.tokenizer import CHAT_TEMPLATE

    texts = [solution[:20_000] for solution in pq.ParquetFile(source).read_row_group(0, ["solution"])["solution"].to_pylist()]
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=["<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE)


def prepare_measured(source: Path, workers: int) -> dict[str, float]:
    """Prepare a source, and give rows per second of each part."""
    seconds: Counter[str] = Counter()

    def timed(name: str, function: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            start = time.perf_counter()
            result = function(*arguments, **named)
            seconds[name] += time.perf_counter() - start
            return result

        return call

    counter = TokenCounter(train_tokenizer(source))
    counter.count = timed("tokenise", counter.count)
    opened = open_source(SourceSpec(location=str(source)), system=system_rewriter(KEEP))
    output = source.with_suffix(".out.parquet")
    start, processor = time.perf_counter(), processor_seconds()
    with verifier(workers=workers, thought_gate=True) as verify:
        verify.grader.grade_batch = timed("verify", verify.grader.grade_batch)
        options = FilterOptions(max_response_length=1 << 20)
        row_filter = Filter(options, counter=counter, verify=verify, evaluation=EvaluationPrompts())
        row_filter.apply = timed("filter", row_filter.apply)
        report = write_training_set([opened], output, row_filter, MergeOptions(), settings={})
    total = time.perf_counter() - start
    output.unlink()
    rows = report.rows_in
    return {
        "tokens_a_trace": report.trace_lengths.mean,
        "tokenise_rows_s": rows / seconds["tokenise"],
        "verify_rows_s": rows / seconds["verify"],
        "write_rows_s": rows / (total - seconds["filter"]),
        "rows_s": rows / total,
        "seconds": total,
        "cpu_ms_a_row": 1000 * (processor_seconds() - processor) / rows,
        "main_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def processor_seconds() -> float:
    """Processor time of this process and its ended children, which other programs on the machine do not change."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def watch_memory(process: subprocess.Popen) -> int:
    """Highest sum of the resident memory of a process and its children, in bytes, sampled until it ends."""
    peak, tree = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, sum(member.memory_info().rss for member in (tree, *tree.children(recursive=True))))
        except psutil.NoSuchProcess:  # a worker ended in between
            continue
        time.sleep(0.1)
    return peak


if __name__ == "__main__":
    run(main)
