"""The card of an exported model: Hugging Face's library reads its metadata, its numbers are the run's, its code runs."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from test_own_run import composed, leave_a_run, write_model, write_rows

from luffy.evaluation.estimators import mean_interval
from luffy.model_card import CardFacts, card, held_out_results, held_out_scores, write_card
from luffy.record import GREEDY_ANSWER, Response, record_file, write_record
from luffy.training_report import read_metrics
from verl.mix_src.run.cards import write_cards

MESSAGES = [{"role": "system", "content": 'Say "why".\n```\n| a {{ b }}'}, {"role": "user", "content": "What is 1+1?"}]
FACTS = CardFacts(
    name="mine step/3", base_model="Qwen/Qwen2.5-Math-7B", method="LUFFY", paper="arXiv 2504.14945", data_sets=["owner/set"], steps=3,
    measured_at=3, results=held_out_results({"avg@2": [0.5, 1.0, 0.0]}, {"avg@2": 0.5, "greedy": 0.25}, {"avg@2": 0.125}),
    validation="data/held_out.parquet", messages=MESSAGES, max_tokens=64, temperature=0.6, top_p=1.0, settings={"γ": 0.1, "note": "a|b"},
    seconds=12.0,
)  # fmt: skip


def test_its_metadata_are_read_by_the_hubs_own_library(tmp_path: Path) -> None:
    data = ModelCard.load(write_card(tmp_path, FACTS)).data
    assert data.base_model == "Qwen/Qwen2.5-Math-7B" and data.datasets == ["owner/set"] and data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation" and "luffy" in data.tags
    assert [(each.metric_name, each.metric_value) for each in data.eval_results] == [("avg@2", 0.5), ("greedy", 0.25)]
    assert data.eval_results[0].dataset_name == "held_out.parquet"


def test_its_results_have_the_intervals_of_the_problems() -> None:
    interval = mean_interval([0.5, 1.0, 0.0])
    text = card(FACTS)
    assert f"| avg@2 | 0.125 | 0.500 | {interval.low:.3f} – {interval.high:.3f} | 3 |" in text
    assert "| greedy | – | 0.250 | – | – |" in text
    assert r"| `note` | a\|b |" in text


def test_its_code_asks_as_in_training() -> None:
    code = re.search(r"```python\n(.*?)\n```\n", card(FACTS), re.DOTALL)[1]
    tree = ast.parse(code)
    (messages,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "messages")
    assert messages == [MESSAGES[0], {"role": "user", "content": "your problem"}]
    assert "max_new_tokens=64" in code and "temperature=0.6" in code and '"OWNER/mine-step-3"' in code


def test_it_tells_nobody_about_a_machine() -> None:
    text = card(replace(FACTS, base_model="/home/somebody/models/base", data_sets=[], results=[], validation="/data/private/held.parquet"))
    assert "somebody" not in text and "private" not in text and "base after 3 steps" in text
    assert "base_model" not in text and "datasets" not in text and "model-index" not in text and "Not measured" in text


def test_scores_of_problems_are_those_of_the_record(tmp_path: Path) -> None:
    made = [
        Response(group=str(problem), chosen="held-out", prompt="", source=source, reward=reward, tokens=[])
        for problem, rewards in enumerate([(0.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
        for source, reward in zip(["rollout", "rollout", GREEDY_ANSWER], rewards, strict=True)
    ]
    write_record(record_file(tmp_path, 5, held_out=True), made)
    assert held_out_scores(tmp_path, 5) == {"avg@2": [0.5, 1.0], "greedy": [1.0, 0.0]}
    assert held_out_scores(tmp_path, 6) == {}


def test_scores_that_are_not_the_accuracys_give_no_interval() -> None:
    (found,) = held_out_results({"avg@2": [0.5, 1.0]}, {"avg@2": 0.5}, {})
    assert found.interval is None and found.value == 0.5 and found.before is None


@pytest.mark.parametrize(("config", "export"), [("mix_ppo", "actor/huggingface"), ("sft", "huggingface")])
def test_a_run_ends_with_a_card_in_each_exported_model(config: str, export: str, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "mine.parquet", ["p" * (50 + n) for n in range(40)], [["t" * 20]] * 40)
    composition = composed(write_model(tmp_path / "model"), data, tmp_path / "run", config=config)
    files = leave_a_run(composition, step=2)
    write_model(files.folder / "global_step_2" / export)
    files.add_metrics({2: {"val-core/mine/acc/mean@2": 0.5}})
    scores = [Response(group=str(n), chosen="held-out", prompt="", reward=n % 2, tokens=[]) for n in (0, 0, 1, 1)]
    write_record(record_file(files.folder, 2, held_out=True), scores)
    records = read_metrics(files.metrics)
    (file,) = write_cards(composition, files, records, {"seconds": 10.0})
    assert file == files.folder / "global_step_2" / export / "README.md"
    text, interval = file.read_text(encoding="utf-8"), mean_interval([0.0, 1.0])
    shown = f"{interval.low:.3f} – {interval.high:.3f} | 2" if config == "mix_ppo" else "– | –"  # SFT records nothing
    assert f"| avg@2 | – | 0.500 | {shown} |" in text
    assert "| `prompts a step` | " in text and ("| `γ` | 0.1 |" in text) == (config == "mix_ppo")
    assert ModelCard.load(file).data.eval_results[0].metric_value == 0.5
