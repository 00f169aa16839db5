"""Traces from teachers: a real server of the protocol on loopback, its faults, what is kept, what is refused, and kills at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_sets import ROOT, read_rows, run_script, save_tokenizer, write_lines
from openai_server import SLOW_S, Teacher, answer_to, right_answer, serving

from luffy.data.check import check_training_file
from luffy.data.schema import arrow_schema
from luffy.digests import uniform
from luffy.evaluation.engine import Sampling
from luffy.teachers.answers import Given
from luffy.teachers.choice import choose, likeness
from luffy.teachers.pace import Budget, Pace, Price
from luffy.teachers.probabilities import (
    END_TAKEN_AS_1,
    GREEDY,
    KNOWN,
    NO_TOKENIZER,
    NONE_GIVEN,
    OTHER_DISTRIBUTION,
    OTHER_PIECES,
    OTHER_TOKENIZER,
    Probabilities,
    TokenMatch,
    same_tokenizer,
)
from luffy.teachers.server import Server
from luffy.teachers.wire import Pieces, error_message
from miniature.tokenizer import build_tokenizer

KEY = "sk-planted-4711"
QUESTIONS = [f"What is {number} plus {number * 7 % 11}?" for number in range(40)]


def problems(folder: Path, count: int = len(QUESTIONS), **columns: Any) -> Path:
    rows = [{"problem": each, "answer": str(right_answer(each)), **columns} for each in QUESTIONS[:count]]
    return write_lines(folder / "problems.jsonl", rows)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "traces.parquet"


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch, shared_grader: None, tmp_path: Path, output: Path):
    """Run the command in this process, quickly patient; gives its exit code."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(*arguments: object, source: Path | None = None) -> int:
        quick = ["--output", output, "--max-tokens", 64, "--backoff", 0.02, "--num-workers", 1]
        return run_script(monkeypatch, "collect_traces.py", "--problems", source or problems(tmp_path), *quick, *arguments)

    return run


def report(output: Path) -> dict[str, Any]:
    return json.loads((output.parent / f"{output.stem}_report" / "report.json").read_text())


def decoded(output: Path) -> list[dict[str, Any]]:
    (file,) = (output.parent / f"{output.stem}_answers").glob("*.decoded.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_right_answers_become_the_training_layout(collect, output):
    """What is expected is counted here from the server's own rule, whose draws are read from the seeds that it was sent."""
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 4, "--keep", 2, "--name", "expert|1") == 0
    sent = {(body["messages"][-1]["content"], body["seed"]) for body in teacher.bodies}
    assert len(sent) == len(teacher.bodies) == 160
    texts = {key: answer_to(*key) for key in sent}
    right = {key for key, (text, end) in texts.items() if end == "stop" and "</think>" in text and f"{{{right_answer(key[0])}}}" in text}
    rows = read_rows(output)
    assert pq.read_schema(output).equals(arrow_schema("train"))
    assert [row["prompt"][-1]["content"] for row in rows] == [each for each in QUESTIONS if any(key[0] == each for key in right)]
    for row in rows:
        question = row["prompt"][-1]["content"]
        possible = {texts[key][0] for key in right if key[0] == question}
        assert {each["content"] for each in row["target"]} <= possible
        assert len(row["target"]) == min(2, len(possible)) == len(row["target_source"])
        assert set(row["target_source"]) == {"expert|1"}
    (tally,) = report(output)["teachers"]
    assert tally["outcomes"]["right"] == len(right)
    assert tally["outcomes"]["empty"] == sum(text == "" for text, _ in texts.values())
    assert tally["outcomes"]["refusal"] == sum(text.startswith("I'm sorry") for text, _ in texts.values())
    assert tally["outcomes"]["truncated"] == sum(end == "length" for _, end in texts.values())
    assert tally["outcomes"]["think_tags_missing"] == sum(text.startswith("without") for text, _ in texts.values())
    assert sum(tally["outcomes"].values()) == 160
    assert tally["prompt_tokens"] == 1600
    assert tally["solved"] == len(rows)
    assert tally["kept"] == sum(len(row["target"]) for row in rows) == report(output)["traces"]
    assert "expert\\|1" in (output.parent / "traces_report" / "report.md").read_text()  # a name is no markup
    assert (output.parent / "traces_report" / "lengths.png").stat().st_size > 1000
    assert [str(found) for found in check_training_file(output)] == []


