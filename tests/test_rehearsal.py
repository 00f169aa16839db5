"""The README's way to a run on GPUs, command by command, in an empty folder, with profile gpu under ``overlay=rehearsal``.

The scripts are the checkout's; set-up alone is left out, whose packages are those that run this test. The hub is the one of
``hub_server.py``. ``make rehearsal`` runs this file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hub_content import DEFAULT_SYSTEM, MODEL, ROWS, SYSTEM, write_hub
from hub_server import Hub, serving
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.integration, pytest.mark.alone]

ROOT = Path(__file__).parents[1]
OVERLAY = "overlay=rehearsal"
FORKED = "luffy.run.fork_workers=true"  # for time: the first run's workers import by themselves, as on GPUs
SECTION = re.compile(r"^## On GPUs\n.*?```\n(.*?)```", re.DOTALL | re.MULTILINE)
README = [line.partition("  #")[0].strip() for line in SECTION.search((ROOT / "README.md").read_text())[1].splitlines()]


@dataclass
class Node:
    """A folder that stands for a GPU node: the scripts, nothing else, and a hub to fetch from."""

    folder: Path
    hub: Hub

    def run(self, command: str, *more: str, code: int = 0, timeout: int = 600) -> subprocess.CompletedProcess:
        """Run a command of the README, with further arguments, and expect its exit code."""
        words = shlex.split(command)
        words = [sys.executable, *words[1:]] if words[0] == "python" else words
        environment = {
            **os.environ,
            **self.hub.environment(self.folder / "cache"),
            "PROFILE": "gpu",
            "VENV": sys.prefix,
            "WANDB_MODE": "offline",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",  # an engine is a process of its own, as on GPUs
        }
        done = subprocess.run([*words, *more], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=timeout)
        logs = sorted(self.folder.glob("outputs/*/train.log"), key=lambda file: file.stat().st_mtime)
        log = logs[-1].read_text(errors="replace")[-4000:] if logs and done.returncode != code else ""
        assert done.returncode == code, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}\n{log}"
        return done

    def records(self, run: str) -> list[dict]:
        """The metrics of a run, by step."""
        return [json.loads(line) for line in (self.folder / "outputs" / run / "metrics.jsonl").read_text().splitlines()]

    def summary(self, run: str) -> dict:
        """What a run ended with."""
        return json.loads((self.folder / "outputs" / run / "summary.json").read_text())

    def rows(self, file: str) -> list[dict]:
        """The rows of a parquet file."""
        return pq.read_table(self.folder / file).to_pylist()


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    root, folder = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("node")
    write_hub(root)
    for name in ("data", "exp_scripts", "eval_scripts"):
        scripts = shutil.ignore_patterns("*.parquet", "*_report", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=scripts)
    (folder / "exp_scripts" / "setup.sh").write_text("exit 0\n")
    with serving(root) as hub:
        yield Node(folder, hub)


def test_the_readme_has_these_commands():
    scripts = [" ".join(line.split()[:2]) for line in README]
    train = "bash exp_scripts/train.sh"
    assert scripts == ["python data/prepare_train.py", "python data/prepare_eval.py", "python data/prepare_model.py", train, train]


def test_a_dry_run_names_all_that_is_missing(node):
    shown = node.run(README[3], OVERLAY).stdout
    missing = [line for line in shown.splitlines() if line.startswith("not ready here")]
    for name in ("data/openr1.parquet", "data/valid.parquet", "models/Qwen2.5-Math-7B-16k"):
        assert any(name in line for line in missing), missing
    assert not list(node.folder.glob("data/*.parquet"))


def test_a_key_that_is_not_read_is_refused(node):
    refused = node.run(README[3], OVERLAY, "actor_rollout_ref.actor.clip_ratio=0.2", code=2)
    assert refused.stderr.splitlines()[-1] == (
        "error: actor_rollout_ref.actor.clip_ratio has no effect here: set luffy.objective.clip_low and luffy.objective.clip_high"
    )


@pytest.fixture(scope="module")
def prepared(node) -> Node:
    for command in README[:3]:
        node.run(command)
    return node


def test_data_and_model_are_ready(prepared):
    assert len(prepared.rows("data/openr1.parquet")) == ROWS
    validation = [row["data_source"] for row in prepared.rows("data/valid.parquet")]
    assert {name: validation.count(name) for name in validation} == {"aime": 240, "aime25": 240, "amc": 332}
    model = prepared.folder / "models/Qwen2.5-Math-7B-16k"
    config = AutoConfig.from_pretrained(model)
    assert (config.rope_parameters["rope_theta"], config.max_position_embeddings) == (40_000, 16_384)
    assert "ready" in prepared.run(README[3], OVERLAY).stdout.splitlines()


def test_training_validation_and_evaluation_ask_the_same(prepared):
    """The system message of the training set: in its prompts, in validation's, and in the model's template."""
    tokenizer = AutoTokenizer.from_pretrained(prepared.folder / "models/Qwen2.5-Math-7B-16k")
    rendered = []
    for file in ("data/openr1.parquet", "data/valid.parquet", "data/valid.all.parquet", "data/valid.gpqa.parquet"):
        chat = prepared.rows(file)[0]["prompt"]
        for messages in (chat, chat[1:]):
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            rendered.append(text.replace(messages[-1]["content"], "?"))
    expected = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert set(rendered) == {expected} and DEFAULT_SYSTEM not in expected


@pytest.fixture(scope="module")
def trained(prepared) -> Node:
    """With the README's run, and beside it, for time, one of supervised tuning."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(prepared.run, (README[4], "bash exp_scripts/train_sft.sh"), (OVERLAY, OVERLAY)))
    return prepared


