r"""Parses a formula of LaTeX into a sympy expression, by its own grammar of what answers are made of.

It keeps apart what general parsers lose: `\sin x \cdot y` is sin(x) y, y'' is not y', f^{-1}(t) is not 1/f(t), A^T is not
A, and dh/ds is not dh/dt; such names are symbols of their own. Nothing is worked out (`evaluate=False`), so a parsed
formula is as small as its text. What is beyond the grammar (sums, integrals, limits, sets) raises Unknown.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy

_TOKEN = re.compile(r"\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|\\.|'+|.)", re.ASCII)
_EXACT_DIGITS = 9
"""A decimal with more digits is taken for a rounding."""
_GREEK = frozenset(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar Re Im""".split()
)
_VARIANTS = {"varphi": "phi", "vartheta": "theta", "varepsilon": "epsilon", "varrho": "rho", "varsigma": "sigma"}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "coth": sympy.coth,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "arcsec": sympy.asec,
    "arccsc": sympy.acsc, "arsinh": sympy.asinh, "arcosh": sympy.acosh, "artanh": sympy.atanh,
    "arcsinh": sympy.asinh, "arccosh": sympy.acosh, "arctanh": sympy.atanh,
    "ln": sympy.log, "log": sympy.log, "lg": sympy.log, "exp": sympy.exp,
}  # fmt: skip
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc",
            "sinh": "arsinh", "cosh": "arcosh", "tanh": "artanh"}  # fmt: skip
_DECORATIONS = frozenset("bar overline hat widehat tilde widetilde dot ddot dddot vec neg lnot nabla".split())
_LISTED: dict[str, Callable[..., Any]] = {"max": sympy.Max, "min": sympy.Min}
_TIMES, _OVER = (r"\cdot", r"\times", "*", r"\ast"), ("/", r"\div")
_ENDS = frozenset({"", ")", "]", "}", "+", "-", ",", "/", "=", r"\div", r"\cdot", r"\times", "*", r"\ast", r"\rfloor", r"\rceil",
                   r"\bmod", r"\mod", r"\pmod", r"\choose", r"\over", r"\pm"})  # fmt: skip
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_FUNCTION_LETTERS = frozenset("fghFGH")
_TRANSPOSE = {r"\top": "T", r"\intercal": "T", "T": "T", r"\dagger": "*", "*": "*", r"\ast": "*"}
_DIFFERENTIAL = re.compile(r"(?:d|\\partial)(?![a-z])")
_MATRIX_MARK = re.compile(r"[A-Z)]\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\dagger|-\s*1)(?![a-z])")


class Unknown(ValueError):
    """The text is beyond this grammar."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How letters are to be read; both sides of a comparison are read alike."""

    complex_i: bool = False
    """The letter i is the imaginary unit."""
    fold_case: bool = False
    """Capital letters are the same variables as small ones."""
    matrices: bool = False
    """Capital letters are matrices, whose products keep their order."""


def has_matrices(text: str) -> bool:
    """Whether a formula transposes or inverts capital letters and multiplies several of them."""
    return _MATRIX_MARK.search(text) is not None and len(re.findall(r"(?<![\\A-Za-z])[A-Z]+(?![a-z])", text)) > 1


def parse_formula(text: str, reading: Reading) -> Any:
    """The expression, not worked out.

    Raises:
        Unknown: the text is no formula, or has parts that this grammar does not know.

    """
    parser = _Parser(text, reading)
    found = parser.with_choose()
    if parser.token:
        raise Unknown(parser.token)
    return found


def fingerprint(expression: Any) -> str:
    """A text that equal expressions share: the value where each symbol has a value of its own."""
    if expression.is_Symbol or expression.is_Integer:
        return str(expression)
    point = {
        symbol: sympy.Float(zlib.crc32(symbol.name.encode()) / 2**32 + 0.25, 30) for symbol in expression.free_symbols
    }
    value = expression.evalf(30, subs=point)
    if not value.is_number or value.has(sympy.nan, sympy.zoo):
        raise Unknown("no value")
    return str(value.evalf(20))