def test_every_fault_that_passes_is_waited_out(collect, output):
    """Each request's first tries fail in some way; in the end the answers are those of a server without faults, each written once."""
    kinds = ["429", "500", "cut", "no_json", "html"]

    def fault(name: str, tries: int) -> str | None:
        first = kinds[int(uniform(name) * len(kinds))]
        return first if tries == 1 else "429" if tries == 2 and uniform("again", name) < 0.5 else None

    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 2) == 0
        faultless, expected = read_rows(output), decoded(output)
    with serving(fault=fault) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 2, "--overwrite") == 0
    assert read_rows(output) == faultless
    assert decoded(output) == expected
    assert set(teacher.answered.values()) == {1}
    assert min(teacher.tries.values()) == 2
    assert report(output)["teachers"][0]["lost_tokens"] > 0


def test_many_requests_at_once_and_fewer_when_the_server_is_busy(collect, output):
    with serving(delay_s=0.02) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 4, "--concurrency", 12) == 0
    assert 8 <= teacher.busiest <= 12
    with serving(delay_s=0.02, fault=lambda name, tries: "429" if teacher.active > 3 else None) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 4, "--concurrency", 12, "--overwrite", "--retries", 50) == 0
    assert sum(teacher.answered.values()) == 160
    assert sum(teacher.tries.values()) < 320  # a fixed pace of 12 would be refused three times of four


def test_what_cannot_be_an_answer_is_counted_and_not_asked_again(collect, output):
    def fault(name: str, tries: int) -> str | None:
        return {"0": "huge", "1": "400 the prompt is too long"}.get(name.split()[2][-1:])

    with serving(fault=fault) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1, "--keep-wrong", "--without-traces") == 0
        assert set(teacher.tries.values()) == {1}
        outcomes = report(output)["teachers"][0]["outcomes"]
        assert (outcomes["too_large"], outcomes["declined"]) == (4, 4)  # numbers below 40 that end with 0, and with 1
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
        assert set(teacher.tries.values()) == {1}
    assert sum(outcomes.values()) == 40


def test_a_slow_answer_is_given_up_and_asked_again(collect, output):
    with serving(fault=lambda name, tries: "slow" if tries == 1 and "What is 3 " in name else None) as teacher:
        began = time.monotonic()
        assert collect("--teacher", teacher.url, "--samples", 1, "--timeout", 0.5) == 0
    assert time.monotonic() - began < SLOW_S + 10
    assert [tries for name, tries in teacher.tries.items() if "What is 3 " in name] == [2]


def test_a_thought_that_comes_apart_and_one_that_the_prompt_opened(collect, output):
    def opened(question: str, seed: int) -> tuple[str, str]:
        return f"thinking\n</think>\n\\boxed{{{right_answer(question)}}}", "stop"

    with serving(answer=opened, fault=lambda name, tries: "plain" if "What is 1 " in name else None) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
    first, second = (row["target"][0]["content"] for row in read_rows(output)[:2])
    assert first == "<think>\nthinking\n</think>\n\\boxed{0}"
    assert second == "<think>\napart\n</think>\n\n\\boxed{8}"
    assert report(output)["teachers"][0]["estimated"] == 1  # the answer in one piece says no tokens


def test_an_optional_field_that_a_server_does_not_know_is_left_out(collect, output):
    def fault(name: str, tries: int) -> str | None:
        return "400 Unsupported parameter: 'max_tokens'" if "max_tokens" in teacher.bodies[-1] else None

    with serving(fault=fault) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
    assert [body.get("max_completion_tokens") for body in teacher.bodies[1:]] == [64] * 40
    assert report(output)["teachers"][0]["left_out"] == ["max_tokens"]


