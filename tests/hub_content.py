"""What the hub of the tests serves: the published layouts of data, benchmarks and model, with few and easy contents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from luffy.benchmarks.prepare import PREPARED

TRAIN, COMPLEMENT, RAW = (
    "Elliott/Openr1-Math-46k-8192",
    "Elliott/Openr1-Math-48k-Complement",
    "open-r1/OpenR1-Math-220k",
)
MODEL = "Qwen/Qwen2.5-Math-7B"
ROWS = 40  # of the training set; as many problems again are in the raw set alone
SYSTEM = (
    'Work in two parts, "Thought" and "Solution".\nPut what you consider between <think> and </think>, then answer in '
    "\\boxed{} and nowhere else."
)
DEFAULT_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nPlease reason step by step, and put your final answer within \\\\boxed{}."
    "<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def write_hub(root: Path) -> None:
    """Write all repositories into ``root``, as :func:`hub_server.serving` serves them."""
    datasets = root / "datasets"
    write_parquet(datasets / TRAIN / "data/train-00000-of-00001.parquet", [training_row(i) for i in range(ROWS)])
    rest = [{**training_row(i), "target": None} for i in range(ROWS, 2 * ROWS)]
    write_parquet(datasets / COMPLEMENT / "data/train-00000-of-00001.parquet", rest)
    raw = [raw_row(i) for i in range(2 * ROWS)]
    write_parquet(datasets / RAW / "data/train-00000-of-00001.parquet", raw)
    write_parquet(datasets / RAW / "extended/train-00000-of-00001.parquet", raw[:2])
    write_configs(datasets / RAW, {"default": ("train", "data/train-*"), "extended": ("train", "extended/train-*")})
    for name, entry in PREPARED.items():
        write_benchmark(datasets / entry.hub, name)
    write_model(root / "models" / MODEL)


def write_benchmark(folder: Path, name: str) -> None:
    """Write one benchmark's source as its repository has it."""
    source = PREPARED[name]
    rows = [BENCHMARK_ROWS.get(name, plain_row)(i) for i in range(source.problems)]
    if name == "gpqa":
        folder.mkdir(parents=True)
        for config, part in {"gpqa_diamond": rows, "gpqa_extended": rows[:9]}.items():
            pyarrow.csv.write_csv(pa.Table.from_pylist(part), folder / f"{config}.csv")
        write_configs(folder, {config: ("train", f"{config}.csv") for config in ("gpqa_extended", "gpqa_diamond")})
    elif name == "arc_c":
        for config in ("ARC-Easy", "ARC-Challenge"):
            write_parquet(folder / config / "test-00000-of-00001.parquet", rows if config == source.config else rows[:9])
        write_configs(folder, {each: ("test", f"{each}/test-*") for each in ("ARC-Easy", "ARC-Challenge")})
    elif name in ("math", "minerva", "aime25"):
        folder.mkdir(parents=True)
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        write_parquet(folder / f"data/{source.split}-00000-of-00001.parquet", rows)


def plain_row(i: int) -> dict[str, Any]:
    """A row of AIME 2024 and 2025, MATH-500."""
    return {"problem": f"Find ${i}+{i % 7}$.", "solution": "Count.", "answer": str(i + i % 7), "unique_id": f"test/{i}.json"}


BENCHMARK_ROWS: dict[str, Callable[[int], dict[str, Any]]] = {
    "amc": lambda i: {"id": i, "problem": f"Compute ${i}-{i % 5}$.", "answer": float(i - i % 5), "url": "https://example.org"},
    "minerva": lambda i: {"question": f"What is ${i}$ metres in metres?", "answer": str(i)},
    "olympiad_bench": lambda i: {"question": f"Name $x={i}$.", "answer": f"$x={i}$"},
    "arc_c": lambda i: {"id": f"q{i}", "question": f"Which is {i % 4}?", "choices": {
        "text": ["0", "1", "2", "3"], "label": ["A", "B", "C", "D"]}, "answerKey": "ABCD"[i % 4]},
    "gpqa": lambda i: {"Question": f"Which particle has number {i}?", "Correct Answer": f"this {i}",
                       **{f"Incorrect Answer {j}": f"that {i} {j}" for j in (1, 2, 3)}, "Subdomain": "physics"},
    "mmlu_pro": lambda i: {"question_id": i, "question": f"Which is the number {i}?", "options": [str(i + j) for j in range(10)],
                           "answer": "A", "answer_index": 0, "cot_content": "", "category": "math", "src": "test"},
}  # fmt: skip


def question(i: int) -> str:
    """Problem ``i``; number 7 is longer than any prompt budget of the rehearsal."""
    return f"Add ${3 * i + 100}$ and ${i}$." + (" Take your time." * 400 if i == 7 else "")


def solution(i: int) -> str:
    """A right trace of problem ``i``."""
    return f"<think>\nI add {3 * i + 100} and {i}.\n</think>\n\nThe sum is $\\boxed{{{4 * i + 100}}}$."


def training_row(i: int) -> dict[str, Any]:
    """A row of the published training set."""
    return {
        "data_source": "openr1",
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(i)}],
        "target": [{"role": "assistant", "content": solution(i)}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(4 * i + 100)},
        "extra_info": {"index": i, "split": "default"},
    }


def raw_row(i: int) -> dict[str, Any]:
    """A row of OpenR1-Math-220k."""
    return {
        "problem": question(i), "solution": f"${4 * i + 100}$", "answer": str(4 * i + 100), "problem_type": "Algebra",
        "question_type": "math-word-problem", "source": "olympiads", "uuid": f"{i:08d}", "is_reasoning_complete": [True, True],
        "generations": [solution(i), solution(i) + " Yes."], "correctness_math_verify": [True, True],
        "correctness_llama": None, "finish_reasons": ["stop", "stop"], "correctness_count": 2,
        "messages": [{"role": "user", "content": question(i)}, {"role": "assistant", "content": solution(i)}],
    }  # fmt: skip


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a parquet file, its folders too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def write_configs(folder: Path, configs: dict[str, tuple[str, str]]) -> None:
    """Write the card that names configurations: split and pattern of files by name."""
    lines = ["---", "configs:"]
    for name, (split, pattern) in configs.items():
        lines += [f"- config_name: {name}", "  data_files:", f"  - split: {split}", f"    path: {pattern}"]
        lines += ["  default: true"] if name == "default" else []
    (folder / "README.md").write_text("\n".join([*lines, "---", "# A card", ""]))


def write_model(folder: Path) -> None:
    """Write a tiny Qwen2 with the rope base, the window and the files of Qwen2.5-Math."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=False, dtype="bfloat16",
        eos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"), bos_token_id=None, initializer_range=0.05,
    )  # fmt: skip
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    settings = json.loads((folder / "config.json").read_text())
    for new in ("rope_parameters", "layer_types", "dtype"):
        settings.pop(new, None)
    settings |= {"rope_theta": 10000, "sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 28,
                 "torch_dtype": "bfloat16"}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    (folder / "generation_config.json").write_text('{"max_new_tokens": 2048, "do_sample": false}\n')
    own = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({**own, "chat_template": CHAT_TEMPLATE}, indent=2))


def build_tokenizer() -> Qwen2Tokenizer:
    """A byte-pair tokenizer of few tokens, learnt from the data, so that prompts are as short as with a large one."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(_texts(), trainer)
    content = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in content["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=content["vocab"], merges=merges, unk_token=None, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        model_max_length=131072, extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _texts() -> Iterator[str]:
    for i in range(2 * ROWS):
        yield from (SYSTEM, DEFAULT_SYSTEM, question(i)[:40], solution(i))
