"""A held-out set of the user's own: from a file in any layout to a column of its own in the tables."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luffy.benchmarks.prepare import write_own_set
from luffy.data.schema import arrow_schema
from luffy.data.source import SourceSpec
from luffy.data.system_prompt import system_rewriter
from luffy.errors import InputError
from luffy.evaluation.prompts import describe, load_problems


def make(folder: Path, rows: list[dict], name: str = "mine") -> list[dict]:
    source = folder / "problems.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path, count = write_own_set(SourceSpec(location=str(source)), folder, name=name, system=system_rewriter("none"))
    assert path == folder / f"{name}.parquet" and count == len(rows)
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"problem": "1+1?", "answer": "2"}, "2"),
        ({"question": "1+1?", "answer": 2}, "2"),
        ({"question": "1+1?", "answer": "so #### 2"}, "2"),
        ({"problem": "1+1?", "solution": "It is $\\boxed{2}$."}, "2"),
        ({"prompt": [{"role": "user", "content": "1+1?"}], "reward_model": {"ground_truth": "2"}}, "2"),
    ],
)
def test_problems_in_any_layout(tmp_path, row, gold):
    (made,) = make(tmp_path, [row])
    assert made["data_source"] == "mine" and made["reward_model"] == {"style": "rule", "ground_truth": gold}
    assert made["prompt"][-1] == {"role": "user", "content": "1+1?"} and made["extra_info"]["index"] == 0
    assert describe(load_problems(tmp_path / "mine.parquet"), 1) == ["mine: 1 problems, 1 samples of each, 1 in all"]


def test_rows_keep_their_own_source_and_a_shared_name_is_no_benchmark(tmp_path):
    rows = [{"problem": f"{n}?", "answer": "2", "data_source": source} for n, source in enumerate(("math", "algebra"))]
    assert [row["data_source"] for row in make(tmp_path, rows)] == ["math", "algebra"]
    lines = describe(load_problems(tmp_path / "mine.parquet"), 1)
    assert lines[0].startswith("math: 1 problems") and "not the 500 problems of MATH-500" in lines[0]


@pytest.mark.parametrize("name", ["math500", "MATH-500", "aime_2024", "gpqa_diamond", "valid", "valid.all", "openr1", "../x", "a b", ""])
def test_names_that_are_taken_or_no_names(tmp_path, name):
    with pytest.raises(InputError, match="--name"):
        make(tmp_path, [{"problem": "1+1?", "answer": "2"}], name=name)
    assert [path.name for path in tmp_path.iterdir()] == ["problems.jsonl"]


@pytest.mark.parametrize("bad", [{"problem": "", "answer": "2"}, {"problem": "  ", "answer": "2"}, {"problem": "1?", "answer": None}])
def test_rows_without_problem_or_answer_are_named(tmp_path, bad):
    with pytest.raises(InputError, match=r"row 1: no problem or no gold answer \(1 of 2 rows\)"):
        make(tmp_path, [{"problem": "1+1?", "answer": "2"}, bad])
    assert not (tmp_path / "mine.parquet").exists()


def test_a_training_set_is_not_replaced(tmp_path):
    train = pa.Table.from_pylist([{"prompt": [], "target": []}], schema=arrow_schema("train"))
    pq.write_table(train, tmp_path / "mine.parquet")
    with pytest.raises(InputError, match="mine.parquet is a training set"):
        make(tmp_path, [{"problem": "1+1?", "answer": "2"}])
    assert pq.read_table(tmp_path / "mine.parquet") == train
    for _ in range(2):
        make(tmp_path, [{"problem": "1+1?", "answer": "2"}], name="mine_test")