def test_a_budget_is_never_passed_and_a_larger_one_goes_on(collect, output):
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 4, "--max-tokens-total", 2000) == 0
        part = report(output)
        used = part["teachers"][0]["prompt_tokens"] + part["teachers"][0]["tokens"]
        assert part["stopped"] and 0 < used <= 2000
        assert sum(teacher.answered.values()) < 160
        # 10 tokens of each prompt at 1000 a million, answers at 100 000: 0.01 a prompt, 0.1 a token of an answer
        cost = ("--price", 1000, 100_000, "--max-cost")
        assert collect("--teacher", teacher.url, "--samples", 4, *cost, 1000) == 0
    whole = report(output)
    assert not whole["stopped"] and set(teacher.answered.values()) == {1} and len(teacher.answered) == 160
    tally = whole["teachers"][0]
    assert tally["cost"] == pytest.approx(0.001 * tally["prompt_tokens"] + 0.1 * tally["tokens"], rel=1e-12)


def test_the_policy_is_asked_first_and_what_it_solves_is_left_alone(collect, output):
    """The policy knows sums of even first numbers: these are asked of no teacher, and the others keep its share of 0."""

    def knows_even(question: str, seed: int) -> tuple[str, str]:
        found = right_answer(question) if int(question.split()[2]) % 2 == 0 else -1
        return f"<think>\n{seed}\n</think>\n\\boxed{{{found}}}", "stop"

    with serving(answer=knows_even) as policy, serving() as teacher:
        arguments = ("--teacher", teacher.url, "--policy", policy.url, "--policy-samples", 3, "--skip-solved", 0.9)
        assert collect(*arguments, "--samples", 2) == 0
        assert len(policy.bodies) == 120 and {body["temperature"] for body in policy.bodies} == {1.0}
        assert {int(body["messages"][-1]["content"].split()[2]) % 2 for body in teacher.bodies} == {1}
        assert {row["policy_success"] for row in read_rows(output)} == {0.0}
        assert report(output)["skipped"] == 20
        assert collect(*arguments, "--samples", 2, "--without-traces") == 0
    rows = read_rows(output)
    assert len(rows) == 40 and [row["policy_success"] for row in rows] == [float(number % 2 == 0) for number in range(40)]
    assert [row["target"] is None for row in rows[::2]] == [True] * 20
    assert len(policy.bodies) == 120 and len(teacher.bodies) == 40  # nothing twice


def test_wrong_answers_are_kept_and_marked_when_asked(collect, output):
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 4, "--keep", 4, "--keep-wrong") == 0
    for row in read_rows(output):
        for message, right in zip(row["target"], row["target_correct"], strict=True):
            assert (f"{{{row['reward_model']['ground_truth']}}}" in message["content"]) is right
    assert {right for row in read_rows(output) for right in row["target_correct"]} == {True, False}


def test_two_teachers_take_turns(collect, output):
    def always(question: str, seed: int) -> tuple[str, str]:
        return f"<think>\n{seed}\n</think>\n\\boxed{{{right_answer(question)}}}", "stop"

    def otherwise(question: str, seed: int) -> tuple[str, str]:
        return always(question, -seed)

    with serving(answer=always) as one, serving(answer=otherwise, models=("a", "b")) as other:
        assert collect("--teacher", one.url, f"{other.url}#b", "--samples", 2, "--keep", 3) == 0
    assert {tuple(row["target_source"]) for row in read_rows(output)} == {("expert", "b", "expert")}
    assert {body["model"] for body in other.bodies} == {"b"}


def test_more_samples_of_the_same_run_ask_for_the_missing_ones(collect, output):
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
        assert collect("--teacher", teacher.url, "--samples", 3) == 0
    assert set(teacher.answered.values()) == {1} and len(teacher.answered) == 120


def test_another_time_limit_verifies_again_and_asks_nothing(collect, output):
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
        before = output.read_bytes()
        assert collect("--teacher", teacher.url, "--samples", 1, "--time-limit", 7) == 0
    assert output.read_bytes() == before and len(teacher.bodies) == 40
    (manifest,) = (output.parent / "traces_answers").glob("*.manifest.json")
    assert json.loads(manifest.read_text())["scoring"]["time_limit"] == 7


# Bad input -----------------------------------------------------------------------------------------------------------------------


def one_line(capsys: pytest.CaptureFixture) -> str:
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and KEY not in errors[0]
    return errors[0]


