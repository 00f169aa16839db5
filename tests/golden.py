"""What a user sees of this checkout, as text files in a folder, beside those of ``tests/golden``: a refactoring leaves them as they are.

``make golden`` runs the commands of ``data/`` and ``eval_scripts/`` on the tests' sources and judges the cases of the verifier:
prepared files, reports, verdicts, flags, error lines. ``--metrics`` trains three steps of each experiment as well, on one rank and on
two (Ray and vLLM, about half an hour); those metrics are equal to the last digit on one machine alone.

    python tests/golden.py FOLDER [--metrics]; diff -r tests/golden FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SCRIPTS = ("data", "eval_scripts")
TRAINING = "prepare_train.py --num-workers 2"
TIMES_AND_MEMORY = ("timing", "perf/", "memory", "time")
EXPERIMENTS = ("luffy", "mixed", "on_policy", "rl_sft_loss")
SFT = "sft"
PARTS = ("prepared", "reports", "flags", "errors", "verdicts")

PREPARED = (  # command of data/, file it writes
    (TRAINING, "data/openr1.parquet"),
    ("prepare_train_sft_rl.py --num-workers 2", "data/openr1_complement.parquet"),
    ("prepare_sft.py", "data/openr1_sft.parquet"),
    ("prepare_eval.py", "data/valid.parquet data/valid.all.parquet data/valid.arc_c.parquet data/valid.gpqa.parquet"),
    ("prepare_model.py --source Qwen/Qwen2.5-Math-7B --output m", "m/config.json m/tokenizer_config.json m/chat_template.jinja"),
)
FIXTURES = (
    "messages.jsonl",
    "numina.jsonl",
    "openr1_raw.jsonl",
    "question_solution_answer.csv",
    "question_solution_answer.json",
    "sharegpt.jsonl",
)
BROKEN = {
    "empty.parquet": b"",
    "text.xlsx": b"PK",
    "number.jsonl": b'{"problem": 17, "solution": "\\\\boxed{1}", "answer": "1"}\n',
    "cut.jsonl": b'{"problem": "What?", "solu\n',
    "columns.csv": b"a,b\n1,2\n",
    "null.jsonl": b'{"problem": null, "solution": null, "answer": null}\n',
}
REFUSED = (
    "prepare_train.py --source missing.jsonl --output x.parquet",
    "prepare_train.py --source missing --no-such-flag",
    "prepare_eval.py --benchmarks nothing",
    "check.py missing.parquet",
)
UNTRAINABLE = (
    "actor_rollout_ref.actor.off_policy_reshape=p_div_p_0.1",
    "actor_rollout_ref.actor.clip_ratio=0.1",
    "luffy.objective.gama=0.1",
    "luffy.objective.gamma=-1",
    "actor_rollout_ref.rollout.n=1",
    "data.train_files=missing.parquet",
    "actor_rollout_ref.model.path=missing",
)


class Checkout:
    """The scripts in a folder of their own, where they write."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "HYDRA_FULL_ERROR": "0"}
        for name in SCRIPTS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.parquet", "*_report", "__pycache__"))

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess:
        """Run Python with these words in the folder; ``code`` is the exit code that is expected, None any."""
        done = subprocess.run([sys.executable, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        assert code is None or done.returncode == code, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done

    def sha256(self, name: str) -> str:
        """Digest of a file that a command wrote."""
        return f"{hashlib.sha256((self.folder / name).read_bytes()).hexdigest()} {name}"


def prepared(checkout: Checkout) -> str:
    """Digests of the prepared training, SFT, evaluation and model files."""
    lines = []
    for command, files in PREPARED:
        script, *flags = command.split()
        checkout.run(f"data/{script}", *flags)
        lines += [checkout.sha256(file) for file in files.split() if (checkout.folder / file).exists()]
    for name in FIXTURES:
        source = ROOT / "tests" / "fixtures" / "data" / name
        done = checkout.run(f"data/{TRAINING.split()[0]}", "--source", str(source), "--output", f"{name}.parquet", "--no-filter", code=None)
        written = (checkout.folder / f"{name}.parquet").exists()
        lines.append(checkout.sha256(f"{name}.parquet") if written else f"exit {done.returncode} {name}")
    return "\n".join(lines)


def reports(checkout: Checkout) -> str:
    """The tables over two results of random verdicts."""
    draw, names = random.Random(0), ("aime", "amc", "math", "arc_c")
    for model in ("first", "second"):
        rows = [
            {"benchmark": name, "problem": 10 * number + problem, "sample": sample, "correct": draw.random() < 0.4,
             "answer": "1", "reason": "wrong", "length": draw.randrange(5, 900), "finish_reason": draw.choice(["stop", "length"])}
            for number, name in enumerate(names) for problem in range(6) for sample in range(4)
        ]  # fmt: skip
        for row in rows:
            row["reason"] = "correct" if row["correct"] else "wrong"
        (checkout.folder / f"{model}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = checkout.run("eval_scripts/report.py", "first.jsonl", "second.jsonl", "--output", "report").stdout
    tables = [f"== {file.name}\n{file.read_text()}" for file in sorted((checkout.folder / "report").glob("tables.*"))]
    return "\n".join([shown, *tables])


def verdicts(folder: Path) -> str:
    """Of every table of a folder (or of JSON lines) and kind of answer: how often each reason, and a digest of their sequence."""
    from luffy.rewards import Grader

    lines = []
    with Grader(workers=2, time_limit_s=30) as grader:
        for table in sorted([*folder.glob("rewards_*.json"), *folder.glob("*.jsonl")]):
            if table.suffix == ".json":
                cases = [(response, gold) for gold, response, *_ in json.loads(table.read_text())["rows"]]
            else:
                rows = [json.loads(line) for line in table.read_text().splitlines()]
                cases = [(row["response"], row["gold"]) for row in rows]
            for kind in ("math", "choice"):
                found = grader.grade_batch(cases, kind=kind)
                reasons = [str(verdict.reason) for verdict in found]
                counts = ", ".join(f"{reason} {reasons.count(reason)}" for reason in sorted(set(reasons)))
                lines.append(f"{table.stem} {kind} {hashlib.sha256(' '.join(reasons).encode()).hexdigest()[:16]} {counts}")
    return "\n".join(lines)


def flags(checkout: Checkout) -> str:
    """Every flag of every command, by its spellings."""
    lines = []
    for script in sorted(file for name in SCRIPTS for file in (checkout.folder / name).glob("*.py")):
        shown = checkout.run(str(script.relative_to(checkout.folder)), "--help").stdout
        options = shown[shown.index("options:") :]
        lines += sorted({f"{script.name} {flag}" for flag in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", options)})
    return "\n".join(lines)


def errors(checkout: Checkout) -> str:
    """Exit code and last line of commands that cannot work."""
    commands = [["data/" + command.split()[0], *command.split()[1:]] for command in REFUSED]
    for name, content in BROKEN.items():
        (checkout.folder / name).write_bytes(content)
        commands += [
            ["data/prepare_train.py", "--source", name, "--output", "x.parquet", "--restart"],
            ["data/prepare_eval.py", "--source", name, "--name", "mine"],
            ["eval_scripts/report.py", name],
        ]
    entry = ["-m", "verl.mix_src.main_mix_ppo", "profile=cpu", "dry_run=true"]
    commands += [[*entry, override] for override in UNTRAINABLE]
    lines = []
    for command in commands:
        done = checkout.run(*command, code=None)
        said = [line for line in done.stdout.splitlines() if line.startswith("not ready here")] + done.stderr.splitlines()[-1:]
        lines += [" ".join(command), f"    {done.returncode}", *(f"    {line.replace(str(checkout.folder), '.')}" for line in said)]
    return "\n".join(lines)


def metrics(checkout: Checkout, experiment: str, ranks: int) -> str:
    """Each step's metrics of a training of three steps on the embedded example, less times and memory."""
    checkout.run("data/prepare_tiny.py", "--output_dir", "tiny")
    run, tiny = f"{experiment}_{ranks}", checkout.folder / "tiny"
    common = ["profile=cpu", f"trainer.n_gpus_per_node={ranks}", "trainer.total_training_steps=3", "trainer.save_freq=-1",
              f"data.train_files={tiny / 'train.parquet'}", f"data.val_files={tiny / 'heldout.parquet'}",
              f"trainer.default_local_dir={checkout.folder / run}"]  # fmt: skip
    if experiment == SFT:
        checkout.run("-m", "verl.mix_src.main_sft", *common, f"model.path={tiny / 'model'}", "trainer.test_freq=-1")
    else:
        more = ["trainer.test_freq=3", "data.val_max_samples=16", f"actor_rollout_ref.model.path={tiny / 'model'}"]
        checkout.run("-m", "verl.mix_src.main_mix_ppo", *common, *more, f"experiment={experiment}")
    lines = []
    for record in map(json.loads, (checkout.folder / run / "metrics.jsonl").read_text().splitlines()):
        kept = {name: value for name, value in record["data"].items() if not any(part in name for part in TIMES_AND_MEMORY)}
        lines += [f"{record['step']} {name} {value!r}" for name, value in sorted(kept.items())]
    return "\n".join(lines)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=Path, nargs="*", default=[], help="further folders of cases of the verifier")
    parser.add_argument("--metrics", action="store_true", help="train each experiment, too")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="those alone; default: all")
    arguments = parser.parse_args()

    from hub_content import write_hub
    from hub_server import serving

    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        write_hub(Path(temporary) / "hub")
        with serving(Path(temporary) / "hub") as hub:
            checkout = Checkout(Path(temporary) / "checkout", hub.environment(Path(temporary) / "cache"))
            for part in (part for part in (prepared, reports, flags, errors) if part.__name__ in arguments.parts):
                (arguments.folder / f"{part.__name__}.txt").write_text(part(checkout) + "\n", encoding="utf-8")
                print(part.__name__, flush=True)
            for folder in (ROOT / "tests" / "cases", *arguments.cases) if "verdicts" in arguments.parts else ():
                (arguments.folder / f"verdicts_{folder.name}.txt").write_text(verdicts(folder) + "\n", encoding="utf-8")
            for experiment in (*EXPERIMENTS, SFT) if arguments.metrics else ():
                for ranks in (1, 2):
                    shown = metrics(checkout, experiment, ranks)
                    (arguments.folder / f"metrics_{experiment}_{ranks}.txt").write_text(shown + "\n", encoding="utf-8")
                    print(experiment, ranks, flush=True)


if __name__ == "__main__":
    main()
