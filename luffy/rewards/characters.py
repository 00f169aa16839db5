"""Characters of every script as the ones that LaTeX and ASCII have: one table, applied before anything is read."""

from __future__ import annotations

import re
import unicodedata
from functools import partial

_SIGNS = {
    "-": "\u2212\u2013\u2014\u2010\u2011\u2012\u2015\ufe63\u02d7\u207b", "'": "\u2018\u2019\u02b9\u2032\u02bc",
    '"': "\u201c\u201d\u201e\u201f", "''": "\u2033", ", ": "\uff0c\u3001\ufe50\u060c\ufe51\uff64\u055d",
    ". ": "\u3002\uff61\u0964\u06d4", ";": "\uff1b\u061b", ":": "\uff1a\ufe55\u2236\ua789", "*": "\u2217\ufe61\u204e",
    "~": "\u223c\u301c", "/": "\u2215\u2044\u29f8", "(": "\uff08\u207d\ufe59", ")": "\uff09\u207e\ufe5a", "[": "\u3010\u3014\ufe5d",
    "]": "\u3011\u3015\ufe5e", "...": "\u2026", "!": "\uff01", "!!": "\u203c", "|": "\u2223\u2758", "\\|": "\u2225\u2016",
    "^\\circ ": "\u00b0\u00ba\u02da", "^\\circ C": "\u2103", "^\\circ F": "\u2109", "\\mu ": "\u00b5", "\\Omega ": "\u2126",
    "\\ell ": "\u2113", "\\mathbb{R}": "\u211d", "\\mathbb{N}": "\u2115", "\\mathbb{Z}": "\u2124", "\\mathbb{Q}": "\u211a",
    "\\mathbb{C}": "\u2102", "\\$": "\uff04", "\\%": "\uff05\u066a", ".": "\u066b", ",": "\u066c",
}  # fmt: skip
_COMMANDS = {
    "times": "\u00d7\u2715\u2a09", "div": "\u00f7", "cdot": "\u00b7\u22c5\u2219\u30fb", "pm": "\u00b1", "mp": "\u2213",
    "infty": "\u221e", "leq": "\u2264\u2a7d\u2266", "geq": "\u2265\u2a7e\u2267", "neq": "\u2260", "approx": "\u2248\u2245\u2243",
    "equiv": "\u2261", "in": "\u2208", "notin": "\u2209", "cup": "\u222a", "cap": "\u2229", "subset": "\u2282",
    "subseteq": "\u2286", "setminus": "\u2216", "emptyset": "\u2205\u2300\u00d8", "forall": "\u2200", "exists": "\u2203",
    "angle": "\u2220", "triangle": "\u25b3\u2206\u25b2", "perp": "\u22a5", "parallel": "\u2afd", "to": "\u2192\u27f6",
    "Rightarrow": "\u21d2", "therefore": "\u2234", "sum": "\u2211", "prod": "\u220f", "int": "\u222b", "partial": "\u2202", "nabla": "\u2207",
    "langle": "\u27e8\u2329\u3008", "rangle": "\u27e9\u232a\u3009", "land": "\u2227", "lor": "\u2228", "neg": "\u00ac", "sim": "\u223d",
    "propto": "\u221d", "lfloor": "\u230a", "rfloor": "\u230b", "lceil": "\u2308", "rceil": "\u2309", "hbar": "\u210f",
    "alpha": "\u03b1", "beta": "\u03b2", "gamma": "\u03b3", "delta": "\u03b4", "epsilon": "\u03f5", "varepsilon": "\u03b5",
    "zeta": "\u03b6", "eta": "\u03b7", "theta": "\u03b8", "iota": "\u03b9", "kappa": "\u03ba", "lambda": "\u03bb", "mu": "\u03bc",
    "nu": "\u03bd", "xi": "\u03be", "pi": "\u03c0", "rho": "\u03c1", "sigma": "\u03c3", "tau": "\u03c4", "upsilon": "\u03c5",
    "phi": "\u03d5", "varphi": "\u03c6", "chi": "\u03c7", "psi": "\u03c8", "omega": "\u03c9", "Gamma": "\u0393", "Delta": "\u0394",
    "Theta": "\u0398", "Lambda": "\u039b", "Xi": "\u039e", "Pi": "\u03a0", "Sigma": "\u03a3", "Phi": "\u03a6", "Psi": "\u03a8", "Omega": "\u03a9",
}  # fmt: skip
_KNOWN = {ord(sign): text for text, signs in _SIGNS.items() for sign in signs}
_KNOWN |= {ord(sign): f"\\{command} " for command, signs in _COMMANDS.items() for sign in signs}

_REMEMBERED = 5_000
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207e\u2071]+")
_WRITTEN_FRACTION = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+\u2044[\u2080-\u2089]+")
_LOWERED = re.compile("[\u2080-\u208e\u2090-\u209c]+")
_OVERLINED = re.compile("(?:[0-9]\u0305)+")
_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e\u2189]")
_RADICAND = r"\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[A-Za-z]|\u03c0))"
_ROOTS = [
    (re.compile(sign + _RADICAND), command) for sign, command in (("\u221a", r"\sqrt"), ("\u221b", r"\sqrt[3]"), ("\u221c", r"\sqrt[4]"))
]
_SPACE_AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) +(?=[^A-Za-z\s]|$)")


class _Table(dict):
    """What each character becomes; found out once for each that is not known beforehand."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            found = str(digit)
        elif 0xFF01 <= code <= 0xFF5E:  # full width
            found = chr(code - 0xFEE0)
        elif unicodedata.category(character) == "Zs":
            found = " "
        elif 0x1D400 <= code <= 0x1D7FF or 0x2160 <= code <= 0x217F:  # letters in bold, italics and so on; Roman numbers
            plain = unicodedata.normalize("NFKC", character)
            found = _KNOWN.get(ord(plain[0]), plain)
        else:
            found = character
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


_TABLE = _Table({code: chr(code) for code in range(128)} | _KNOWN)


def plain_characters(text: str) -> str:
    r"""The text with signs, digits, fractions, roots and Greek letters as ASCII and LaTeX: ``½π`` is ``\frac{1}{2}\pi``.

    Letters of other scripts and circled numbers stay.
    """
    if text.isascii():
        return text
    text = _WRITTEN_FRACTION.sub(_vulgar, text)
    text = _RAISED.sub(partial(_moved, "^"), text)
    text = _LOWERED.sub(partial(_moved, "_"), text)
    text = _FRACTION.sub(_vulgar, text)
    text = _OVERLINED.sub(lambda run: rf"\overline{{{run[0].replace(chr(0x305), '')}}}", text)
    for pattern, command in _ROOTS:
        text = pattern.sub(partial(_rooted, command), text)
    return _SPACE_AFTER_COMMAND.sub(r"\1", text.translate(_TABLE))


def _rooted(command: str, root: re.Match[str]) -> str:
    return f"{command}{{{root[1] or root[2] or root[3] or ''}}}"


def _moved(mark: str, run: re.Match[str]) -> str:
    content = unicodedata.normalize("NFKC", run[0]).replace("\u2212", "-")
    return f"{mark}{{{content}}}" if len(content) > 1 else mark + content


def _vulgar(character: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", character[0]).partition("\u2044")
    return f"\\frac{{{above}}}{{{below}}}"
