"""The released script's command line, word by word, and what becomes of it."""

from pathlib import Path

import pytest

from luffy.command_line import parse
from luffy.errors import InputError
from luffy.evaluation.engine import EngineOptions, Sampling
from luffy.evaluation.evaluate import Evaluation, evaluate
from luffy.evaluation.scoring import Scoring

REQUIRED = ["--model_path", "M", "--input_file", "F", "--output_file", "O"]


def read(*more: str) -> Evaluation:
    return parse(Evaluation, [*REQUIRED, *more])


def test_the_defaults_are_the_papers():
    evaluation = read()
    assert evaluation.sampling == Sampling(temperature=0.6, top_p=1.0, max_tokens=8192)
    assert (evaluation.template, evaluation.remove_system, evaluation.n) == ("own", True, 1)
    assert evaluation.scoring == Scoring(thought_gate="auto")
    assert (evaluation.model_path, evaluation.input_file, evaluation.output_file) == ("M", "F", Path("O"))
    assert evaluation == Evaluation(model_path="M", input_file="F", output_file=Path("O"))


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        ("--remove_system True", "remove_system", True),
        ("--remove_system False", "remove_system", False),
        ("--template qwen", "template", "qwen"),
        ("--n 32", "n", 32),
        ("--debug True", "limit", 10),
        ("--limit 7 --debug", "limit", 7),
        ("--skip_scoring True", "skip_scoring", True),
        ("--skip_scoring", "skip_scoring", True),
        ("--force_generate True", "overwrite", True),
        ("--force_generate False", "overwrite", False),
        ("--overwrite", "overwrite", True),
        ("--output_eval e.json", "output_eval", Path("e.json")),
        ("--data_parallel_size 4", "data_parallel_size", 4),
        ("--seed 3", "seed", 3),
    ],
)
def test_each_flag(words, field, expected):
    assert getattr(read(*words.split()), field) == expected


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        ("--add_oat_evaluate True", "add_oat_evaluate", True),
        ("--any_true True", "any_true", True),
        ("--add_think_before_answer True", "add_think_before_answer", True),
        ("--no_split_think True", "thought_gate", "off"),
        ("--no_split_think --thought_gate on", "thought_gate", "off"),  # as the released script's flag always was
        ("--thought_gate on", "thought_gate", "on"),
        ("--workers 3", "workers", 3),
        ("--time_limit 2.5", "time_limit", 2.5),
    ],
)
def test_each_scoring_flag(words, field, expected):
    assert getattr(read(*words.split()).scoring, field) == expected
    assert getattr(parse(Scoring, words.split()), field) == expected


def test_engine_flags():
    engine = read("--tensor_parallel_size", "2", "--max_model_len", "100", "--enforce_eager", "--dtype", "float32").engine
    assert engine == EngineOptions(tensor_parallel_size=2, max_model_len=100, enforce_eager=True, dtype="float32")


def test_sampling_flags():
    sampling = read("--temperature", "0", "--top_p", "0.95", "--max_tokens", "16").sampling
    assert sampling == Sampling(temperature=0.0, top_p=0.95, max_tokens=16)


@pytest.mark.parametrize("words", ["--temperature -1", "--temperature nan", "--temperature inf", "--top_p nan", "--top_p 0", "--top_p 1.5"])
def test_sampling_out_of_range(words):
    with pytest.raises(InputError, match=words.split()[0]):
        read(*words.split())


@pytest.mark.parametrize("words", ["--n 0", "--max_tokens x", "--remove_system maybe", "--templates qwen"])
def test_the_parser_refuses(words, capsys):
    with pytest.raises(SystemExit):
        read(*words.split())
    assert words.split()[0] in capsys.readouterr().err


def test_an_output_is_needed_unless_only_a_prompt_is_shown():
    with pytest.raises(InputError, match="--output_file is missing"):
        evaluate(parse(Evaluation, REQUIRED[:4]))
    assert parse(Evaluation, [*REQUIRED[:4], "--show-prompt"]).show_prompt