def test_a_teacher_that_is_not_there(collect, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert collect("--teacher", f"http://127.0.0.1:{free.getsockname()[1]}/v1") == 2
    assert "is not there (ConnectError" in one_line(capsys)
    assert collect("--teacher", "models/nowhere") == 2
    assert "model 'models/nowhere': no such folder" in one_line(capsys)


def test_a_server_that_still_starts_is_waited_for(collect, output):
    import threading

    with serving() as late, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()

        def begin() -> None:
            """Hand on, byte by byte, what comes to the address from now on."""
            taken.listen()
            for _ in range(8):
                near, _ = taken.accept()
                far = socket.create_connection(("127.0.0.1", int(late.url.split(":")[2].split("/")[0])))
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=hand_on, args=(source, target), daemon=True).start()

        def hand_on(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

        timer = threading.Timer(1.5, begin)
        timer.daemon = True
        timer.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{address[1]}/v1"
        assert collect("--teacher", url, "--samples", 1, "--limit", 4, "--concurrency", 1, "--wait", 30) == 0
    assert 1.0 < time.monotonic() - began < 30 and sum(late.answered.values()) == 4


def test_a_key_on_an_open_network_is_said(monkeypatch):
    assert Server(url="http://teacher.example/v1", key=KEY).sends_key_openly
    assert not Server(url="https://teacher.example/v1", key=KEY).sends_key_openly
    assert not Server(url="http://127.0.0.1:1/v1", key=KEY).sends_key_openly
    assert KEY not in repr(Server(url="https://teacher.example/v1", key=KEY))


def test_a_wrong_key_is_refused_and_never_shown(collect, monkeypatch, capsys, tmp_path, output):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(key="another") as teacher:
        assert collect("--teacher", teacher.url) == 2
    assert "refuses the key in OPENAI_API_KEY: 401: Incorrect API key provided: Bearer ***" in one_line(capsys)
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving(key=KEY, fault=lambda name, tries: "500" if tries == 1 else None) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 2
        assert "a request without a key (OPENAI_API_KEY is not set)" in one_line(capsys)
        assert collect("--teacher", teacher.url, "--samples", 1, "--key-env", "MY_KEY") == 0
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    written = [path for path in output.parent.rglob("*") if path.is_file()]
    assert len(written) > 5 and [path for path in written if KEY.encode() in path.read_bytes()] == []
    monkeypatch.setenv("MY_KEY", KEY + "\n")
    assert collect("--teacher", teacher.url, "--key-env", "MY_KEY") == 2
    assert "the key in MY_KEY has signs that no key has" in one_line(capsys)
    assert collect("--teacher", f"http://user:{KEY}@127.0.0.1/v1") == 2
    assert "give the key in OPENAI_API_KEY instead" in one_line(capsys)


@pytest.mark.parametrize("key", ["sk-planted-4711", 'sk/"planted\\4711'])
@pytest.mark.parametrize("body", ["text", "list", "late"])
def test_a_key_is_hidden_however_an_error_writes_it(key, body):
    server = Server(url="http://127.0.0.1:1/v1", key=key, key_variable="K")
    said = {
        "text": f"no, {key}".encode(),
        "list": json.dumps({"error": {"inner": [f"no, {key}"]}}).encode(),
        "late": (" " * 795 + f"no, {key}").encode(),  # the key goes over a border of what is shown of a body
    }[body]
    assert "planted" not in server.shown(error_message(said))
    assert "no, ***" in server.shown(error_message(said))


def test_a_key_in_an_answer_or_a_models_name_is_written_nowhere(collect, monkeypatch, capsys, output):
    def echo(question: str, seed: int) -> tuple[str, str]:
        return f"<think>\n{KEY}\n</think>\n\\boxed{{{right_answer(question)}}}", KEY

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(key=KEY, answer=echo) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
        assert decoded(output)[0]["response"].startswith("<think>\n***\n</think>")
        teacher.models = (f"for {KEY}",)
        assert collect("--teacher", teacher.url) == 2
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    assert [path for path in output.parent.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []


def test_a_short_key_is_a_word_that_answers_may_hold():
    assert Server(url="http://127.0.0.1:1/v1", key="EMPTY").hidden("the set is EMPTY") == "the set is EMPTY"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http://[::1/v1", "https:///v1"])
def test_what_is_no_url(collect, capsys, url):
    assert collect("--teacher", url) == 2
    assert "no URL of a server" in one_line(capsys)


def test_answers_that_are_all_too_large_end_the_run(collect, capsys):
    with serving(fault=lambda name, tries: "huge") as teacher:
        assert collect("--teacher", teacher.url, "--concurrency", 1) == 2
        assert len(teacher.bodies) == 3
    assert "refuses to answer: more than 64 tokens can be" in one_line(capsys)


def test_what_a_known_server_declines_is_no_fault_of_all(collect, tmp_path, output):
    """The rest of a collection may be three prompts that are too long, and more."""
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--limit", 3) == 0
        teacher.fault = lambda name, tries: "400 the prompt is too long"
        assert collect("--teacher", teacher.url, "--limit", 4) == 0
    assert report(output)["teachers"][0]["outcomes"]["declined"] == 4


def test_a_key_that_an_error_repeats_is_not_shown(collect, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(key=KEY, fault=lambda name, tries: "500") as teacher:
        assert collect("--teacher", teacher.url, "--retries", 2) == 2
    assert "does not answer (500: broken, you sent Bearer ***)" in one_line(capsys)


def test_another_protocol(collect, capsys):
    with serving() as teacher:
        assert collect("--teacher", teacher.url.replace("/v1", "")) == 0  # the server takes any path
        assert collect("--teacher", "ftp://127.0.0.1/v1") == 2
    assert "model 'ftp://127.0.0.1/v1'" in one_line(capsys)
    with serving(models=()) as teacher:
        assert collect("--teacher", teacher.url) == 2
        assert "does not speak the OpenAI protocol (200 for /models)" in one_line(capsys)
    with serving(models=("a", "b")) as teacher:
        assert collect("--teacher", teacher.url) == 2
        assert f"has several models (a, b); name one: {teacher.url}#a" in one_line(capsys)


def test_a_served_model_without_a_chat_template(collect, capsys, output):
    with serving(fault=lambda name, tries: "400 default chat template is no longer allowed") as teacher:
        assert collect("--teacher", teacher.url) == 2
        assert len(teacher.bodies) == 3  # and not all of them
    assert "refuses to answer: 400: default chat template is no longer allowed" in one_line(capsys)
    with serving() as teacher:  # once it has one
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
    assert "declined" not in report(output)["teachers"][0]["outcomes"]


def test_a_model_without_a_chat_template(collect, tiny_example, tmp_path, capsys):
    import shutil

    shutil.copytree(tiny_example.model, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    assert collect("--teacher", tmp_path / "bare") == 2
    assert "has no chat template" in one_line(capsys)


def test_problems_without_gold_answers(collect, tmp_path, capsys, output, caplog):
    bare = write_lines(tmp_path / "bare.jsonl", [{"problem": each} for each in QUESTIONS])
    with serving() as teacher:
        assert collect("--teacher", teacher.url, source=bare) == 2
        assert "the gold answer (--answer-column names it)" in one_line(capsys)
        assert collect("--teacher", teacher.url, "--samples", 1, "--no-verify", source=bare) == 0
    assert "NOTHING IS VERIFIED" in caplog.text and "No answer was verified" in capsys.readouterr().out
    assert len(read_rows(output)) == report(output)["teachers"][0]["outcomes"]["not verified"]
    unsaid = write_lines(tmp_path / "unsaid.jsonl", [{"problem": each, "answer": ""} for each in QUESTIONS])
    assert (
        collect(
            "--teacher",
            "http://127.0.0.1:1/v1",
            source=unsaid,
        )
        == 2
    )
    assert "no problem is left (no_answer 40)" in one_line(capsys)


def test_an_output_of_another_run(collect, capsys, output, tmp_path):
    with serving() as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1) == 0
        before = output.read_bytes()
        assert collect("--teacher", teacher.url, "--samples", 1, "--seed", 1) == 2
        assert "holds results of another run (seed 0 there, 1 here)" in one_line(capsys)
        assert collect("--teacher", teacher.url, "--samples", 1, source=problems(tmp_path, 3)) == 2
        assert "problems" in one_line(capsys)
        assert output.read_bytes() == before and len(decoded(output)) == 40
    other = output.with_name("other.parquet")
    other.write_bytes(before)
    assert collect("--teacher", "http://127.0.0.1:1/v1", "--output", other) == 2
    assert "is there, and not of this command" in one_line(capsys)
    assert other.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--skip-solved", "0.5"], "--skip-solved needs --policy"),
        (["--max-cost", "1"], "--max-cost needs --price"),
        (["--price", "1"], "--price takes two numbers"),
        (["--name", "a", "b", "c"], "--name was given 3 values for 2 teachers"),
        (["--name", "a"], "--name was given 1 values for 2 teachers"),
        (["--key-env", "A", "B", "C"], "--key-env was given 3 values for 2 teachers"),
        (["--key-env", ""], "--key-env was given an empty name"),
        (["--price", "nan", "1"], "argument --price: 'nan' is not a number of at least 0"),
        (["--price", "1", "1", "--max-cost", "0"], "argument --max-cost: '0' is not a number above 0"),
        (["--timeout", "0"], "argument --timeout: '0' is not a number above 0"),
        (["--backoff", "-1"], "argument --backoff: '-1' is not a number of at least 0"),
        (["--wait", "inf"], "argument --wait: 'inf' is not a number of at least 0"),
        (["--time-limit", "x"], "argument --time-limit: 'x' is not a number above 0"),
        (["--no-verify", "--keep-wrong"], "--no-verify leaves nothing"),
        (["--temperature", "-1"], "--temperature -1.0"),
    ],
)
def test_contradicting_flags(collect, capsys, arguments, says):
    assert collect("--teacher", "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", *arguments) == 2
    assert says in one_line(capsys)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "It is "}, {"type": "text", "text": "4."}], "It is 4."),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]}, {"type": "text", "text": "It is 4."}],
            "<think>\n2 + 2\n</think>\n\nIt is 4.",
        ),
        ([{"type": "thinking", "thinking": "2 + 2"}, {"type": "text", "text": "4"}], "<think>\n2 + 2\n</think>\n\n4"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, 7, None, {"type": "text", "text": 7}, {"type": ["text"]}], ""),
    ],
)
def test_an_answer_in_parts_is_its_texts(streamed, content, text):
    pieces = Pieces(most_bytes=1 << 20)
    event = {"choices": [{"delta" if streamed else "message": {"content": content}, "finish_reason": "stop"}]}
    pieces.take((b"data: " if streamed else b"") + json.dumps(event).encode())
    assert pieces.answer().text == text


