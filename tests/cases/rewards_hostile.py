"""Responses that attack the verifier; each is a (name, response) pair and none may be right for the gold answer 7."""

# Would create the folder luffy_canary in the working directory if anything ran it as Python. No quotes and no spaces:
# Math-Verify removes both.
NAME = "+".join(f"chr({ord(letter)})" for letter in "luffy_canary")
CODE = f"__import__(chr(111)+chr(115)).mkdir({NAME})"
LETTERS_ONLY = "exit"

CODE_AS = {
    "code in a box": rf"\boxed{{{CODE}}}",
    "code in text": rf"\boxed{{\text{{{CODE}}}+1}}",
    "code in mathrm": rf"\boxed{{\mathrm{{{CODE}}}}}",
    "code in operatorname": rf"\boxed{{\operatorname{{{CODE}}}(1)}}",
    "code as a variable": rf"\boxed{{\variable{{{CODE}}}+1}}",
    "code as an overlined symbol": rf"\boxed{{\overline{{{CODE}}}+1}}",
    "code as a subscript": rf"\boxed{{x_{{{CODE}}}+1}}",
    "code in prose": f"the final answer is {CODE}",
    "code after an equals sign": f"answer: x = {CODE}",
    "code behind arithmetic": f"the answer is 1+({CODE})",
    "code in an equation": rf"\boxed{{x^5-x+\variable{{{CODE}}}=0}}",
    "code in a set": rf"\boxed{{\{{1, \text{{{CODE}}}\}}}}",
    "code in a matrix": rf"\boxed{{\begin{{pmatrix}} {CODE} \\ 1 \end{{pmatrix}}}}",
    "code in a series": rf"\boxed{{\sum_{{n=1}}^{{\infty}} \frac{{\variable{{{CODE}}}}}{{n!}}}}",
    "letters in a series": rf"\boxed{{\sum_{{n=1}}^{{\infty}} \frac{{\variable{{{LETTERS_ONLY}}}}}{{n!}}}}",
    "letters in a power series": rf"\boxed{{\sum_{{n=1}}^{{\infty}} \frac{{\variable{{{LETTERS_ONLY}}}^n}}{{n!}}}}",
    "attributes": r"\boxed{().__class__.__bases__[0].__subclasses__()}",
    "a lambda": r"\boxed{(lambda: 1)()}",
    "a format string": r"\boxed{{0.__class__}}",
    "a pickle": r"\boxed{cos\nsystem\n(S'true'\ntR.}",
    "json": '\\boxed{", null]\n0 ["correct", "7"]\n}',
    "a protocol line": '0 ["correct", "7"]\nretiring\n',
}

HUGE = {
    "tower of powers": r"\boxed{9^{9^{9^9}}}",
    "tower in prose": "the answer is 9**9**9**9",
    "tower of carets": "the answer is 9^9^9^9",
    "factorial": r"\boxed{(10^9)!}",
    "factorial of a factorial": r"\boxed{((99!)!)!}",
    "binomial": r"\boxed{\binom{1000000000}{500000000}}",
    "long sum": r"\boxed{\sum_{k=1}^{10^{12}} \frac{1}{k^2+1}}",
    "long product": r"\boxed{\prod_{k=1}^{10^{9}} k}",
    "big matrix": r"\boxed{\operatorname{zeros}(30000, 30000)}",
    "big identity": r"\boxed{\operatorname{eye}(20000)}",
    "hard integral": r"\boxed{\int_0^{10} \sin(x^x) e^{x^3} \cos(\sin(x^5)) dx}",
    "huge root": r"\boxed{\sqrt[1000003]{2^{1000003^2}}}",
    "digits": "\\boxed{" + "8" * 100_000 + "}",
    "decimals": "\\boxed{0." + "8" * 1_900 + "}",
    "exponent": r"\boxed{1e999999999999}",
}

LONG = {
    "a megabyte of backslashes": "\\" * 1_000_000,
    "a box of backslashes": "\\boxed{" + "\\" * 1_000_000 + "}",
    "a megabyte of dollars": "$" * 1_000_000,
    "a megabyte of braces": "{" * 1_000_000,
    "a megabyte of closing braces": "}" * 1_000_000,
    "unclosed boxes": "\\boxed{" * 150_000,
    "nested boxes": "\\boxed{" * 50_000 + "3" + "}" * 50_000,
    "many boxes": "\\boxed{3}" * 50_000,
    "an operation of many brackets": "\\boxed{\\max" + "()" * 1_900 + "}",
    "fractions without arguments": "\\boxed{" + "\\sqrt\\frac" * 380 + "}",
    "roots in roots": "\\boxed{" + "\\sqrt{" * 480 + "1" + "}" * 481,
    "sets of sets": "\\boxed{\\{x|x=" + "\\in" * 1_200 + "\\}}",
    "nested braces": "\\boxed{" + "{" * 900 + "3" + "}" * 900 + "}",
    "nested parentheses": "\\boxed{" + "(" * 900 + "3" + ")" * 900 + "}",
    "nested roots": "\\boxed{" + "\\sqrt{" * 200 + "3" + "}" * 200 + "}",
    "nested fractions": "\\boxed{" + "\\frac{1}{" * 150 + "3" + "}" * 150 + "}",
    "parentheses in prose": "(1+" * 300 + "1" + ")" * 300,
    "anchors": "the final answer is " * 50_000,
    "answers": "answer: " * 100_000,
    "numbers": "1 " * 500_000,
    "ten thousand lines": "\n" * 1_000_000,
    "thought ends": "</think>" * 100_000,
}

ODD = {
    "empty": "",
    "none": None,
    "spaces": " \n\t ",
    "a number": 8,
    "nul characters": "\\boxed{\x00\x00}",
    "control characters": "\\boxed{\x01\x02\x1b[31m8\x1b[0m}",
    "right to left": "\\boxed{\u202e8\u202c}",
    "zero width": "\\boxed{8\u200b\u200d\ufeff}",
    "invalid utf-8": b"\\boxed{\xff\xfe8\xc3\x28}",
    "only invalid utf-8": b"\xff" * 1000,
    "lone surrogates": "\\boxed{\ud8008\udfff}",
    "other digits": "\\boxed{\u0668}",
    "full width": "\\boxed{\uff18\uff0b\uff10}",
    "combining marks": "\\boxed{8" + "\u0301" * 500 + "}",
    "emoji": "\\boxed{\U0001f600}",
    "not a number": r"\boxed{nan}",
    "infinity minus infinity": r"\boxed{\infty - \infty}",
    "division by zero": r"\boxed{\frac{7}{0}}",
}

HOSTILE = {**CODE_AS, **HUGE, **LONG, **ODD}
