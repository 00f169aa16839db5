"""Stands in for Python where the pilot starts a training or a measurement: ``pilot_stub.py LOG FAIL ARGUMENTS``.

It appends the arguments to LOG, fails where one contains FAIL, and otherwise leaves the files that the module would leave. An answer to
held-out problem i of a method's model at step s is right in a share of samples that depends on method, step and i alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROBLEMS, SAMPLES = 40, 4
RIGHT = {  # of 4 samples to an odd and to an even problem, by step
    "base": {0: (0, 0)},
    "luffy": {4: (3, 1), 8: (4, 3)},
    "hpt": {4: (2, 1), 8: (3, 4)},
    "chord_phi": {4: (0, 1)},
    "on_policy": {4: (0, 0)},
    "sft_rl": {4: (1, 1), 8: (2, 2)},
}


def train(module: str, words: dict[str, str]) -> None:
    folder, steps = Path(words["trainer.default_local_dir"]), int(words["trainer.total_training_steps"])
    supervised = module.endswith("main_sft")
    done = len((folder / "metrics.jsonl").read_text().splitlines()) if (folder / "metrics.jsonl").exists() else 0
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as file:
        for step in range(done + 1, steps + 1):
            data = {"ledger/trained_tokens": 100, "ledger/processed_tokens": 150, "ledger/traces": 0 if "on_policy" in str(folder) else 2}
            data |= {} if supervised else {"ledger/generated_tokens": 80, "ledger/forwarded_tokens": 150, "timing_s/step": 3.0}
            file.write(json.dumps({"step": step, "data": data}) + "\n")
    model = folder / f"global_step_{steps}" / ("huggingface" if supervised else "actor/huggingface")
    model.mkdir(parents=True, exist_ok=True)


def measure(output: Path) -> None:
    method, step = output.parents[2].name, int(output.parent.name.removeprefix("step"))
    right = RIGHT[method][step] if output.stem == "heldout" else (2, 2) if method in ("base", "hpt") else (1, 1)
    lines = [
        {"benchmark": "own", "problem": i, "sample": n, "prompt": "p", "response": "r", "gold": "1", "correct": n < right[i % 2]}
        for i in range(PROBLEMS)
        for n in range(SAMPLES)
    ]
    output.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> None:
    log, fail, _, module, *rest = sys.argv[1:]
    with open(log, "a") as file:
        file.write(" ".join(rest) + "\n")
    if fail and any(fail in word for word in rest):
        sys.exit(3)
    if module.startswith("verl"):
        return train(module, dict(word.split("=", 1) for word in rest))
    folder = Path(rest[rest.index("--output_dir") + 1])
    for each in rest[rest.index("--files") + 1 :]:
        measure(folder / f"{each.partition('=')[0]}.jsonl")


if __name__ == "__main__":
    main()