def test_teachers_of_one_name(collect, capsys):
    with serving() as one, serving() as other:
        assert collect("--teacher", one.url, other.url) == 2
    assert "two teachers are called expert" in one_line(capsys)


def test_a_server_that_goes_away_loses_nothing(collect, capsys, output):
    with serving(fault=lambda name, tries: "500" if sum(teacher.answered.values()) >= 30 else None) as teacher:
        assert collect("--teacher", teacher.url, "--retries", 2) == 2
        assert "its answers so far are kept" in one_line(capsys)
        kept = len(decoded(output))
        assert kept == sum(teacher.answered.values()) >= 30
        teacher.fault = lambda name, tries: None
        assert collect("--teacher", teacher.url) == 0
    assert set(teacher.answered.values()) == {1} and len(teacher.answered) == 160


# Choice, pace, budget, probabilities ---------------------------------------------------------------------------------------------


def given(text: str, *, sample: int = 0, length: int = 0) -> Given:
    return Given(
        key=(0, sample), text=text, outcome="right", correct=True, length=length or len(text), prompt_tokens=1, counted=True,
        probabilities=Probabilities(NONE_GIVEN),
    )  # fmt: skip


def test_choices_by_hand():
    """aaaa and aaab share 3 of 4 and 4 signs: 6/8. With zz nothing is shared: it is least alike to the shortest, ab."""
    assert likeness("aaaa", "aaab") == pytest.approx(0.75, abs=1e-12)
    candidates = [("r1", given("aaaa", sample=0)), ("r1", given("ab", sample=1)), ("qwq", given("aaab", sample=0)), ("qwq", given("zzz", sample=1)),
                  ("qwq", given(" ab", sample=2))]  # fmt: skip
    texts = {choice: [each.text for _, each in choose(candidates, 3, choice)] for choice in ("first", "shortest", "different")}
    assert texts["first"] == ["aaaa", "aaab", "ab"]
    assert texts["shortest"] == ["ab", "zzz", "aaaa"]
    # to {ab, zzz}: aaaa shares 1 of 6 signs with ab (2/6), aaab 2 of 6 (4/6)
    assert texts["different"] == ["ab", "zzz", "aaaa"]
    assert [text.text for _, text in choose(candidates, 9, "first")] == ["aaaa", "aaab", "ab", "zzz"]  # " ab" is "ab" again
    assert choose([], 2, "different") == []


