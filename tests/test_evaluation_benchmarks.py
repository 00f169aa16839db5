"""Files of problems: repeats, bad rows, and the real sets where they are."""

import json
import os
import random
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from luffy.benchmarks import BENCHMARKS, GPQA_REQUEST, Benchmark, benchmark, benchmark_kind
from luffy.benchmarks.prepare import PREPARED
from luffy.errors import InputError
from luffy.evaluation.prompts import describe, load_problems
from luffy.rewards import kind_for

REAL = Path(os.environ.get("LUFFY_BENCHMARKS", Path(__file__).resolve().parents[2] / "shared" / "benchmarks"))


def make_row(question: str = "1+1?", gold="2", source: str = "math", **changes) -> dict:
    row = {
        "data_source": source,
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": question}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {"index": 0, "split": "default"},
    }
    return {**row, **changes}


def write(path: Path, rows: list[dict]) -> Path:
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_repeated_rows_are_one_problem_with_several_samples(tmp_path):
    rows = [make_row("a"), make_row("b"), make_row("a"), make_row("a", gold="3"), make_row("a", source="aime")] * 2
    problems = load_problems(write(tmp_path / "p.parquet", rows))
    assert [(p.index, p.messages[1]["content"], p.gold, p.benchmark, p.repeats) for p in problems] == [
        (0, "a", "2", "math", 4),
        (1, "b", "2", "math", 2),
        (2, "a", "3", "math", 2),
        (3, "a", "2", "aime", 2),
    ]
    assert len({p.key for p in problems}) == 4
    assert describe(problems, 2) == [
        "math: 3 problems, 4 to 8 samples of each, 16 in all (not the 500 problems of MATH-500, so it stays 'math' in tables)",
        "aime: 1 problems, 4 samples of each, 4 in all (not the 30 problems of AIME 2024, so it stays 'aime' in tables)",
    ]


def test_a_problems_key_is_the_same_in_every_file(tmp_path):
    one = load_problems(write(tmp_path / "1.parquet", [make_row("a"), make_row("b")]))
    two = load_problems(write(tmp_path / "2.parquet", [make_row("b")]))
    assert one[1].key == two[0].key and one[1].index != two[0].index


def test_limit_counts_rows(tmp_path):
    path = write(tmp_path / "p.parquet", [make_row("a"), make_row("a"), make_row("b")])
    assert [(p.repeats, p.of) for p in load_problems(path, limit=2)] == [(2, 2)]


def test_several_golds_are_kept(tmp_path):
    assert load_problems(write(tmp_path / "p.parquet", [make_row(gold=["2", "two"])]))[0].gold == ["2", "two"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([make_row(), make_row(gold="")], "row 1: no gold answer"),
        ([make_row(reward_model={"style": "rule"})], "row 0: no gold answer"),
        ([make_row(gold=float("nan"))], "row 0: no gold answer"),
        ([make_row(gold=float("inf"))], "row 0: no gold answer"),
        ([make_row(), make_row(gold="NaN")], "row 1: no gold answer"),
        ([make_row(gold=["1", ""])], "row 0: no gold answer"),
        ([make_row(source=None)], "row 0: column 'data_source' must be text"),
        ([make_row(source=" ")], "row 0: column 'data_source' must be text"),
        ([make_row(prompt="text")], "row 0: column 'prompt' must be a list of messages"),
        ([{"data_source": "math", "question": "?"}], "no column prompt, reward_model; it has data_source, question"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        load_problems(write(tmp_path / "p.parquet", rows))


def test_problems_in_json_are_read_and_broken_text_is_its_row(tmp_path):
    rows = [make_row(), make_row(gold=["2", "two"])]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [problem.gold for problem in load_problems(tmp_path / "p.jsonl")] == ["2", ["2", "two"]]
    (tmp_path / "q.jsonl").write_text(json.dumps(make_row()) + '\n{"data_source": "math"}\n')
    with pytest.raises(InputError, match="row 1: column 'prompt' must be a list"):
        load_problems(tmp_path / "q.jsonl")
    (tmp_path / "q.jsonl").write_text(json.dumps(make_row(question="cut \ud83d")) + "\n")
    with pytest.raises(InputError, match="row 0: the prompt holds half a character"):
        load_problems(tmp_path / "q.jsonl")
    table = pa.Table.from_pylist([make_row()] * 2)
    sources = pa.array([b"math", b"\xed\xa0\xbd"], pa.binary()).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("data_source"), "data_source", sources), tmp_path / "r.parquet")
    with pytest.raises(InputError, match="r.parquet row 1 cannot be read"):
        load_problems(tmp_path / "r.parquet")


