"""A training file is split by problem, the same way each time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import read_rows

from luffy.data import held_out
from luffy.data.held_out import split_held_out
from luffy.data.schema import arrow_schema
from luffy.errors import InputError


def training_file(folder: Path, questions: list[str]) -> Path:
    rows = [
        {
            "data_source": "mine",
            "prompt": [{"role": "system", "content": f"s{i}"}, {"role": "user", "content": question}],
            "target": [{"role": "assistant", "content": f"t{i}"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(i)},
            "extra_info": {"index": i, "split": "train"},
        }
        for i, question in enumerate(questions)
    ]
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema("train")), folder / "mine.parquet")
    return folder / "mine.parquet"


def numbers(path: Path) -> list[int]:
    return [row["extra_info"]["index"] for row in read_rows(path)]


def test_both_sides_together_are_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "_ROWS_AT_ONCE", 7)
    file = training_file(tmp_path, [f"problem {i}" for i in range(50)])
    split = split_held_out(file, tmp_path, seed=1, rows=8)
    assert (split.train_rows, split.held_out_rows) == (42, 8)
    assert sorted(numbers(split.train) + numbers(split.held_out)) == list(range(50))
    assert numbers(split.train) == sorted(numbers(split.train))
    everything = read_rows(file)
    assert read_rows(split.held_out) == [everything[i] for i in numbers(split.held_out)]
    assert pq.read_schema(split.train).equals(arrow_schema("train"))


def test_a_problem_is_on_one_side_only_whatever_its_spacing(tmp_path):
    variants = ["What is {}+1?", "what is  {} + 1", "What is ${}+1$?", "WHAT IS {}+1 ?"]
    file = training_file(tmp_path, [variants[i % 4].format(i // 4) for i in range(80)])
    split = split_held_out(file, tmp_path, seed=0, rows=16)
    assert split.held_out_rows == 16
    held = {i // 4 for i in numbers(split.held_out)}
    assert len(held) == 4 and held.isdisjoint(i // 4 for i in numbers(split.train))


def test_the_seed_decides_and_the_order_of_rows_does_not(tmp_path):
    questions = [f"problem {i}" for i in range(60)]
    file, turned = training_file(tmp_path / "a", questions), training_file(tmp_path / "b", questions[::-1])
    one = split_held_out(file, tmp_path / "one", seed=3, rows=10)
    again = split_held_out(file, tmp_path / "again", seed=3, rows=10)
    other = split_held_out(file, tmp_path / "other", seed=4, rows=10)
    reverse = split_held_out(turned, tmp_path / "reverse", seed=3, rows=10)
    assert one.held_out.read_bytes() == again.held_out.read_bytes()
    assert one.train.read_bytes() == again.train.read_bytes()
    assert numbers(one.held_out) != numbers(other.held_out)
    assert sorted(59 - i for i in numbers(reverse.held_out)) == numbers(one.held_out)


@pytest.mark.parametrize("rows", [0, 4])
def test_what_cannot_be_held_out_is_refused(tmp_path, rows):
    file = training_file(tmp_path, ["a", "b", "c", "d"])
    with pytest.raises(InputError, match="from 1 to 3"):
        split_held_out(file, tmp_path, seed=0, rows=rows)


def test_a_file_of_one_problem_cannot_be_split(tmp_path):
    file = training_file(tmp_path, ["the same"] * 4)
    with pytest.raises(InputError, match="too few problems to hold 4 of its 4 rows out"):
        split_held_out(file, tmp_path, seed=0, rows=1)
    assert not list(tmp_path.glob("mine_*"))
