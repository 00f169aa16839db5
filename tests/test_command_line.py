"""Options of all command lines: two spellings, and one line for a mistake."""

import pytest

from luffy.command_line import Parser


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
