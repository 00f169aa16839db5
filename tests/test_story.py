"""README's "A run of your own", as pasted: own problems and an own model, trained, gone on with, fine-tuned, evaluated, in a table.

The model is of another family than the embedded one (Llama: a beginning-of-sequence token, headers around roles, two tokens that end
a response, none to pad with, weights in bfloat16, other heads), and prompts and traces are ten times as long.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from luffy.data.system_prompt import DEFAULT

pytestmark = pytest.mark.integration  # beside others: it runs for long, on one core

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## A run of your own\n.*?^```\n(?P<block>.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 900
SHORTER = (  # fewer rows and tokens; fine-tuning without held-out problems, for which vLLM would start twice (tests/test_sft_run.py)
    ("batch_size=8", "batch_size=4"),
    ("response_length=1024", "response_length=320"),
    ("tokens 1024", "tokens 64"),
    ("experiment_name=mine_sft", "experiment_name=mine_sft data.val_files=null"),
)


def write_problems(path: Path) -> None:
    """40 problems with traces in the README's own keys."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(40):
            a, b = rng.randrange(100, 500), rng.randrange(100, 500)
            problem = f"Problem {number}. A farmer counts {a} sheep in one field and {b} in the next. " + "Then he counts again. " * 10
            solution = f"<think>\n{a} and {b} are {a + b}. " + "I check it once more. " * 10 + f"\n</think>\nThey are \\boxed{{{a + b}}}."
            file.write(json.dumps({"problem": problem + "How many are there?", "solution": solution, "answer": str(a + b)}) + "\n")


BEGIN, END_OF_TEXT, HEAD, HEAD_END, END_OF_TURN = SPECIAL = "<|begin|>", "<|end_of_text|>", "<|head|>", "<|head_end|>", "<|eot|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|head|>' + message['role'] + '<|head_end|>\n\n' + message['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant<|head_end|>\n\n' }}{% endif %}"
)


def write_model(folder: Path) -> None:
    """A Llama of 0.2M random parameters; its tokenizer has one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bytewise.add_special_tokens(list(SPECIAL))
    first = (BEGIN, bytewise.token_to_id(BEGIN))
    bytewise.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[first])  # of a bare text
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token=BEGIN, eos_token=END_OF_TURN)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ends = [bytewise.token_to_id(token) for token in (END_OF_TEXT, END_OF_TURN)]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=2048, tie_word_embeddings=False, dtype="bfloat16",
        bos_token_id=first[1], eos_token_id=ends, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(bos_token_id=first[1], eos_token_id=ends, do_sample=True, temperature=0.6, top_p=0.9)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The scripts of a checkout that is set up, a file of problems and a model."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("data", "exp_scripts", "eval_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.parquet", "*_report", "__pycache__"))
    (folder / "exp_scripts" / "setup.sh").write_text("exit 0\n")  # its own test
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    write_problems(folder / "problems.jsonl")
    write_model(folder / "my_model")
    return folder


def paste(checkout: Path, commands: str, *, code: int = 0) -> str:
    """Run shell commands in the checkout, its environment active; returns what they print."""
    environment = {
        **os.environ, "PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}", "PROFILE": "cpu", "VENV": ".venv",
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    logs = "".join(log.read_text(errors="replace")[-2000:] for log in checkout.glob("outputs/*/train.log"))
    assert done.returncode == code, done.stdout[-3000:] + logs
    return done.stdout


def message(role: str, text: str) -> int:
    """Tokens of a message: three marks, and two line ends before the text."""
    return 3 + len(role) + 2 + len(text)


def test_a_run_of_your_own(checkout):
    block = SECTION.search((ROOT / "README.md").read_text(encoding="utf-8"))["block"]
    for pasted, short in SHORTER:
        assert pasted in block
        block = block.replace(pasted, short)
    train = next(line for line in block.replace("\\\n", " ").splitlines() if "train.sh" in line)
    out = paste(checkout, block)
    run = checkout / "outputs" / "mine"
    assert not (checkout / "outputs" / "tiny").exists()  # nothing is built that is not read
    assert "held out for validation: 4 of the 40 rows" in out
    assert "no rollout earned a reward" in out
    table = [line for line in out.splitlines() if line.startswith(("| mine", "mine"))]
    assert any("mine_sft" in line for line in table) and (checkout / "report").is_dir()

    problems = [json.loads(line) for line in (checkout / "problems.jsonl").read_text().splitlines()]
    length = len(problems[0]["solution"]) + 1  # of every trace, with the token that ends it: a byte is a token
    prompts = {1 + message("system", DEFAULT) + message("user", each["problem"]) + message("assistant", "") - 1 for each in problems}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    for record in records[1:]:
        assert record["data"]["off_policy/truncated_share"] == 0 and record["data"]["off_policy/response_length"] == length
        assert {record["data"]["prompt_length/min"], record["data"]["prompt_length/max"]} <= prompts  # nothing is cut, nothing doubled
    lines = (checkout / "outputs" / "mine_sft" / "metrics.jsonl").read_text().splitlines()
    losses = [record["data"]["train/loss"] for record in map(json.loads, lines) if "train/loss" in record["data"]]
    assert len(losses) == 3 and losses[2] < losses[0]

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file() and path.suffix != ".log"}
    again = paste(checkout, "MODEL=my_model\n" + train)
    assert "nothing left to do" in again and "Ray" not in again
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}

    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["starts"]) == (3, 1)
    assert summary["heldout_before"] == {"avg@8": 0.0, "greedy": 0.0} and summary["validation"].startswith("held out for validation: 4")


def test_the_first_real_error_ends_a_run(checkout):
    """An actor worker that fails while it starts; the trainer that waits for it fails after it."""
    if not (checkout / "data" / "mine.parquet").exists():
        paste(checkout, "python data/prepare_train.py --source problems.jsonl --output data/mine.parquet")
    out = paste(
        checkout,
        "bash exp_scripts/train.sh actor_rollout_ref.model.path=my_model data.train_files=data/mine.parquet trainer.experiment_name=failing "
        "data.max_prompt_length=1024 data.max_response_length=1024 data.train_batch_size=4 "
        "actor_rollout_ref.actor.optim.optimizer=NoSuchOptimizer",
        code=1,
    )
    line = next(line for line in out.splitlines() if line.startswith("error: "))
    assert line.startswith("error: the run failed, first in an actor worker (FSDP): AttributeError: Optimizer 'NoSuchOptimizer' not found")
    assert "NoSuchOptimizer" in (checkout / "outputs" / "failing" / "train.log").read_text()  # the details are where the line says