def test_golds_that_stand_for_no_answer_are_said(tmp_path, caplog):
    load_problems(write(tmp_path / "p.parquet", [make_row(gold="7"), make_row(gold="proof"), make_row(gold="N/A")]))
    assert '2 gold answers stand for none, such as "proof"' in caplog.text


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_problems(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match="is no whole parquet file"):
        load_problems(tmp_path / "text.parquet")
    write(tmp_path / "empty.parquet", [make_row()])
    pd.DataFrame([make_row()]).iloc[:0].to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="no rows|must be"):
        load_problems(tmp_path / "empty.parquet")


def test_groups_and_kinds_of_the_papers_benchmarks():
    assert [b.name for b in BENCHMARKS if b.group == "in-distribution"] == [
        "aime", "aime25", "amc", "math", "minerva", "olympiad_bench"
    ]  # fmt: skip
    choices = {"arc_c", "gpqa", "mmlu_pro", "gpqa_main", "gpqa_extended"}
    assert {b.name for b in BENCHMARKS if kind_for(b.name) == "choice"} == choices
    assert benchmark("my_set", problems=3).title == "my_set" and benchmark("my_set", problems=3).group == "other"


def test_sizes_and_samples_of_the_nine_that_are_prepared():
    assert {name: (entry.problems, entry.samples) for name, entry in PREPARED.items()} == {
        "aime": (30, 32), "aime25": (30, 32), "amc": (83, 32), "math": (500, 1), "minerva": (272, 1), "olympiad_bench": (675, 1),
        "arc_c": (1172, 1), "gpqa": (198, 1), "mmlu_pro": (12032, 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("math", "math MATH-500 aime AIME2024 amc minerva_math olympiad"),
        ("choice", "ARC-E arc_easy leaderboard_arc_challenge allenai/ai2_arc gpqa_mine leaderboard_gpqa mmlu mmlu_stem MMLU-Pro"),
        (None, "openr1 numina gsm8k algebra mmath"),
    ],
)
def test_kinds_of_sources(kind, names):
    assert {benchmark_kind(name) for name in names.split()} == {kind}


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("MATH-500", "MATH-500 math500 math_500 HuggingFaceH4/MATH-500 Math-500 ＭＡＴＨ－５００"),
        ("AIME 2024", "AIME2024 aime_2024 AIME-24 aime24 HuggingFaceH4/aime_2024 Maxwell-Jia/AIME_2024 AIME'24"),
        ("AIME 2025", "aime25 AIME2025 aime-2025 math-ai/aime25 opencompass/AIME2025 AIME_2025"),
        ("AMC", "AI-MO/aimo-validation-amc aimo_validation_amc"),
        ("Minerva", "math-ai/minervamath minerva_math Minerva-Math"),
        ("Olympiad", "olympiad_bench OlympiadBench knoveleng/OlympiadBench Hothan/OlympiadBench"),
        ("ARC-c", "arc_c ARC-C ARC-Challenge arc_challenge allenai/ai2_arc/ARC-Challenge allenai/ai2_arc:ARC-Challenge ai2_arc/challenge"),
        ("GPQA-diamond", "gpqa_diamond GPQA-Diamond Idavidrein/gpqa:gpqa_diamond gpqa:diamond Idavidrein/gpqa/diamond gpqa_diamond/test"),
        ("MMLU-Pro", "mmlu_pro MMLU-Pro TIGER-Lab/MMLU-Pro mmlupro"),
        ("GPQA-main", "gpqa_main GPQA-Main"),
        ("GPQA-extended", "gpqa_extended"),
    ],
)
def test_usual_spellings_are_one_benchmark_whatever_part_of_it_is_there(title, names):
    assert [benchmark(name, problems=3).title for name in names.split()] == [title] * len(names.split())