def test_pace_doubles_until_busy_and_then_creeps():
    pace = Pace(most=64, backoff_s=0.0)
    limits = []
    for _ in range(3):  # rounds: as many answers as requests are allowed at once
        for _ in range(int(pace.limit)):
            pace.answered()
        limits.append(pace.limit)
    assert limits == [2, 4, 8]
    pace.busy(0.0)
    assert pace.limit == 4
    for _ in range(4):
        pace.answered()
    assert pace.limit == pytest.approx(
        4 + 1 / 4 + 1 / 4.25 + 1 / (4.25 + 1 / 4.25) + 1 / (4.25 + 1 / 4.25 + 1 / (4.25 + 1 / 4.25)), rel=1e-12
    )
    assert 0.5 <= Pace(most=1, backoff_s=1.0).backoff(1, 3, 4) < 1.5
    assert 4 * 0.5 <= Pace(most=1, backoff_s=1.0).backoff(3, 3, 4) < 4 * 1.5
    assert Pace(most=1, backoff_s=1.0).backoff(30, 3, 4) < 90


def test_a_budget_counts_what_is_on_its_way():
    import asyncio

    async def scene() -> list[bool]:
        budget = Budget(most_tokens=100)
        budget.spend(30, 0.0)
        first = await budget.reserve(70, 0.0)
        second = asyncio.create_task(budget.reserve(40, 0.0))
        await asyncio.sleep(0)
        waits = not second.done()
        budget.spend(20, 0.0)  # the first ends with 20 of its 70
        await budget.settle(70, 0.0)
        return [first, waits, await second, budget.exhausted]

    assert asyncio.run(scene()) == [True, True, True, False]
    assert asyncio.run(Budget(most_cost=1.0).reserve(1, 1.5)) is False
    assert Price(2.0, 8.0).of(500_000, 250_000) == pytest.approx(1.0 + 2.0, abs=1e-12)


