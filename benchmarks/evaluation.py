"""Evaluation against plain vLLM on the same prompts, and scoring of many responses: seconds and memory.

    python benchmarks/evaluation.py generation --model_path M --input_file F [--n 16] [--max_tokens 64]
    python benchmarks/evaluation.py scoring [--samples 48000]

Plain vLLM is ``LLM.generate`` on the same token ids, first as it is and then with a seed for each sample, which is what
makes a sample independent of its batch (without a GPU: prompts in one piece, which seeds need there); nothing is written or scored. The evaluation writes, scores and summarises. It is
also timed as a whole process, from the command to its end. Run it where it has the machine to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "eval_scripts"
PLAIN = """
import json, sys, time
from luffy import vllm_cpu
options = json.loads(sys.argv[1])
on_cpu = vllm_cpu.prepare()
from vllm import LLM, SamplingParams
from luffy.evaluation.evaluate import Evaluation, read_job
from luffy.evaluation.engine import CPU_BATCH_TOKENS, Sampling
job = read_job(Evaluation(model_path=options["model"], input_file=options["input"],
                          sampling=Sampling(max_tokens=options["max_tokens"]), n=options["n"]))
whole = dict(enable_chunked_prefill=False, max_num_batched_tokens=max(CPU_BATCH_TOKENS, job.max_model_len)) if on_cpu else {}
llm = LLM(model=options["model"], enforce_eager=on_cpu, max_model_len=job.max_model_len, gpu_memory_utilization=0.85,
          dtype=job.model.engine_dtype("auto", on_cpu=on_cpu), **whole)
parameters = SamplingParams(temperature=0.6, top_p=1.0, max_tokens=options["max_tokens"])
requests = [job.request(key) for key in job.keys()]
prompts = [{"prompt_token_ids": list(request.token_ids)} for request in requests]
seeded = [SamplingParams(temperature=0.6, top_p=1.0, max_tokens=options["max_tokens"], seed=r.seed) for r in requests]
for name, asked in (("PLAIN", parameters), ("SEEDED", seeded)):
    llm.reset_prefix_cache()
    begin = time.perf_counter()
    outputs = llm.generate(prompts, asked, use_tqdm=False)
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    print(name, len(outputs), tokens, time.perf_counter() - begin)
"""
FORMS = ("{}", "{}.0", "\\frac{{{}}}{{7}}", "x = {}", "{}\\sqrt{{2}}", "\\text{{{} apples}}", "({}, 3]")


def generation(arguments: argparse.Namespace) -> None:
    """Time plain vLLM and the evaluation, from the loaded model on."""
    for _ in range(arguments.rounds):
        plain = _plain(arguments)
        for name, (samples, tokens, seconds) in plain.items():
            print(f"{name.lower():12} {samples:.0f} samples, {tokens:.0f} tokens: {seconds:.1f} s")
        begin = time.perf_counter()
        log = _evaluation(arguments)
        whole = time.perf_counter() - begin
        samples, tokens, seconds = re.search(r"generated (\d+) samples of (\d+) tokens in ([\d.]+) s", log).groups()
        rest = float(re.search(r"finished scoring after another ([\d.]+) s", log)[1])
        seconds = float(seconds) + rest
        print(f"evaluation   {samples} samples, {tokens} tokens: {seconds:.1f} s ({rest:.1f} s of them after the last sample)")
        for name, (_, plain_tokens, plain_seconds) in plain.items():
            print(f"  a token: {(seconds / int(tokens)) / (plain_seconds / plain_tokens):.2f} x {name.lower()}")
        print(f"  the whole process: {whole:.1f} s")


def _plain(arguments: argparse.Namespace) -> dict[str, tuple[float, ...]]:
    options = {"model": arguments.model_path, "input": arguments.input_file}
    options |= {"n": arguments.n, "max_tokens": arguments.max_tokens}
    output = _run([sys.executable, "-c", PLAIN, json.dumps(options)]).stdout
    found = re.findall(r"^(PLAIN|SEEDED) (\S+) (\S+) (\S+)$", output, re.MULTILINE)
    return {name: tuple(map(float, numbers)) for name, *numbers in found}


def _evaluation(arguments: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPTS / "generate_vllm.py"), "--output_file", f"{folder}/m.jsonl"]
        for flag in ("model_path", "input_file", "n", "max_tokens"):
            command += [f"--{flag}", str(getattr(arguments, flag))]
        return _run(command).stderr


def _run(command: list[str]) -> subprocess.CompletedProcess:
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done


def scoring(arguments: argparse.Namespace) -> None:
    """Time eval_scripts/score.py on synthetic responses, a quarter of them and all of them, with its peak memory."""
    for samples in (arguments.samples // 4, arguments.samples):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s.decoded.jsonl"
            with open(path, "w", encoding="utf-8") as file:
                for number in range(samples):
                    file.write(json.dumps(_synthetic(number)) + "\n")
            begin = time.perf_counter()
            command = [sys.executable, str(SCRIPTS / "score.py"), "--input_file", str(path), "--workers", arguments.workers]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begin
            assert status == 0, "score.py failed"
        print(
            f"{samples} responses: {seconds:.1f} s ({samples / seconds:.0f} a second), "
            f"peak memory of the scoring process {usage.ru_maxrss / 1024:.0f} MiB"
        )


def _synthetic(number: int) -> dict:
    """A response of a few thousand characters with a final answer in one of several forms; half are right."""
    rng = random.Random(number)
    value, right = rng.randrange(10_000), rng.random() < 0.5
    answer = rng.choice(FORMS).format(value)
    text = " ".join(rng.choice(("so", "we", "let $x=1$", "then", "\\frac{1}{2}")) for _ in range(500))
    return {
        "benchmark": "math",
        "problem": number,
        "sample": 0,
        "prompt": "Q",
        "response": f"{text} the answer is $\\boxed{{{answer}}}$.",
        "gold": str(value if right else value + 1),
        "length": 700,
        "finish_reason": "stop",
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    generate = commands.add_parser("generation")
    generate.add_argument("--model_path", required=True)
    generate.add_argument("--input_file", required=True)
    generate.add_argument("--n", type=int, default=16)
    generate.add_argument("--max_tokens", type=int, default=64)
    generate.add_argument("--rounds", type=int, default=1)
    generate.set_defaults(run=generation)
    score = commands.add_parser("scoring")
    score.add_argument("--samples", type=int, default=48_000)
    score.add_argument("--workers", default=str(min(os.cpu_count() or 1, 8)))
    score.set_defaults(run=scoring)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
