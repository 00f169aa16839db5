r"""Words that stand where a gold answer is missing (``proof``, ``N/A``, "see solution"), in several languages.

A text is one of them as a whole or not at all. What can be an answer is none of them: "no solution", "undefined",
``\varnothing``, ``{}``, "None of the above", "NA" (two letters), "cannot be determined".
"""

from __future__ import annotations

import re
import unicodedata

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