def test_probabilities_need_the_tokens_of_the_trainer():
    """One token a byte: 'ab' and EOS are three tokens, with probabilities e^-1, e^-2 and e^-0.5."""
    tokenizer = build_tokenizer()
    chat = [{"role": "user", "content": "1="}]
    match = TokenMatch(tokenizer)
    ids = [*tokenizer.encode("ab", add_special_tokens=False), tokenizer.eos_token_id]
    found = match.of_ids("ab", chat, ids, [-1.0, -2.0, -0.5])
    assert found.how == KNOWN and found.values == pytest.approx((0.36787944, 0.13533528, 0.60653066), abs=1e-7)
    assert match.of_ids("ab", chat, ids[:-1], [-1.0, -2.0]) == Probabilities(OTHER_PIECES)  # cut off: no EOS was drawn
    assert match.of_texts("ab", chat, ["a", "b", tokenizer.eos_token], [-1.0, -2.0, -0.5]) == found
    without_end = match.of_texts("ab", chat, ["a", "b"], [-1.0, -2.0])
    assert without_end.how == END_TAKEN_AS_1 and without_end.values == (*found.values[:2], 1.0)
    assert match.of_texts("ab", chat, ["ab"], [-1.0]) == Probabilities(OTHER_PIECES)
    assert match.of_texts("ab", chat, [], []) == Probabilities(NONE_GIVEN)
    other = build_tokenizer()
    other.add_tokens(["ab"])
    assert same_tokenizer(tokenizer, build_tokenizer()) and not same_tokenizer(tokenizer, other)
    drawn = Sampling(temperature=1.0)
    assert match.unusable(drawn, served=True) is None
    assert match.unusable(Sampling(temperature=0.6), served=True) == OTHER_DISTRIBUTION
    assert match.unusable(Sampling(temperature=0.6), served=False, teacher_tokenizer=tokenizer) is None
    assert match.unusable(drawn, served=False, teacher_tokenizer=other) == OTHER_TOKENIZER
    assert match.unusable(Sampling(temperature=0.0), served=False, teacher_tokenizer=tokenizer) == GREEDY
    assert TokenMatch(None).unusable(drawn, served=True) == NO_TOKENIZER


