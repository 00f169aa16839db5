"""Stands in for ``python -m`` where the comparison starts a run: ``comparison_stub.py LOG FAIL MODULE ARGUMENTS``.

It appends the module and its arguments to LOG, fails where an argument contains FAIL, and otherwise leaves the files
that the module would leave, with numbers that depend on method and seed in a way that tests can work out by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

AVG8 = {"on_policy": 0.0, "mixed": 0.80, "luffy": 0.90, "rl_sft_loss": 0.85, "sft": 0.905, "sft_rl": 0.70}
ENTROPY = {"on_policy": 0.3, "mixed": 0.05, "luffy": 0.10, "rl_sft_loss": 0.08, "sft": 0.07, "sft_rl": 0.09}


def method_and_seed(folder: Path) -> tuple[str, int]:
    return folder.parent.name, int(folder.name.removeprefix("seed"))


def train(arguments: dict[str, str], supervised: bool) -> None:
    folder = Path(arguments["trainer.default_local_dir"])
    method, seed = method_and_seed(folder)
    steps = int(arguments["trainer.total_training_steps"])
    every = int(arguments["trainer.save_freq" if supervised else "trainer.test_freq"])
    looks = sorted({*range(every, steps + 1, every), steps})
    lines = [{"step": 0, "data": {"val-core/luffy_tiny/acc/mean@8": 0.0}}]
    for step in range(1, steps + 1):
        data = {"on_policy/entropy": 0.5, "on_policy/response_length": 58.0}
        if not supervised:
            data |= {"on_policy/reward": 0.5, "perf/total_num_tokens": 9600, "prompt_length/mean": 17.0}
            data |= {"response_length/mean": 58.0, "off_policy/token_share": 0.125, "off_policy/probability": 0.9}
            data |= {"ledger/generated_tokens": 112 * 58, "ledger/forwarded_tokens": 128 * 75}
            data["timing_s/step"] = 50.0 if step <= 3 else step / 10
        rows = 16 if supervised else 128
        data |= {"ledger/trained_tokens": rows * 58, "ledger/processed_tokens": rows * 75, "ledger/traces": 16}
        if step in looks:  # rises, and falls at the end
            data["val-core/luffy_tiny/acc/mean@8"] = AVG8.get(method, 0.5) * (1.0 if step < steps else 0.5)
        lines.append({"step": step, "data": data})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in looks if supervised else [steps]:
        model = folder / f"global_step_{step}" / ("huggingface" if supervised else "actor/huggingface")
        model.mkdir(parents=True)
        header = json.dumps({"w": {"dtype": "F32", "shape": [1000, 50], "data_offsets": [0, 200_000]}}).encode()  # 50 000 numbers
        (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "summary.json").write_text(json.dumps({"seconds": 60.0 * (seed + 1), "peak_memory_bytes": 8 * 2**30}))


def measure(arguments: dict[str, str]) -> None:
    output = Path(arguments["--output"])
    method, seed = method_and_seed(output.parent)
    avg8 = AVG8.get(method, 0.5) - 0.01 * seed * (method == "mixed")
    found = {"avg8": avg8, "pass8": 1.0, "greedy": 0.95, "harder_avg8": avg8 / 2, "harder_pass8": 0.9}
    output.write_text(json.dumps(found | {"entropy": ENTROPY.get(method, 0.1), "response_length": 57.5}))


def main() -> None:
    log, fail, module, *rest = sys.argv[1:]
    with open(log, "a") as file:
        file.write(" ".join([module, *rest]) + "\n")
    if fail and any(fail in argument for argument in rest):
        sys.exit(3)
    arguments = dict(argument.split("=", 1) for argument in rest)
    if module == "miniature.comparison.measure":
        measure(arguments)
    else:
        train(arguments, supervised=module == "verl.mix_src.main_sft")


if __name__ == "__main__":
    main()