def test_reinforcement_learning(trained):
    records = trained.records("luffy")
    assert [record["step"] for record in records] == [0, 1, 2]
    for record in records[1:]:
        assert record["data"]["off_policy/row_share"] == 1 / 8
        assert record["data"]["off_policy/reward"] == 1.0
        assert record["data"]["actor/grad_norm"] > 0
    for record in (records[0], records[-1]):
        assert any(name.startswith("val-core/") for name in record["data"])
    log = (trained.folder / "outputs/luffy/train.log").read_text(errors="replace")
    assert f"filter dataset len: {ROWS - 1}" in log  # one prompt is too long
    assert list(trained.folder.glob("outputs/luffy/wandb/wandb/offline-run-*"))


def test_the_checkpoint_is_a_model(trained):
    exported = trained.folder / "outputs/luffy/global_step_2/actor/huggingface"
    assert Path(trained.summary("luffy")["hf_model"]).parts[-3:] == exported.parts[-3:]
    new, old = (AutoModelForCausalLM.from_pretrained(each) for each in (exported, trained.folder / "models/Qwen2.5-Math-7B-16k"))
    assert any(not a.equal(b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    assert new.config.rope_parameters["rope_theta"] == 40_000
    assert SYSTEM in AutoTokenizer.from_pretrained(exported).chat_template.encode().decode("unicode_escape")


def test_supervised_tuning(trained):
    summary = trained.summary("sft")
    assert summary["heldout_before"].keys() == summary["heldout_after"].keys() and summary["heldout_after"]
    assert summary["steps"] == ROWS // 8


@dataclass
class Later:
    """Two runs, side by side for time: the README's for a step more, and reinforcement learning after supervised tuning."""

    node: Node
    before: list[dict]
    console: str


@pytest.fixture(scope="module")
def later(trained) -> Later:
    before = trained.records("luffy")
    rows = [{**row, "data_source": "aime"} for row in trained.rows("data/valid.parquet")[:1] * 8]
    pq.write_table(pq.read_table(trained.folder / "data/valid.parquet").from_pylist(rows), trained.folder / "data/repeats.parquet")
    goes_on = (
        README[4].replace(",wandb", ""), OVERLAY, FORKED, "trainer.total_training_steps=3", "trainer.val_before_train=false",
        "trainer.test_freq=-1", "trainer.save_freq=-1",
    )  # fmt: skip
    after_it = (
        "bash exp_scripts/train_sft_rl.sh", OVERLAY, FORKED, "trainer.total_training_steps=1", "trainer.val_before_train=false",
        "data.val_files=data/repeats.parquet", "luffy.run.seeded_sampling=true", "trainer.validation_data_dir=outputs/answers",
        "trainer.n_gpus_per_node=1", "actor_rollout_ref.rollout.tensor_model_parallel_size=1",  # for time
    )  # fmt: skip
    with ThreadPoolExecutor() as threads:
        went_on, _ = threads.map(lambda command: trained.run(*command), (goes_on, after_it))
    return Later(trained, before, went_on.stderr)


def test_a_run_goes_on_from_its_checkpoint(later):
    assert "goes on after step 2" in later.console
    records, summary = later.node.records("luffy"), later.node.summary("luffy")
    assert [record["step"] for record in records] == [0, 1, 2, 3] and records[:3] == later.before
    assert (summary["steps"], summary["starts"]) == (3, 2)


def test_reinforcement_learning_after_it(later):
    """On the complement; each of a problem's eight repeats draws its own sample."""
    answers = [json.loads(line) for file in later.node.folder.glob("outputs/answers/*.jsonl") for line in file.open()]
    assert len(answers) == 8 and len({answer["output"] for answer in answers}) == 8
    (record,) = later.node.records("sft_rl")
    assert record["data"]["off_policy/row_share"] == 0
    assert SYSTEM in answers[0]["input"]


def test_evaluation_and_report(trained):
    model = trained.summary("luffy")["hf_model"]
    done = trained.run(
        f"python eval_scripts/generate_vllm.py --model_path {model} --input_file data/valid.all.parquet --output_file "
        "results/M.jsonl --template own --remove_system True --temperature 0.6 --top_p 1.0 --max_tokens 8192",
        "--max_tokens", "16", "--limit", "8",
    )  # fmt: skip
    assert "differently" not in done.stderr
    rows = [json.loads(line) for line in (trained.folder / "results/M.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(SYSTEM in row["prompt"] for row in rows)
    files = sorted(str(file.relative_to(trained.folder)) for file in trained.folder.glob("results/*.jsonl"))
    trained.run("python eval_scripts/report.py", *files)  # as a shell reads results/*.jsonl
    assert any((trained.folder / "report").iterdir())


def test_all_came_from_this_hub(prepared):
    assert f"GET /api/models/{MODEL}/revision/main" in prepared.hub.requests
