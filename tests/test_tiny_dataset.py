"""The embedded example's data files, in the project's training layout."""

import pytest

from luffy.errors import InputError
from luffy.traces import read_traces
from miniature.dataset import HARDER_FILE, HELDOUT_FILE, TRAIN_FILE, DataRecipe, Teacher, tables
from miniature.task import totals, verify

SMALL = DataRecipe(n_prompts=40, n_heldout=10)


def rows(recipe, seed=0, file=TRAIN_FILE):
    return tables(recipe, seed)[file].to_pylist()


def digits(row):
    return row["prompt"][0]["content"].removesuffix("=")


def traces(row):
    return read_traces(row["target"], row["target_source"])


def verdicts(table):
    return [verify(trace.text, row["reward_model"]["ground_truth"]) for row in table for trace in traces(row)]


def test_a_row_has_the_training_layout():
    row = rows(SMALL)[3]
    assert list(row) == ["data_source", "prompt", "ability", "reward_model", "extra_info", "target", "target_source"]
    assert row["data_source"] == "luffy_tiny" and row["ability"] == "math"
    assert [message["role"] for message in row["prompt"]] == ["user"]
    assert row["reward_model"] == {"style": "rule", "ground_truth": totals(digits(row))}
    assert row["extra_info"] == {"index": 3, "split": "train"}
    assert [message["role"] for message in row["target"]] == ["assistant"] and row["target_source"] == ["expert"]


def test_every_trace_is_right():
    assert verdicts(rows(SMALL)) == [True] * 40


def test_held_out_problems_are_new_and_have_no_traces():
    train = {digits(row) for row in rows(DataRecipe(n_prompts=2048))}
    heldout = {digits(row) for row in rows(DataRecipe(), file=HELDOUT_FILE)}
    harder = {digits(row) for row in rows(DataRecipe(), file=HARDER_FILE)}
    assert (len(train), len(heldout), len(harder)) == (2048, 256, 256)
    assert not train & heldout
    assert {len(row) for row in train | heldout} == {8} and {len(row) for row in harder} == {9}
    assert "target" not in rows(SMALL, file=HELDOUT_FILE)[0]


def test_held_out_problems_do_not_depend_on_the_training_recipe():
    other = DataRecipe(n_prompts=16, wrong_share=0.5, n_heldout=10)
    assert rows(SMALL, file=HELDOUT_FILE) == rows(other, file=HELDOUT_FILE)
    assert rows(SMALL, file=HARDER_FILE) == rows(other, file=HARDER_FILE)


def test_few_traces():
    table = rows(DataRecipe(n_prompts=40, n_traces=16, n_heldout=10))
    assert [len(traces(row)) for row in table] == [1] * 16 + [0] * 24
    assert [digits(row) for row in table] == [digits(row) for row in rows(SMALL)]


@pytest.mark.parametrize(("share", "wrong"), [(0.0, 0), (0.25, 10), (0.51, 20), (1.0, 40)])
def test_a_share_of_wrong_traces(share, wrong):
    assert verdicts(rows(DataRecipe(n_prompts=40, wrong_share=share, n_heldout=10))).count(False) == wrong


def test_a_teacher_that_checks_writes_long_right_traces():
    table = rows(DataRecipe(n_prompts=8, n_heldout=10, teachers=(Teacher(checks=True),)))
    assert all(verdicts(table)) and {len(row["target"][0]["content"]) for row in table} == {106}


def test_teachers_have_their_own_style():
    teachers = (Teacher(name="comma", semicolon_share=0.0), Teacher(name="semicolon", semicolon_share=1.0))
    table = rows(DataRecipe(n_prompts=8, n_heldout=10, teachers=teachers))
    for row in table:
        comma, semicolon = traces(row)
        assert (comma.source, semicolon.source) == ("comma", "semicolon")
        assert (comma.text.count(","), comma.text.count(";")) == (7, 0)
        assert semicolon.text == comma.text.replace(",", ";")


def test_equal_seeds_give_equal_data_and_others_do_not():
    assert tables(SMALL, 1) == tables(SMALL, 1)
    for name, table in tables(SMALL, 1).items():
        assert table != tables(SMALL, 2)[name]


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_prompts": 0},
        {"n_heldout": 0},
        {"n_traces": -1},
        {"n_prompts": 10, "n_traces": 11},
        {"wrong_share": 1.5},
        {"wrong_share": 0.5, "teachers": (Teacher(checks=True),)},
        {"teachers": ()},
        {"teachers": (Teacher(), Teacher())},
    ],
)
def test_impossible_recipes(wrong):
    with pytest.raises(InputError):
        DataRecipe(**wrong)


def test_an_impossible_teacher():
    with pytest.raises(InputError, match="'expert' has a semicolon share of -0.1"):
        Teacher(semicolon_share=-0.1)
