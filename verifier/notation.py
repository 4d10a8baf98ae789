"""Lists the names and signs of LaTeX that the grammar of formulas (`verifier.formulas`) knows."""

import re
from collections.abc import Callable
from typing import Any

import sympy

GREEK = frozenset(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar Re Im""".split()
)
VARIANTS = {"varphi": "phi", "vartheta": "theta", "varepsilon": "epsilon", "varrho": "rho", "varsigma": "sigma"}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "coth": sympy.coth, "sech": sympy.sech, "csch": sympy.csch,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "arcsec": sympy.asec,
    "arccsc": sympy.acsc, "arsinh": sympy.asinh, "arcosh": sympy.acosh, "artanh": sympy.atanh,
    "arcsinh": sympy.asinh, "arccosh": sympy.acosh, "arctanh": sympy.atanh,
    "ln": sympy.log, "log": sympy.log, "lg": sympy.log, "exp": sympy.exp,
}  # fmt: skip
INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc",
            "sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}  # fmt: skip
DECORATIONS = frozenset("bar overline hat widehat tilde widetilde dot ddot dddot vec neg lnot nabla".split())
APPLIED = frozenset("det dim ker deg arg".split())
"""Functions that are not worked out: what they are of is part of a name."""
LISTED: dict[str, Callable[..., Any]] = {"max": sympy.Max, "min": sympy.Min}
TIMES, OVER = (r"\cdot", r"\times", "*", r"\ast"), ("/", r"\div")
ENDS = frozenset({"", ")", "]", "}", "+", "-", ",", "/", "=", r"\div", r"\cdot", r"\times", "*", r"\ast", r"\rfloor", r"\rceil",
                   r"\bmod", r"\mod", r"\pmod", r"\choose", r"\over", r"\pm"})  # fmt: skip
CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
FUNCTION_LETTERS = frozenset("fghFGH")
TRANSPOSE = {r"\top": "T", r"\intercal": "T", "T": "T", r"\dagger": "*", "*": "*", r"\ast": "*"}
DIFFERENTIAL = re.compile(r"d|\\partial")
DIFFERENTIALS = re.compile(
    r"(?:(?:d|\\partial )(?:\\(?:dot|ddot|bar|hat) \{?[A-Za-z]\}?|[A-Za-z]|\\[a-z]+ )(?:_\w)?(?:\^\{?\d\}?)?)+"
)
"""What is below the line of a derivative."""
