r"""The gold answer of a row: out of text, a number, ``reward_model``, a list of one, or the end of a solution.

Words that stand where an answer is missing (``proof``, ``N/A``, "see solution", in several languages) are none. A text is one of
them as a whole or not at all. What can be an answer is none of them: "no solution", "undefined", ``\varnothing``, ``{}``,
"None of the above", "NA" (two letters), "cannot be determined".
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from luffy.data.text import decoded, shown
from luffy.errors import InputError
from luffy.rewards.answer import after_thought, boxed_answer

_KEYS = ("ground_truth", "answer", "final_answer", "value")
_MARKED = re.compile(r"####[ \t]*([^\n]*)")
_STATED = re.compile(r"\banswer is[ \t]*:?[ \t]*([^\n]+?)[ \t]*(?=\.(?:\s|$)|\n|$)", re.IGNORECASE)
_ONE_EXPRESSION = re.compile(r"\S{1,100}|\$[^$]{1,100}\$")  # of a column that has solutions in other rows, as s1K's
_QUOTED = re.compile(r'"([^"]*)"')
_ONE_NUMBER = re.compile(r"\[\s*[-+]?[\d.]+\s*\]")

_LONGEST = 200  # characters
_COMMAND = re.compile(r"\\(?:text\w*|math\w+|mbox|emph|boxed|fbox)\s*\{([^{}]*)\}")
_INVISIBLE = re.compile(r"\\[()\[\]]|[$\u200b\u2060\ufeff]")
_JOINED = re.compile(r"(?<=[^\W\d_]{2})[-_](?=[^\W\d_]{2})")
_LED = re.compile(r"(?:(?:the|final|correct) )*answer(?: is)?\s*:?\s*(?=\S)")
_AROUND = " \t\n\"'`()[]{}*_.,:;!。、"
_NO_WORDS = re.compile(r"[-‐‑‒–—―−?…_.*/\s■□∎◻◼]*|\\(?:black)?square|\\qed|#[a-z/0]+[!?]|<(?:na|none|nan)>")
_GIVEN = r"(?:found|available|applicable|provided|given|specified|known|answerable|extracted|parsed|listed)"
_WORDS = re.compile(
    "|".join(
        (
            r"n\s?[/\\]\s?a|n\.\s?a|[-+]?nan|#n/a|none|null|nil|undef|nat",
            r"missing|pending|placeholder|tb[ad]|todo|omitted|varies|explanation|does not apply",
            rf"notfound|none {_GIVEN}|no ground truth",
            rf"(?:(?:solution|ground truth|result) )?(?:is )?(?:not (?:yet )?|un){_GIVEN}(?: in .*)?",
            rf"no (?:final )?answer(?: (?:is )?{_GIVEN})?|no solution (?:is )?(?:available|provided|given)",
            r"to be (?:proved|proven|shown|determined|added|announced)|q\.?\s?e\.?\s?d",
            r"(?:your |the |final )*answer(?: here)?|</?answer>(?:</answer>)?|answers? (?:may |will |can )?var(?:y|ies)",
            r"(?:an? |the )?proofs?(?: [^\d=<>\\]*)?|(?:to )?(?:prove|show that)\b.*",
            r"(?:.{0,40}\b)?prove[dn](?: (?:above|below))?|as (?:shown|above|required)(?: above)?",
            r"(?:please )?(?:see|refer to|cf\.?|siehe|voir|ver|vedi|vide|см\.?) [^\d=<>\\]{1,60}",
            r"beweis|keine antwort|unbekannt|(?:une )?(?:preuve|démonstration)|pas de réponse|inconnue?|c\.?q\.?f\.?d",
            r"demostración|sin respuesta|desconocid[oa]|demonstração|prova|sem resposta|dimostrazione|nessuna risposta",
            r"доказательство|доказано|доказать.*|нет ответа|неизвестно|ч\.?\s?т\.?\s?д",
            r"[无無]|暂[无無]|(?:暂?[无無]|沒有|没有)答案|未知|未找到|[证證]明[题題略]?|証明(?:略|問題)?|(?:答案|解析|证明过程)?略|省略|解析",
            r"[见見](?:解析|解答|答案|证明|上|下)|なし|不明|(?:解説|解答)参照|증명(?: ?(?:문제|생략))?|없음|생략|(?:해설|풀이) ?참조",
        )
    ),
    re.DOTALL,
)


@dataclass(frozen=True)
class Gold:
    """A gold answer.

    Attributes:
        text: the answer; empty where there is none.
        note: what was there instead.
    """

    text: str
    note: str = ""


def read_gold(value: Any, column: str, *, solution: bool = False) -> Gold:
    r"""Read a gold answer.

    Args:
        value: of the column: text (which may encode a list or object), a number, a list of one, or an object.
        column: its name, for the error.
        solution: the column holds solutions, so that a text without a marked answer is none itself.

    Returns:
        Of text, what the last box holds (as the verifier reads it), else what follows ``####`` or "the answer is", else
        the text. Words that stand for no answer (``proof``, ``notfound``, ``N/A``, NaN) give none.

    Raises:
        InputError: where the value is no answer, or could be read in two ways.
    """
    if isinstance(value, str):
        text = value.strip()
        if _ONE_NUMBER.fullmatch(text):
            raise InputError(f"column '{column}' holds the text '{text}', a list of one number or mathematics; write {text[1:-1].strip()}")
        read = decoded(text)
        if isinstance(read, str):
            quoted = _QUOTED.fullmatch(read.strip())
            return _checked(final_answer(quoted[1] if quoted else read, solution=solution), read)
        value = read
    if isinstance(value, dict):
        key = next((key for key in _KEYS if key in value), None)
        if key is None:
            raise InputError(
                f"column '{column}' holds an object with {', '.join(map(str, value)) or 'nothing'}; give its answer as {_KEYS[0]}"
            )
        return read_gold(value[key], f"{column}.{key}", solution=solution)
    if isinstance(value, (list, tuple)):
        return _only(value, column, solution)
    return _number(value, column)


def final_answer(text: str, *, solution: bool = False) -> str:
    """The marked final answer of a text; without a mark the text itself, but of a solution only one expression."""
    stated = after_thought(text)
    boxed = boxed_answer(stated)
    if boxed is not None:
        return boxed
    for mark in (_MARKED, _STATED):
        found = mark.findall(stated)
        if found:
            return found[-1].strip()
    return "" if solution and not _ONE_EXPRESSION.fullmatch(stated.strip()) else stated.strip()


def _checked(answer: str, text: str) -> Gold:
    if is_sentinel(answer):
        return Gold("", f"{shown(answer)} stands for no answer")
    return Gold(answer) if answer else Gold("", f"no marked answer in {shown(text)}" if text.strip() else "")


def _only(values: Any, column: str, solution: bool) -> Gold:
    values = [value for i, value in enumerate(values) if value is not None and value not in values[:i]]
    if not values:
        return Gold("")
    if len(values) > 1:
        raise InputError(f"column '{column}' holds {len(values)} answers; give one, several of which all belong to it as '1, 2'")
    return read_gold(values[0], column, solution=solution)


def _number(value: Any, column: str) -> Gold:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Gold("", "" if value is None else f"{value} stands for no answer")
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise InputError(f"column '{column}' holds {type(value).__name__}; a gold answer must be text or a number")
    return Gold(format(value, "f") if isinstance(value, Decimal) else str(value))


def is_sentinel(text: str) -> bool:
    """Whether a text stands for a missing answer; an empty one does not."""
    if not text.strip() or len(text) > _LONGEST:
        return False
    bare = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    while (inner := _COMMAND.sub(r"\1", bare)) != bare:
        bare = inner
    bare = _JOINED.sub(" ", " ".join(bare.split()))
    words = bare.strip(_AROUND)
    if not words or _NO_WORDS.fullmatch(bare):
        return not set(bare) & set("(){}[]")  # an empty set, tuple or list
    return any(_WORDS.fullmatch(each) or _NO_WORDS.fullmatch(each) for each in (words, _LED.sub("", words, count=1)))