class _Parser:
    def __init__(self, text: str, reading: Reading) -> None:
        self._tokens = [*_TOKEN.findall(text.strip()), ""]
        self._at = 0
        self._bars = 0
        self._reading = reading

    @property
    def token(self) -> str:
        """The next token; empty at the end."""
        return self._tokens[self._at]

    def _ahead(self, by: int = 1) -> str:
        return self._tokens[min(self._at + by, len(self._tokens) - 1)]

    def _take(self) -> str:
        token = self.token
        self._at += bool(token)
        return token

    def _expect(self, token: str) -> None:
        if self._take() != token:
            raise Unknown(token)

    def with_choose(self) -> Any:
        r"""An expression, or two with `\choose` or `\over` between."""
        found = self.expression()
        if self.token not in (r"\choose", r"\over"):
            return found
        over = self._take() == r"\over"
        below = self.expression()
        return _quotient(found, below) if over else sympy.binomial(found, below, evaluate=False)

    # -- sums, products -----------------------------------------------------------------------------------------------

    def expression(self) -> Any:
        """Terms with signs between."""
        terms = [self._signed()]
        while self.token in ("+", "-"):
            terms.append(self._signed())
        return terms[0] if len(terms) == 1 else sympy.Add(*terms, evaluate=False)

    def _signed(self) -> Any:
        negative = False
        while self.token in ("+", "-"):
            negative ^= self._take() == "-"
        term = self._term()
        if not negative:
            return term
        return -term if term.is_Rational else sympy.Mul(sympy.Integer(-1), term, evaluate=False)

    def _term(self) -> Any:
        found = self._juxtaposed()
        while True:
            if self.token in _TIMES:
                self._take()
                found = self._times(found, self._factor_sequence())
            elif self.token in _OVER:
                self._take()
                found = sympy.Mul(found, sympy.Pow(self._factor_sequence(), -1, evaluate=False), evaluate=False)
            elif self.token in (r"\bmod", r"\mod"):
                self._take()
                found = sympy.Mod(found, self._juxtaposed(), evaluate=False)
            else:
                return found

    def _factor_sequence(self) -> Any:
        """Factors without a sign between, before which a minus may be: 3 * -2."""
        if self.token == "-":
            self._take()
            return sympy.Mul(sympy.Integer(-1), self._juxtaposed(), evaluate=False)
        return self._juxtaposed()

    def _juxtaposed(self) -> Any:
        factors = [self._factor()]
        while not self._ends():
            before, start = self._tokens[self._at - 1], self.token
            factor = self._factor()
            if start[:1].isdigit() and before[-1:].isdigit():
                raise Unknown("two numbers side by side")
            if (
                start == r"\frac"
                and before.isdigit()
                and factors[-1].is_Integer
                and factor.is_Rational
                and 0 < factor < 1
            ):
                factors[-1] += factor
            else:
                factors.append(factor)
        found = factors[0]
        for factor in factors[1:]:
            found = self._times(found, factor)
        return found

    def _ends(self) -> bool:
        return self.token in _ENDS or (self.token == "|" and self._bars > 0)

    def _times(self, a: Any, b: Any) -> Any:
        if self._reading.matrices and (name := _matrix_name(a)) and (other := _matrix_name(b)):
            scale = a.args[0] if a.is_Mul else sympy.Integer(1)
            return sympy.Mul(scale, sympy.Symbol(f"{name} {other}", real=True), evaluate=False)
        return sympy.Mul(a, b, evaluate=False)

    # -- factors ------------------------------------------------------------------------------------------------------

    def _factor(self) -> Any:
        found = self._atom()
        while True:
            if self.token == "^":
                self._take()
                found = self._power(found)
            elif self.token == "!":
                self._take()
                found = sympy.factorial(found, evaluate=False)
            elif self.token == "°":
                self._take()
                found = sympy.Mul(found, sympy.pi, sympy.Rational(1, 180), evaluate=False)
            elif self.token == "_" or self.token.startswith("'"):
                raise Unknown(self.token)
            else:
                return found

    def _power(self, base: Any) -> Any:
        if self._mark_behind() == "T" and (name := _matrix_name(base) or (base.is_Symbol and base.name[:1].isupper())):
            self._argument_text()
            return sympy.Symbol(f"({name if isinstance(name, str) else base})^T", real=True)
        exponent = self._argument()
        if self._reading.matrices and exponent == -1 and (name := _matrix_name(base)):
            return sympy.Symbol(f"({name})^-1", real=True)
        return sympy.exp(exponent) if base == sympy.E else sympy.Pow(base, exponent, evaluate=False)

    def _mark_behind(self) -> str:
        """`T` if the exponent that follows is a transposition."""
        text = self._ahead() if self.token == "{" and self._ahead(2) == "}" else self.token
        return _TRANSPOSE.get(text, "")

    def _argument(self) -> Any:
        """What a command or `^` is applied to: a group, or one token as TeX has it."""
        if self.token == "{":
            return self._group("{")
        if self.token[:1].isdigit() and len(self.token) > 1:  # 2^10 without braces means 10 to who writes it
            if self._tokens[self._at - 1] != "^":
                digits = self.token
                if not digits.isdigit():
                    raise Unknown(digits)
                self._tokens[self._at : self._at + 1] = [digits[0], digits[1:]]
            return self._number(self._take())
        if self.token == "-" and self._tokens[self._at - 1] == "^":
            self._take()
            return -self._argument()
        if self.token in ("", "_", "^") or self.token in _ENDS - {"("}:
            raise Unknown(self.token)
        return self._atom() if self.token != "(" else self._group("(")

    def _argument_text(self) -> str:
        """The tokens of an argument, joined."""
        if self.token != "{":
            return self._take()
        start, depth = self._at + 1, 0
        while True:
            token = self._take()
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return "".join(token + " " * token.startswith("\\") for token in self._tokens[start : self._at - 1])
            if not token:
                raise Unknown("{")

    def _group(self, opening: str) -> Any:
        self._expect(opening)
        bars, self._bars = self._bars, 0
        found = self.with_choose() if opening == "{" else self.expression()
        self._bars = bars
        self._expect(_CLOSING[opening])
        return found

    def _atom(self) -> Any:
        token = self.token
        if token[:1].isdigit() or (token[:1] == "." and len(token) > 1):
            return self._number(self._take())
        if token in ("(", "[", "{"):
            if token == "{" and self._ahead(2) == "}" and re.fullmatch(r"[A-Za-z]", self._ahead()):
                name = self._ahead()
                self._tokens[self._at : self._at + 3] = [name]  # {u}_{1}
                return self._atom()
            return self._group(token)
        if token == "|":
            return self._bars_around()
        if re.fullmatch(r"[A-Za-z]", token):
            return self._letter(self._take())
        if token.startswith("\\"):
            return self._command(self._take()[1:])
        raise Unknown(token)

    def _number(self, token: str) -> Any:
        digits = token.replace(",", "")
        if "." in digits and len(digits) > _EXACT_DIGITS + 1:
            return sympy.Float(digits, max(30, len(digits)))
        value = Fraction(digits)
        return sympy.Rational(value.numerator, value.denominator)

    def _bars_around(self) -> Any:
        self._take()
        self._bars += 1
        inside = self.expression()
        self._bars -= 1
        self._expect("|")
        return sympy.Abs(inside, evaluate=False)

    # -- names --------------------------------------------------------------------------------------------------------

    def _letter(self, name: str) -> Any:
        if name == "e" and self.token != "_" and not self.token.startswith("'"):
            return sympy.E
        if name == "i" and self._reading.complex_i and self.token != "_":
            return sympy.I
        return self._named(name)

    def _named(self, name: str) -> Any:
        """A variable with its subscript and primes, or an unknown function of what follows in parentheses."""
        if self._reading.fold_case:
            name = name.lower()
        if self.token == "_":
            self._take()
            name += "_" + re.sub(r"[{}\s\\]", "", self._argument_text())
        plain = name
        name += self._primes()
        may_be_function = name != plain or plain in _FUNCTION_LETTERS
        if plain in _FUNCTION_LETTERS and self.token == "^" and (power := self._power_of_function()):
            name += power
        if self.token == "(" and (may_be_function or self._is_plain_argument()):
            return self._applied(name)
        return sympy.Symbol(name, real=True)

    def _primes(self) -> str:
        found = ""
        while True:
            if self.token.startswith("'"):
                found += self._take()
            elif self.token == "^" and (self._ahead() == r"\prime" or self._ahead() + self._ahead(2) == r"{\prime"):
                self._take()
                found += "'" * self._argument_text().count("prime")
            elif self.token == "^" and self._ahead().startswith("'"):
                self._take()
            elif self.token == "^" and self._ahead() + self._ahead(2) == "{(" and self._ahead(4) == ")":
                self._take()
                order = self._argument_text()[1:-1]
                found += "'" * int(order) if order.isdigit() and len(order) == 1 else f"^({order})"
            else:
                return found

    def _power_of_function(self) -> str:
        r"""`^{-1}` and `^2` between the name of a function and its argument: an inverse or an iterate."""
        start = self._at
        self._take()
        power = self._argument_text()
        if self.token == "(" and re.fullmatch(r"-?\d", power):
            return "^" + power
        if power == "-1" and self.token in _ENDS:
            return "^-1"
        self._at = start
        return ""

    def _is_plain_argument(self) -> bool:
        """Whether one name or number, or several with commas, is in the parentheses that follow."""
        ahead = 1
        while re.fullmatch(r"[A-Za-z]|\d+|\\(?:" + "|".join(_GREEK) + ")", self._ahead(ahead)):
            if self._ahead(ahead + 1) == ")":
                return True
            if self._ahead(ahead + 1) != ",":
                return False
            ahead += 2
        return False

    def _applied(self, name: str) -> Any:
        arguments = self._listed()
        return sympy.Symbol(f"{name}({','.join(map(fingerprint, arguments))})", real=True)

    def _listed(self) -> list[Any]:
        self._expect("(")
        found = [self.expression()]
        while self.token == ",":
            self._take()
            found.append(self.expression())
        self._expect(")")
        return found

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, name: str) -> Any:
        name = _VARIANTS.get(name, name)
        if name == "frac":
            return self._fraction()
        if name == "sqrt":
            return self._root()
        if name == "pi":
            return sympy.pi
        if name == "infty":
            return sympy.oo
        if name in _FUNCTIONS:
            return self._function(name)
        if name in _GREEK:
            return self._named("\\" + name)
        if name == "binom":
            return sympy.binomial(self._argument(), self._argument(), evaluate=False)
        if name in ("lfloor", "lceil"):
            self._at -= 1
            inside = self._group("\\" + name)
            return (sympy.floor if name == "lfloor" else sympy.ceiling)(inside, evaluate=False)
        if name in _LISTED:
            return _LISTED[name](*self._listed(), evaluate=False)
        if name in ("gcd", "lcm"):
            return sympy.Symbol(f"{name}({','.join(sorted(map(fingerprint, self._listed())))})", real=True)
        if name == "text" or name in _DECORATIONS:
            return self._decorated(name)
        raise Unknown(name)

    def _decorated(self, name: str) -> Any:
        inside = re.sub(r"[{}\s\\]", "", self._argument_text())
        if not re.fullmatch(r"[\w()',]{1,40}", inside):
            raise Unknown(name)
        name = {"overline": "bar", "widehat": "hat", "widetilde": "tilde", "lnot": "neg"}.get(name, name)
        return self._named(inside if name == "text" else f"{name}:{inside}")

    def _fraction(self) -> Any:
        start = self._at
        if self.token == "{" and _DIFFERENTIAL.match(self._ahead()):
            top, bottom = self._argument_text(), self._argument_text()
            if _DIFFERENTIAL.match(bottom):
                return self._derivative(top, bottom)
            self._at = start
        return _quotient(self._argument(), self._argument())

    def _derivative(self, top: str, bottom: str) -> Any:
        r"""`\frac{\partial^2 u}{\partial x \partial y}` as a symbol; the order of the variables does not matter."""
        sign = "d" if top.startswith("d") else r"\partial"
        top, bottom = (re.sub(r"[{}\s]", "", text) for text in (top, bottom))
        variables = sorted(part for part in bottom.split(sign) if part)
        what = top.removeprefix(sign)
        if not variables or not re.fullmatch(r"(?:\^\d)?(?:\\?[A-Za-z]+\d?(?:_\w)?(?:\([a-z](?:,[a-z])*\))?)?", what):
            raise Unknown("derivative")
        if re.sub(r"\^\d", "", what) == "" and self.token not in ("(", "["):
            raise Unknown("derivative of what follows")
        return self._named(f"{sign}{what}/{sign}{sign.join(variables)}")

    def _root(self) -> Any:
        order: Any = sympy.Integer(2)
        if self.token == "[":
            order = self._group("[")
        return sympy.Pow(self._argument(), sympy.Pow(order, -1), evaluate=False)

    def _function(self, name: str) -> Any:
        base: Any = None
        power: Any = None
        while self.token in ("^", "_"):
            if self._take() == "_":
                base = self._argument()
            elif name in _INVERSE and re.sub(r"[{}]", "", "".join(self._tokens[self._at : self._at + 4])).startswith(
                "-1"
            ):
                self._argument()
                name = _INVERSE[name]
            else:
                power = self._argument()
        argument = self._function_argument()
        if name in ("log", "lg") and base is None:
            base = sympy.Integer(10)
        if name == "ln" and base is not None:
            raise Unknown(name)
        function = _FUNCTIONS[name]
        found = function(argument, evaluate=False)
        if base is not None:
            if name not in ("log", "lg"):
                raise Unknown(name)
            found = sympy.Mul(found, sympy.Pow(sympy.log(base, evaluate=False), -1, evaluate=False), evaluate=False)
        return found if power is None else sympy.Pow(found, power, evaluate=False)

    def _function_argument(self) -> Any:
        r"""In parentheses, or without: up to a sign, another function, or parentheses behind a name."""
        if self.token in ("(", "[", "{", "|"):
            found = self._factor_without_power()
            return found
        if self.token == "-":
            self._take()
            return sympy.Mul(sympy.Integer(-1), self._function_argument(), evaluate=False)
        factors = [self._factor()]
        while not self._ends() and not self._starts_another():
            factors.append(self._factor())
        if self.token == "(" and all(factor.is_Rational for factor in factors):
            raise Unknown("where the argument ends")
        found = factors[0] if len(factors) == 1 else sympy.Mul(*factors, evaluate=False)
        if (
            self.token == "/"
            and (self._ahead()[:1].isdigit() or found.is_number)
            and self._ahead()[:1] not in ("(", "\\")
        ):
            self._take()
            found = _quotient(found, self._factor())
        return found

    def _factor_without_power(self) -> Any:
        return self._bars_around() if self.token == "|" else self._group(self.token)

    def _starts_another(self) -> bool:
        if self.token in ("(", "[", "|") or (self.token == "e" and self._ahead() == "^"):
            return True
        return self.token[1:] in _FUNCTIONS or self.token in (r"\sum", r"\int", r"\prod", r"\lim")


def _quotient(top: Any, bottom: Any) -> Any:
    if top.is_Integer and bottom.is_Integer and bottom != 0:
        return sympy.Rational(top.p, bottom.p)
    return sympy.Mul(top, sympy.Pow(bottom, -1, evaluate=False), evaluate=False)


def _matrix_name(x: Any) -> str:
    """The name of a capital letter or of a product of them; empty for others."""
    if x.is_Mul and len(x.args) == 2 and x.args[0].is_Rational:
        x = x.args[1]
    return x.name if x.is_Symbol and re.match(r"\(*[A-Z]", x.name) else ""
