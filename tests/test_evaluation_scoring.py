"""Scoring alone: verdicts, the gate, the second verdict, resuming, and what belongs to another run."""

import json
from pathlib import Path

import pytest

from luffy.errors import InputError
from luffy.evaluation import manifest
from luffy.evaluation.samples import SampleLog, read_rows
from luffy.evaluation.scoring import Scoring, score

pytestmark = pytest.mark.usefixtures("shared_grader")

PLAIN = "Q\nAssistant:"
THINKING = "Q\n<think>\n"


def sample(number: int, response: str, *, gold="7", benchmark="math", prompt=PLAIN, finish_reason="stop") -> dict:
    return {
        "benchmark": benchmark,
        "problem": number,
        "sample": 0,
        "prompt": prompt,
        "response": response,
        "gold": gold,
        "length": len(response),
        "finish_reason": finish_reason,
    }


def decoded_file(folder: Path, rows: list[dict], name: str = "m") -> Path:
    path = folder / f"{name}.decoded.jsonl"
    with SampleLog(path) as log:
        for row in rows:
            log.append(row)
    return path


def scored(path: Path, scoring: Scoring = Scoring(workers=1), **options) -> list[dict]:
    score(path, scoring, **options)
    return list(read_rows(options.get("output") or path.with_name("m.jsonl")))


def test_a_scored_row_holds_everything(tmp_path):
    rows = scored(decoded_file(tmp_path, [sample(0, "so \\boxed{7}"), sample(1, "so \\boxed{8}")]))
    assert rows[0] == {
        "benchmark": "math",
        "problem": 0,
        "sample": 0,
        "prompt": PLAIN,
        "response": "so \\boxed{7}",
        "gold": "7",
        "answer": "7",
        "correct": True,
        "reason": "correct",
        "length": 12,
        "finish_reason": "stop",
    }
    assert (rows[1]["correct"], rows[1]["reason"], rows[1]["answer"]) == (False, "wrong", "8")
    summary = json.loads((tmp_path / "m.summary.json").read_text())
    assert summary[0]["rows"][0]["cells"]["math"]["accuracy"]["value"] == 50.0


def test_the_gate_follows_the_prompt_unless_told_otherwise(tmp_path):
    unclosed, closed = "I think \\boxed{7}", "I think 9 </think> \\boxed{7}"
    rows = [
        sample(0, unclosed, prompt=THINKING),
        sample(1, closed, prompt=THINKING),
        sample(2, unclosed),
        sample(3, unclosed, prompt=THINKING, finish_reason="length"),
    ]
    path = decoded_file(tmp_path, rows)

    def verdicts(**options) -> list[tuple[bool, str]]:
        found = scored(path, Scoring(workers=1, **options), overwrite=True)
        return [(row["correct"], row["reason"]) for row in found]

    assert verdicts() == [(False, "gate failed"), (True, "correct"), (True, "correct"), (False, "truncated")]
    assert [c for c, _ in verdicts(thought_gate="off")] == [True, True, True, True]
    assert [c for c, _ in verdicts(thought_gate="on")] == [False, True, False, False]
    assert [c for c, _ in verdicts(add_think_before_answer=True)] == [False, True, False, False]


def test_the_boxed_verdict_beside_the_other(tmp_path):
    responses = ["the answer is 7", "\\boxed{7}", "the answer is 8", "\\boxed{7} </think> the answer is 7"]
    path = decoded_file(tmp_path, [sample(number, response) for number, response in enumerate(responses)])
    strict = scored(path, Scoring(workers=1, add_oat_evaluate=True))
    assert [row["correct_math_verify"] for row in strict] == [True, True, False, True]
    assert [row["correct_boxed"] for row in strict] == [row["correct"] for row in strict] == [False, True, False, False]
    assert [row["reason"] for row in strict] == ["no answer found", "correct", "no answer found", "no answer found"]
    lenient = scored(path, Scoring(workers=1, add_oat_evaluate=True, any_true=True), overwrite=True)
    assert [row["correct"] for row in lenient] == [True, True, False, True]


def test_multiple_choice(tmp_path):
    rows = [
        sample(0, "so ANSWER: C", gold="C", benchmark="gpqa"),
        sample(1, "\\boxed{B}", gold="C", benchmark="arc_c"),
        sample(2, "\\boxed{\\text{(D)}}", gold="D", benchmark="mmlu_pro"),
    ]
    assert [row["correct"] for row in scored(decoded_file(tmp_path, rows))] == [True, False, True]


def test_scoring_resumes_and_repeats_to_the_same_bytes(tmp_path):
    path = decoded_file(tmp_path, [sample(n, f"\\boxed{{{n}}}", gold="3") for n in range(8)])
    scored(path)
    whole = (tmp_path / "m.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept in (lines[5:2:-1] + [lines[0][:20]], [], lines):
        (tmp_path / "m.jsonl").write_bytes(b"".join(kept))
        scored(path)
        assert (tmp_path / "m.jsonl").read_bytes() == whole


def test_scores_of_another_kind_or_of_other_samples_are_refused(tmp_path):
    path = decoded_file(tmp_path, [sample(0, "\\boxed{7}")])
    manifest.claim(path, manifest.GENERATION, {"seed": 0}, results=tmp_path / "none", overwrite=False)
    scored(path)
    with pytest.raises(InputError, match="thought_gate 'auto' there, 'on' here.*eval_scripts/score.py"):
        scored(path, Scoring(workers=1, thought_gate="on"))
    scored(path, Scoring(workers=2))  # the number of workers changes nothing
    manifest.claim(path, manifest.GENERATION, {"seed": 1}, results=tmp_path / "none", overwrite=False)
    with pytest.raises(InputError, match="samples '.*' there"):
        scored(path)


def test_scores_in_another_place_know_how_their_samples_were_made(tmp_path):
    path = decoded_file(tmp_path, [sample(0, "\\boxed{7}")])
    manifest.claim(path, manifest.GENERATION, {"temperature": 0.25}, results=tmp_path / "none", overwrite=False)
    scored(path, output=tmp_path / "elsewhere" / "x.jsonl")
    assert manifest.read_manifest(tmp_path / "elsewhere" / "x.jsonl")["generation"] == {"temperature": 0.25}


def test_bad_input_files(tmp_path):
    with pytest.raises(InputError, match="no such file; give the .decoded.jsonl"):
        score(tmp_path / "absent.decoded.jsonl", Scoring())
    path = decoded_file(tmp_path, [sample(0, "x")])
    with pytest.raises(InputError, match="would be overwritten by its scores"):
        score(path, Scoring(), output=path)
    (tmp_path / "other.decoded.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="line 1 is not a sample"):
        score(tmp_path / "other.decoded.jsonl", Scoring())


def test_results_without_a_manifest_are_refused_and_a_damaged_one_is_named(tmp_path):
    results = tmp_path / "m.decoded.jsonl"
    results.write_text("{}\n")
    with pytest.raises(InputError, match="no manifest beside it"):
        manifest.claim(tmp_path / "m.jsonl", manifest.GENERATION, {"n": 1}, results=results, overwrite=False)
    manifest.claim(tmp_path / "m.jsonl", manifest.GENERATION, {"n": 1}, results=results, overwrite=True)
    assert not results.exists()
    manifest.manifest_path(tmp_path / "m.jsonl").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        manifest.read_manifest(tmp_path / "m.jsonl")