@pytest.mark.parametrize(
    "name",
    ["math", "Math", "aime", "amc", "amc23", "minerva", "gpqa", "arc", "olympiad", "mathematics", "math501", "my-math500s"]
    + ["aime_1983_2024", "AI-MO/aimo-validation-aime", "lighteval/MATH", "gpqa_mine", "mmlu", "luffy_tiny"],
)
def test_an_own_set_keeps_its_name(name):
    assert benchmark(name, problems=40) == Benchmark(name=name, title=name, group="other")


def test_a_shared_name_with_all_problems_is_the_benchmark_and_more_of_them_never_are():
    whole = {"math": 500, "aime": 30, "amc": 83, "minerva": 272, "gpqa": 198, "olympiad_bench": 675}
    assert {benchmark(name, problems=size).name for name, size in whole.items()} == whole.keys()
    assert benchmark("MATH-500", problems=5000).title == "MATH-500" and benchmark("MATH-500", problems=5000).group == "other"
    assert benchmark("gpqa", problems=448).title == "gpqa"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "valid.all.parquet",
            {"aime": (30, 32), "aime25": (30, 32), "amc": (83, 32), "math": (500, 1), "minerva": (272, 1),
             "olympiad_bench": (675, 1)},
        ),
        ("valid.arc_c.parquet", {"arc_c": (1172, 1)}),
        ("valid.gpqa.parquet", {"gpqa": (198, 1)}),
    ],
)  # fmt: skip
def test_the_real_sets_are_recognised(name, expected):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"{name} is not there; set LUFFY_BENCHMARKS to the folder that has it")
    problems = load_problems(path)
    found = {b: [p.repeats for p in problems if p.benchmark == b] for b in {p.benchmark for p in problems}}
    assert {name: (len(repeats), *set(repeats)) for name, repeats in found.items()} == expected
    assert all(benchmark(p.benchmark, problems=p.of).name == p.benchmark for p in problems)
    assert all("stays" not in line for line in describe(load_problems(path, limit=4), 1))  # a part of it is still a part of it


def test_gpqa_asks_for_the_letter_as_published():
    row = {"Question": "Which?", "Correct Answer": "w", **{f"Incorrect Answer {i}": str(i) for i in (1, 2, 3)}}
    question, gold = PREPARED["gpqa"].read(*row.values(), seed="0-0")
    assert question.startswith(
        "Answer the following multiple choice question. The last line of your response should be of the following format: "
        "'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering.\n\nWhich?\n\nA) "
    )
    assert f"\n{gold}) w" in question and not question.endswith("\n") and question.count("\n") == 7


@pytest.mark.parametrize(("name", "letters", "expected"), [("gpqa", "ABCD", 198), ("arc_c", "ABCDE", 1150)])
def test_prompts_are_the_originals_to_the_letter(name, letters, expected):
    """Each question and its options are taken out of the original's prompt, and put together again."""
    path = REAL / f"valid.{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there; set LUFFY_BENCHMARKS to the folder that has it")
    same = 0
    for row in pd.read_parquet(path).to_dict("records"):
        prompt, gold = row["prompt"][-1]["content"], row["reward_model"]["ground_truth"]
        question, *options = re.split(rf"\n(?=[{letters}]\) )", prompt.removeprefix(GPQA_REQUEST))
        if options and question.endswith("\n"):  # options with digits for letters (22 of ARC) get letters here, which the verifier reads
            question, options = question.removesuffix("\n"), [option[3:] for option in options]
            options[-1] = options[-1].removesuffix("\n") if name == "arc_c" else options[-1]
            same += _put_together(name, question, options, letters.index(gold)) == (prompt, gold)
    assert same == expected


def _put_together(name: str, question: str, options: list[str], right: int) -> tuple[str, str]:
    if name == "arc_c":
        choices = {"text": options, "label": list("ABCDE")[: len(options)]}
        return PREPARED[name].read(question, choices, "ABCDE"[right], seed="")
    seed = next(str(seed) for seed in range(1000) if random.Random(str(seed)).sample(range(4), 4).index(0) == right)
    order = random.Random(seed).sample(range(4), 4)
    source = [options[order.index(place)] for place in range(4)]
    return PREPARED[name].read(question, *source, seed=seed)
