"""The verifier: one implementation for training and evaluation.

``grade`` judges one response, ``Grader`` many in a pool of worker processes. Model output is untrusted: nothing of it
runs as Python, and no verdict takes longer than its time limit.

From a response to its verdict:
    kinds, options            which kind of answer a data source has, or a user's own reward; limits
    answer, choice            where the answer stands: after the thought, in a box, behind "the answer is", as a letter
    characters, rules, notation   answer and gold answer in one notation
    settle                    what texts and numbers decide; the rest is a comparison, which the algebra system makes
    grader, pool              comparisons made once, in worker processes
    supervisor, worker, lockdown  these processes, their limits, and what they may not do
    reading, quantity         a text as a mathematical object, words, or a number with its unit
    equality, algebra, mends  when two of them are equal; what Math-Verify and SymPy do otherwise here
    verdict                   right or not and why, and what to tell of a step without any reward
"""

from luffy.rewards.grader import Grader, grade
from luffy.rewards.kinds import kind_for, load_reward
from luffy.rewards.verdict import Reason, Verdict, gate_warning, why_zero

__all__ = ["Grader", "Reason", "Verdict", "gate_warning", "grade", "kind_for", "load_reward", "why_zero"]