def test_a_servers_log_probabilities_become_the_column(collect, output, tmp_path):
    """Each sign is a token whose log-probability is -(its place + 1) / 100; the end is one more."""
    tokenizer = build_tokenizer()

    def drawn(text: str) -> list[tuple[str, float]]:
        return [(sign, -(place + 1) / 100) for place, sign in enumerate([*text, tokenizer.eos_token])]

    folder = save_tokenizer(tmp_path / "tokenizer")
    with serving(logprobs=drawn) as teacher:
        assert collect("--teacher", teacher.url, "--samples", 1, "--temperature", 1, "--tokenizer", folder) == 0
    row = read_rows(output)[0]
    text = row["target"][0]["content"]
    assert row["target_probs"][0] == pytest.approx([2.718281828459045 ** (-(place + 1) / 100) for place in range(len(text) + 1)], rel=1e-6)
    assert {body["logprobs"] for body in teacher.bodies} == {True}
    assert [str(found) for found in check_training_file(output, tokenizer) if "probs" in found.code] == []
    with serving(logprobs=drawn) as teacher:  # of another distribution than the one that is drawn from: not asked for
        assert collect("--teacher", teacher.url, "--samples", 1, "--tokenizer", folder, "--overwrite") == 0
    assert all("logprobs" not in body for body in teacher.bodies)
    assert report(output)["teachers"][0]["probabilities"] == {OTHER_DISTRIBUTION: 40}


# Kills ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_five_times_equals_unbroken(tmp_path):
    """2 000 answers of a server with faults: files, verdicts and report are those of a run that nothing stopped."""
    source = write_lines(
        tmp_path / "problems.jsonl", [{"problem": f"What is {number} plus {number * 7 % 11}?", "answer": number + number * 7 % 11} for number in range(500)]
    )  # fmt: skip

    def fault(name: str, tries: int) -> str | None:
        draw = uniform("kill", name, tries)
        return "429" if draw < 0.01 else "500" if draw < 0.02 else "cut" if draw < 0.03 else None

    def start(teacher: Teacher, folder: Path) -> subprocess.Popen:
        flags = ["--samples", "4", "--keep", "2", "--choose", "different", "--max-tokens", "64", "--backoff", "0.05", "--num-workers", "1"]
        command = [sys.executable, ROOT / "data" / "collect_traces.py", "--problems", source, "--teacher", teacher.url]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
        return subprocess.Popen(
            [*map(str, command), "--output", str(folder / "traces.parquet"), *flags], env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    whole, broken, draw = tmp_path / "whole", tmp_path / "broken", random.Random(17)
    with serving(fault=fault) as teacher:
        process = start(teacher, whole)
        assert process.communicate(timeout=300)[1] and process.returncode == 0
    with serving(fault=fault, delay_s=0.02) as teacher:
        for kill in range(5):
            process, goal = start(teacher, broken), (kill + draw.random()) * 400
            while sum(teacher.answered.values()) < goal and process.poll() is None:
                time.sleep(0.005)
            assert process.poll() is None, process.communicate()[1]
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        process = start(teacher, broken)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    assert len(teacher.answered) == 2000
    assert Counter(teacher.answered.values())[1] >= 2000 - 5 * 64  # what was in flight at a kill is asked again, and no more
    for path in sorted(whole.rglob("*")):
        if path.is_file() and path.suffix in (".parquet", ".jsonl", ".png"):
            assert path.read_bytes() == (broken / path.relative_to(whole)).read_bytes(), path
    volatile = {"lost_tokens": None}
    one, other = (json.loads((folder / "traces_report" / "report.json").read_text()) for folder in (whole, broken))
    assert [each | volatile for each in one["teachers"]] == [each | volatile for each in other["teachers"]]
    assert {name: one[name] for name in ("rows", "traces", "problems")} == {name: other[name] for name in ("rows", "traces", "problems")}
