"""The teacher's probability of each token of its trace, where its tokens are the policy's: the π_φ of the off-policy ratio.

Two tokenizers are equal when their vocabularies are, and they cut one probing text alike. Even then an answer can be drawn in other
pieces than the tokenizer would cut it into; its probabilities are not those of the trainer's tokens, and are left out by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luffy.data.lengths import TokenCounter
from luffy.errors import InputError
from luffy.evaluation.engine import Sampling
from luffy.traces import Trace, trace_tokens

KNOWN, END_TAKEN_AS_1 = "known", "known but for the end, taken as 1"
NO_TOKENIZER = "no tokenizer of the policy (--tokenizer, --policy)"
OTHER_TOKENIZER = "the tokenizers differ"
NONE_GIVEN = "the server gives none"
OTHER_DISTRIBUTION = "drawn from another distribution than a server's log-probabilities are of (--temperature 1 --top-p 1)"
GREEDY = "drawn without chance (--temperature 0)"
OTHER_PIECES = "the answer's tokens are not those that the tokenizer cuts it into"
IMPOSSIBLE = "a token of probability 0"
PROBE = "<think>\nLet x_1 = -3.14e5, naïve: 12 345 × 67% ≠ 0;\n\n\tso \\boxed{\\frac{1}{2}}.</think> Ж 数 🙂 def f(x):\n    return x"
_DIGITS = 7  # significant ones, as float32 holds


@dataclass(frozen=True)
class Probabilities:
    """The probabilities of a trace's tokens, or why there are none.

    Attributes:
        how: ``KNOWN``, ``END_TAKEN_AS_1`` or a reason of this module.
        values: in (0, 1], one for each token of (trace + EOS); None without.
    """

    how: str
    values: tuple[float, ...] | None = None


def same_tokenizer(one: Any, other: Any) -> bool:
    """Whether two Hugging Face tokenizers have one vocabulary, end sequences alike, and cut a probing text into the same tokens."""
    return (
        one.get_vocab() == other.get_vocab()
        and one.eos_token_id == other.eos_token_id
        and one.encode(PROBE, add_special_tokens=False) == other.encode(PROBE, add_special_tokens=False)
    )


class TokenMatch:
    """Gives drawn tokens their place among those that the trainer will make of the trace.

    Args:
        tokenizer: the policy's, a Hugging Face tokenizer with chat template; None where it is not known.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self._counter = TokenCounter(tokenizer) if tokenizer is not None else None

    def unusable(self, sampling: Sampling, *, served: bool, teacher_tokenizer: Any = None) -> str | None:
        """Why no answer of a teacher can have probabilities; None where it can.

        Args:
            sampling: how its tokens are drawn.
            served: whether a server gives the log-probabilities: of the model's own distribution, whatever is drawn from.
            teacher_tokenizer: the teacher's; None where it is not known, as with a server.
        """
        if self._tokenizer is None:
            return NO_TOKENIZER
        if sampling.temperature == 0:
            return GREEDY
        if served and not sampling.temperature == sampling.top_p == 1:
            return OTHER_DISTRIBUTION
        return OTHER_TOKENIZER if teacher_tokenizer is not None and not same_tokenizer(self._tokenizer, teacher_tokenizer) else None

    def of_ids(self, text: str, messages: Sequence[dict[str, str]], ids: Sequence[int], logprobs: Sequence[float]) -> Probabilities:
        """From the drawn token ids, EOS included.

        Args:
            text: the trace.
            messages: its prompt.
            ids: the drawn tokens.
            logprobs: natural logarithms, one a token.
        """
        return self._matched(self._tokens(text, messages) == list(ids), logprobs)

    def of_texts(self, text: str, messages: Sequence[dict[str, str]], tokens: Sequence[str], logprobs: Sequence[float]) -> Probabilities:
        """From the drawn tokens' texts, as servers give them, with or without one for EOS; otherwise as :meth:`of_ids`."""
        if not tokens:
            return Probabilities(NONE_GIVEN)
        assert self._tokenizer is not None
        expected = [self._tokenizer.decode([each]) for each in self._tokens(text, messages)]
        if len(tokens) == len(expected) and tokens[-1] in ("", expected[-1]):
            return self._matched(list(tokens[:-1]) == expected[:-1], logprobs)
        found = self._matched(list(tokens) == expected[:-1], [*logprobs, 0.0])
        return Probabilities(END_TAKEN_AS_1, found.values) if found.values else found

    def _tokens(self, text: str, messages: Sequence[dict[str, str]]) -> list[int]:
        assert self._counter is not None
        try:
            prompt = self._counter.render(messages)
        except InputError:  # prepare_train.py says so of the prompt
            prompt = ""
        return trace_tokens(Trace(text=text), self._tokenizer, prompt_ends_with=prompt)

    def _matched(self, equal: bool, logprobs: Sequence[float]) -> Probabilities:
        if not equal:
            return Probabilities(OTHER_PIECES)
        values = tuple(float(f"{math.exp(each):.{_DIGITS}g}") for each in logprobs)
        return Probabilities(KNOWN, values) if all(0 < each <= 1 for each in values) else Probabilities(IMPOSSIBLE)
