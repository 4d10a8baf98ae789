r"""Splits a formula into tokens and reads the names in it: variables with subscripts and primes, unknown functions,
derivatives, each a symbol of its own.

What a name is of is part of it: y'' is not y', f^{-1}(t) is not f(t), and dh/ds is not dh/dt.
"""

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import sympy

from verifier.sums import value_of

GREEK = frozenset(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar Re Im""".split()
)
TIMES, OVER = (r"\cdot", r"\times", "*", r"\ast"), ("/", r"\div")
ENDS = frozenset(
    ["", *") ] } + - , = \\rfloor \\rceil d_ \\bmod \\mod \\pmod \\choose \\over \\pm".split(), *TIMES, *OVER]
)
_FUNCTION_LETTERS = frozenset("fghFGH")
_PLAIN = rf"(?:[A-Za-zⅰ-ⅳ]|\d+|\\(?:{'|'.join(GREEK)}))"
_PLAIN_ARGUMENT = re.compile(rf"\( {_PLAIN}(?: , {_PLAIN})* \)")
_TOKEN = re.compile(r"\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\\.|'+|.)", re.ASCII)


class Unknown(ValueError):
    """The text is beyond this grammar."""


class TooLarge(ValueError):
    """An expression that would take unbounded time or memory; never parsed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How letters are to be read; both sides of a comparison are read alike."""

    complex_i: bool = False
    """The letter i is the imaginary unit."""
    fold_case: bool = False
    """Capital letters are the same variables as small ones."""
    matrices: bool = False
    """Capital letters are matrices, whose products keep their order."""


def fingerprint(expression: Any) -> str:
    """A text that equal expressions share: the value where each symbol has a value of its own."""
    if expression.is_Symbol or expression.is_Integer:
        return str(expression)
    value = expression.evalf(30, subs={symbol: value_of(symbol.name) for symbol in expression.free_symbols})
    if not value.is_number or value.has(sympy.nan, sympy.zoo):
        raise Unknown("no value")
    return str(value.evalf(20))


class Names:
    """The part of the parser that takes tokens, from left to right, and reads names."""

    def __init__(self, text: str, reading: Reading) -> None:
        self.tokens: list[str] = [*_TOKEN.findall(text.strip()), ""]
        self.place = 0
        self._reading = reading

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[self.place]

    def ahead(self, by: int = 1) -> str:
        """A later token, without taking one."""
        return self.tokens[min(self.place + by, len(self.tokens) - 1)]

    def take(self) -> str:
        """The next token, and go on to the one behind it."""
        token = self.token
        self.place += bool(token)
        return token

    def took(self, *tokens: str) -> bool:
        """Whether the next token is one of these; then it is taken."""
        return self.token in tokens and bool(self.take())

    def expect(self, *tokens: str) -> None:
        """Take tokens that must be these; Unknown if they are others."""
        for token in tokens:
            if self.take() != token:
                raise Unknown(token)

    def argument_text(self) -> str:
        """The tokens of an argument, joined."""
        if self.token != "{":
            return self.take()
        start, depth = self.place + 1, 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(token + " " * token.startswith("\\") for token in self.tokens[start : self.place - 1])
            if not token:
                raise Unknown("{")

    # -- names --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def expression(self) -> Any:
        """Terms with signs between."""

    def letter(self, name: str) -> Any:
        """A letter: a constant or a name."""
        if name == "e" and self.token != "_" and not self.token.startswith("'"):
            return sympy.E
        if name == "i" and self._reading.complex_i and self.token != "_":
            return sympy.I
        return self.named(name)

    def named(self, name: str) -> Any:
        """A variable with its subscript and primes, or an unknown function of what follows in parentheses."""
        if self._reading.fold_case:
            name = name.lower()
        if self.took("_"):
            name += "_" + re.sub(r"[{}\s\\]", "", self.argument_text())
        plain = name
        name += self._primes()
        may_be_function = name != plain or plain in _FUNCTION_LETTERS
        in_square = self.token == "[" and (plain == "E" or len(plain) > 1 or may_be_function or self.is_flat())
        if plain in _FUNCTION_LETTERS and self.token == "^" and (power := self._power_of_function()):
            name += power
        if in_square or (self.token == "(" and (may_be_function or self._is_plain_argument())):
            name += f"({','.join(map(fingerprint, self.listed()))})"
        return sympy.Symbol(name, real=True)

    def _primes(self) -> str:
        found = ""
        while True:
            if self.token.startswith("'"):
                found += self.take()
            elif self.token == "^" and (self.ahead() == r"\prime" or self.ahead() + self.ahead(2) == r"{\prime"):
                self.take()
                found += "'" * self.argument_text().count("prime")
            elif self.token == "^" and self.ahead() + self.ahead(2) == "{(" and self.ahead(4) == ")":
                self.take()
                order = self.argument_text()[1:-1]
                found += "'" * int(order) if order.isdigit() and len(order) == 1 else f"^({order})"
            else:
                return found

    def _power_of_function(self) -> str:
        r"""`^{-1}` and `^2` between the name of a function and its argument: an inverse or an iterate."""
        start = self.place
        self.take()
        power = self.argument_text()
        if self.token == "(" and re.fullmatch(r"-?\d", power):
            return "^" + power
        if power == "-1" and self.token in ENDS:
            return "^-1"
        self.place = start
        return ""

    def _is_plain_argument(self) -> bool:
        """Whether one name or number, or several with commas, is in the parentheses that follow."""
        return _PLAIN_ARGUMENT.match(" ".join(self.tokens[self.place :])) is not None

    def is_flat(self) -> bool:
        """Whether no parentheses are in the square brackets that follow, so that these do not merely enclose others."""
        end = self.tokens.index("]", self.place) if "]" in self.tokens[self.place :] else len(self.tokens)
        return "(" not in self.tokens[self.place : end]

    def listed(self) -> list[Any]:
        """Expressions in parentheses or square brackets, with commas between."""
        opening, closing = ("[", "]") if self.token == "[" else ("(", ")")
        self.expect(opening)
        found = [self.expression()]
        while self.took(","):
            found.append(self.expression())
        self.expect(closing)
        return found

    def decorated(self, name: str) -> Any:
        r"""A name in `\text` or under a bar, hat or dot."""
        if name == "nabla" and self.took("^"):
            return sympy.Symbol(f"nabla^{self.argument_text()}", real=True)
        inside = re.sub(r"[{}\s\\]", "", self.argument_text())
        if not re.fullmatch(r"[\w()',+-]{1,40}", inside) or (inside[1:].isalpha() and self.token[:1].isdigit()):
            raise Unknown(name)
        name = {"overline": "bar", "widehat": "hat", "widetilde": "tilde"}.get(name, name)
        return self.named(inside if name == "text" else f"{name}:{inside}")

    def corners(self, name: str) -> Any:
        r"""`\angle ABC`, the same as CBA, or `\triangle ABC`, whose corners have no order."""
        start = self.place
        while re.fullmatch(r"[A-Z]", self.token):
            self.take()
        if not (letters := "".join(self.tokens[start : self.place])):
            raise Unknown(name)
        letters = min(letters, letters[::-1]) if name == "angle" else "".join(sorted(letters))
        return sympy.Symbol(f"{name}:{letters}", real=True)

    def derivative(self, top: str, bottom: str) -> Any:
        r"""`\frac{\partial^2 u}{\partial x \partial y}` as a symbol; the order of the variables does not matter."""
        sign = "d" if top.startswith("d") else r"\partial"
        top, bottom = (re.sub(r"[{}\s]", "", text) for text in (top, bottom))
        variables = sorted(part for part in bottom.split(sign) if part)
        what = top.removeprefix(sign)
        if not variables or not re.fullmatch(r"(?:\^\d)?(?:\\?[A-Za-z]+\d?(?:_\w)?(?:\([a-z](?:,[a-z])*\))?)?", what):
            raise Unknown("derivative")
        if re.sub(r"\^\d", "", what) == "" and self.token not in ("(", "["):
            raise Unknown("derivative of what follows")
        return self.named(f"{sign}{what}/{sign}{sign.join(variables)}")
