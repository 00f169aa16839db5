"""Options of all command lines: two spellings, one line for a mistake, and dataclasses that are whole command lines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from luffy.command_line import Parser, Positive, option, parse


def parser() -> Parser:
    made = Parser(prog="it")
    made.add_argument("--max_tokens", type=int, default=1)
    made.add_argument("--show-prompt", action="store_true")
    made.add_argument("words", nargs="*")
    commands = Parser(prog="whole")
    commands.add_subparsers(dest="command", required=True).add_parser("part").add_argument("--dry_run", action="store_true")
    made.commands = commands
    return made


@pytest.mark.parametrize("typed", [["--max_tokens", "7"], ["--max-tokens", "7"], ["--max-tokens=7"], ["a_b", "c-d", "--max-tokens=7"]])
def test_dashes_and_underscores_are_the_same(typed):
    found = parser().parse_args(typed)
    assert (found.max_tokens, found.words) == (7, [each for each in typed if each in ("a_b", "c-d")])
    assert parser().parse_args(["--show_prompt"]).show_prompt and parser().commands.parse_args(["part", "--dry-run"]).dry_run


def test_a_value_keeps_its_spelling():
    made = Parser(prog="it")
    made.add_argument("--name_of")
    assert made.parse_args(["--name-of=a_b-c=d_e"]).name_of == "a_b-c=d_e"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            ["--max_token", "7", "--maxtokens", "8"],
            "error: unknown option --maxtokens; did you mean --max_tokens? (it --help lists the options)\n",
        ),
        (["--zzz"], "error: unknown option --zzz (it --help lists the options)\n"),
        (["--max-tokens", "x"], "error: argument --max_tokens: invalid int value: 'x' (it --help lists the options)\n"),
    ],
)
def test_a_mistake_is_one_line(typed, says, capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(typed)
    assert ended.value.code == 2 and capsys.readouterr() == ("", says)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    top_p: float = option(1.0, "share")
    max_tokens: Positive = option(8192, "longest 100 % response")
    seed: int = option(0, "of the draws")


@dataclass(frozen=True, kw_only=True)
class Command:
    words: tuple[str, ...] = option((), "what to do", positional=True, nargs="*", metavar="WORD")
    output_file: Path = option(help="where to")
    names: tuple[str, ...] | None = option(None, "of them")
    limit: Positive | None = option(None, "first ones")
    gate: Literal["auto", "on", "off"] = option("auto", "how")
    overwrite: bool = option(False, "anew", aliases=("--force",))
    debug: bool = option(False, "few")
    show_prompt: bool = option(False, "it", aliases=("--show-prompt",))
    remove_system: bool = option(True, "drop it")
    drawing: Drawing = Drawing()


def read(*words: str, **more) -> Command:
    return parse(Command, ["--output_file", "o", *words], prog="it", **more)


def test_a_dataclass_is_a_command_line():
    assert read() == Command(output_file=Path("o"))
    found = read("--names", "a", "b", "--limit", "3", "--gate=on", "--top_p", "0.5", "--max-tokens", "9")
    assert found == Command(output_file=Path("o"), names=("a", "b"), limit=3, gate="on", drawing=Drawing(top_p=0.5, max_tokens=9))
    assert read("a", "b").words == ("a", "b")
    assert read(defaults={"names": ("x",), "limit": 7}) == Command(output_file=Path("o"), names=("x",), limit=7)


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--overwrite"], "overwrite", True),
        (["--force", "True"], "overwrite", True),
        (["--overwrite", "False"], "overwrite", False),
        (["--remove_system=no"], "remove_system", False),
        (["--overwrite", "a"], "words", ("a",)),
        (["--debug", "a"], "words", ("a",)),
        (["--overwrite", "--debug"], "overwrite", True),
        (["--show"], "show_prompt", True),
    ],
)
def test_switches(words, name, value):
    assert getattr(read(*words), name) == value


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", "0"], "argument --limit: '0' is not a whole number above 0"),
        (["--gate", "no"], "argument --gate: invalid choice: 'no' (choose from 'auto', 'on', 'off')"),
        (["--overwrite=maybe"], "argument --overwrite/--force: 'maybe' is neither True nor False"),
        (["--top_q", "1"], "unknown option --top_q; did you mean --top_p?"),
    ],
)
def test_a_wrong_word_is_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        read(*words)
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: {says} (it --help lists the options)\n"


def test_what_is_required_is_asked_for_and_help_says_the_defaults(capsys):
    with pytest.raises(SystemExit):
        parse(Command, [], prog="it")
    assert capsys.readouterr().err == "error: the following arguments are required: --output_file (it --help lists the options)\n"
    with pytest.raises(SystemExit):
        read("--help", dashes=True, examples="for example:\n  it --limit 1")
    shown = " ".join(capsys.readouterr().out.split())
    assert "anew (default" not in shown
    for each in (
        "--max-tokens MAX_TOKENS longest 100 % response (default: 8192)",
        "--gate {auto,on,off} how (default: auto)",
        "of the draws (default: 0)",
    ):
        assert each in shown
    assert shown.endswith("for example: it --limit 1")
