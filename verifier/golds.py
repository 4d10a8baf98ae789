r"""Finds reference answers that a file has damaged or left open, before a run trains on them. Pure.

JSON and Python read `\f`, `\t`, `\b`, `\r`, `\n`, `\v` and `\a` as one control character: LaTeX that was written with single
backslashes, such as `"\frac{1}{2}"`, arrives as a form feed and `rac{1}{2}`, and every right answer would be wrong.
"""

import re

_LETTER = {"\f": "f", "\t": "t", "\b": "b", "\r": "r", "\n": "n", "\v": "v", "\a": "a"}
_COMMANDS = frozenset(
    "frac flat forall tan tanh text textbf textit textrm times theta tau to top tfrac triangle tilde therefore binom beta bar begin bf big "
    "bigcup bigcap bmod bmatrix bot boxed bullet right rightarrow rightharpoonup rho rangle rvert rbrace rceil rfloor rm ne neq neg nu nabla notin nmid ngeq nleq newline nexists not ni "
    "vec varphi vartheta varepsilon vee vdots vert alpha angle approx arccos arcsin arctan arg ast".split()
)
_DAMAGE = re.compile(r"([\f\t\b\r\n\v\a])([A-Za-z]*)")
_TWO_INTEGERS = re.compile(r"\s*(\$?)\s*(-?\d+),(\d+)\s*\1\s*", re.ASCII)
_THOUSANDS = re.compile(r"\s*(\$?)\s*-?\d{1,3}(?:,\d{3})+\s*\1\s*", re.ASCII)


def damage_in(gold: str) -> str | None:
    r"""What an unescaped backslash has made of the gold answer, with the remedy; None if there is no such damage.

    Form feed, backspace, bell and vertical tab are in no answer; a tab or a line's end counts only where the letters
    behind it complete a LaTeX command, as in tab + `imes`.
    """
    for match in _DAMAGE.finditer(gold):
        letter = _LETTER[match[1]]
        command = letter + match[2]
        if match[1] in "\f\b\v\a" or command in _COMMANDS:
            return (
                f"the gold answer holds the control character {match[1]!r} before {match[2][:20]!r}: the file has \\{command} "
                f"with one backslash; write \\\\{command} in JSON, \\{command} in a table"
            )
    return None


def ambiguity_of(gold: str) -> str | None:
    """What else the gold answer may mean, with the remedy; None if it can be read in one way only."""
    numbers = _TWO_INTEGERS.fullmatch(gold)
    if numbers is None or _THOUSANDS.fullmatch(gold):
        return None
    _, first, second = numbers.groups()
    return (
        f"the gold answer {gold.strip()!r} is a list of two numbers or a decimal; write '{first}, {second}' or "
        f"'{first}.{second}'"
    )
