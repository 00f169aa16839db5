"""A run's folder as a training leaves it, made by the project's own writers: for the viewer's tests, and to measure it at any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from luffy.record import BY_GRADIENT, BY_HASH, HELD_OUT, VALUES, Response, record_file, write_record
from luffy.training_report import write_metrics

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "broken \ufffd\udc80 bytes",
    "\u202egnp.exe\u2066\u200f\u0627\u0644",
    "<!-- & ]]> {{ 7*7 }} ${1} \\u003c",
    "\x00\x1b[31m\u2028line",
)
WORDS = (" the", " sum", " of", " 2", "+", "3", " is", " 5", "\n", " so", " x", "=", " therefore", " wait", ",", ".")
REASONS = ("correct", "wrong", "no answer found", "truncated")


def responses(rng: np.random.Generator, step: int, n_groups: int, n_rows: int, n_tokens: int, *, hostile: bool = False) -> list[Response]:
    """The responses of a step: one row a group is a demonstration, whose probabilities rise with the steps."""
    made = []
    for group in range(n_groups):
        trace = [WORDS[(group + 3 * place) % len(WORDS)] for place in range(n_tokens)]
        for row in range(n_rows):
            forced = row == 0
            length = n_tokens if forced else max(2, n_tokens - int(rng.integers(0, 1 + n_tokens // 4)))
            tokens = trace if forced else [WORDS[each] for each in rng.integers(0, len(WORDS), length)]
            if hostile and row == 1:
                tokens = [*HOSTILE, *tokens][:length]
            reason = REASONS[0] if forced else REASONS[int(rng.integers(0, len(REASONS)))]
            base = rng.uniform(0.02, 0.98, length)
            values = {
                "old_probability": 1 - (1 - base) * 0.97**step if forced else base,
                "ratio": rng.uniform(0.8, 1.2, length),
                "entropy": rng.uniform(0, 2.5, length),
                "loss": rng.normal(0, 0.3, length),
                "gradient_weight": rng.normal(0, 0.2, length),
            }
            reward = float(reason == "correct")
            made.append(
                Response(
                    group=f"{step:08d}-{group:04d}",
                    chosen=BY_HASH if group % 5 else BY_GRADIENT,
                    gradient_share=1 / (group + 2),
                    prompt_key=group,
                    data_source="sums",
                    prompt=f"<|system|>Add.<|user|>{HOSTILE[0] if hostile else ''} problem {group}: what is {group} + {group}?<|assistant|>",
                    source="teacher deepseek" if forced else "rollout",
                    trace=f"trace{group}" if forced else "",
                    reason=reason,
                    answer=HOSTILE[1] if hostile and row == 1 else str(2 * group),
                    reward=reward,
                    advantage=reward - 0.5,
                    tokens=tokens,
                    forced=np.full(length, forced),
                    values={name: values[name].astype(np.float32) for name in VALUES},
                )
            )
    return made


def held_out(step: int) -> list[Response]:
    """Two problems, two answers each, without values of single tokens."""
    return [
        Response(
            group=str(problem), chosen=HELD_OUT, prompt_key=problem, data_source="sums", prompt=f"held-out {problem}", reason=reason,
            answer=str(problem), reward=float(reason == "correct"), tokens=[f"answer {sample} of step {step}"],
        )
        for problem in range(2)
        for sample, reason in enumerate(REASONS[:2])
    ]  # fmt: skip


def write_run(
    folder: Path, *, steps: tuple[int, ...] = (10, 20, 30), n_groups: int = 4, n_rows: int = 4, n_tokens: int = 30, seed: int = 0,
    hostile: bool = False, gamma: float = 0.1,
) -> Path:  # fmt: skip
    """Write a run with metrics, settings, checkpoints and recorded groups; returns its folder."""
    rng = np.random.default_rng(seed)
    for step in steps:
        write_record(record_file(folder, step), responses(rng, step, n_groups, n_rows, n_tokens, hostile=hostile))
    write_record(record_file(folder, steps[-1], held_out=True), held_out(steps[-1]))
    records = []
    for step in range(1, steps[-1] + 1):
        data = {"on_policy/reward": 1 - 0.95**step + 0.02 * float(rng.normal()), "off_policy/reward": 1.0, "on_policy/entropy": 0.9**step}
        data |= {"on_policy/response_length": 40 + step, "off_policy/probability": 1 - 0.97**step, "training/lost_rows": int(step == 7)}
        if step % 10 == 0:
            data["val-core/sums/acc/mean@8"] = min(1.0, step / steps[-1])
        if step == 12:
            data["actor/grad_norm"] = float("nan")
        records.append({"step": step, "data": data})
    write_metrics(folder / "metrics.jsonl", records)
    (folder / "config.yaml").write_text(
        f"luffy: {{objective: {{shaping: {{name: p_div_p, gamma: {gamma}}}}}}}\ntrainer: {{seed: {seed}}}\n"
    )
    (folder / f"global_step_{steps[0]}").mkdir(exist_ok=True)
    (folder / "best" / f"global_step_{steps[-1]}").mkdir(parents=True, exist_ok=True)
    return folder


def write_results(file: Path, *, hostile: bool = True, problems: int = 6, samples: int = 4) -> Path:
    """Write scored samples of two benchmarks."""
    with file.open("w", encoding="utf-8") as lines:
        for number in range(problems):
            for sample in range(samples):
                correct = (number + sample) % 3 == 0
                line = {
                    "benchmark": "aime" if number % 2 else "own", "problem": number, "sample": sample, "correct": correct,
                    "reason": "correct" if correct else "wrong", "answer": str(number), "gold": str(number), "length": 10 * number + sample,
                    "prompt": f"problem {number}", "response": HOSTILE[number % 6] if hostile else "text", "finish_reason": "stop",
                }  # fmt: skip
                lines.write(json.dumps(line) + "\n")
    return file
