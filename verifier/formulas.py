r"""Parses a formula of LaTeX into a sympy expression, by its own grammar of what answers are made of.

It keeps apart what general parsers lose: `\sin x \cdot y` is sin(x) y, y'' is not y', f^{-1}(t) is not 1/f(t), A^T is not
A, and dh/ds is not dh/dt; such names are symbols of their own. Nothing is worked out (`evaluate=False`), so a parsed
formula is as small as its text. What is beyond the grammar (sums, integrals, limits, sets) raises Unknown.
"""

import re
from fractions import Fraction
from typing import Any

import sympy

from verifier.names import Names, Reading, fingerprint
from verifier.notation import (
    APPLIED,
    CLOSING,
    DECORATIONS,
    DIFFERENTIAL,
    DIFFERENTIALS,
    ENDS,
    FUNCTIONS,
    GREEK,
    INVERSE,
    LISTED,
    OVER,
    TIMES,
    TRANSPOSE,
    VARIANTS,
)
from verifier.tokens import TooLarge, Unknown

MAX_HEIGHT = 4
"""Powers in exponents of each other."""
_EXACT_DIGITS = 9
"""A decimal with more digits is taken for a rounding."""
_MATRIX_MARK = re.compile(r"[A-Z)]\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\dagger|-\s*1)(?![a-z])")

_CAPITALS = re.compile(r"(?<![\\A-Za-z])[A-Z]+(?![a-z])")
DIVIDED = re.compile(r"\\frac\s*\{[^{}]*\}\s*\{[^{}]*[A-Z]|/\s*\(?[A-Z]")
"""No one divides by a matrix."""


def has_matrices(text: str) -> bool:
    """Whether a formula transposes or inverts capital letters and multiplies several of them."""
    return _MATRIX_MARK.search(text) is not None and sum(map(len, _CAPITALS.findall(text))) > 1


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


class _Parser(Names):
    def __init__(self, text: str, reading: Reading) -> None:
        super().__init__(text, reading)
        self._bars = 0
        self._height = 0

    def with_choose(self) -> Any:
        r"""An expression, or two with `\choose` or `\over` between."""
        found = self.expression()
        if self.token not in (r"\choose", r"\over"):
            return found
        over = self.take() == r"\over"
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
            negative ^= self.take() == "-"
        term = self._term()
        if not negative:
            return term
        return -term if term.is_Rational else sympy.Mul(sympy.Integer(-1), term, evaluate=False)

    def _term(self) -> Any:
        factors = self._juxtaposed()
        while True:
            if self.token in TIMES:
                self.take()
                factors += self._behind_sign()
            elif self.token in OVER:
                self.take()
                factors.append(sympy.Pow(self._product(self._behind_sign()), -1, evaluate=False))
            elif self.token in (r"\bmod", r"\mod"):
                self.take()
                factors = [sympy.Mod(self._product(factors), self._product(self._juxtaposed()), evaluate=False)]
            else:
                return self._product(factors)

    def _behind_sign(self) -> list[Any]:
        """Factors behind a sign of multiplication or division, before which a minus may be: 3 * -2."""
        if self.token == "-":
            self.take()
            return [sympy.Integer(-1), *self._juxtaposed()]
        return self._juxtaposed()

    def _juxtaposed(self) -> list[Any]:
        """Factors without a sign between. An integer and a fraction are a mixed number."""
        factors = [self._factor()]
        while not self._ends():
            before, start = self.tokens[self.place - 1], self.token
            factor = self._factor()
            if start[:1].isdigit() and before[-1:].isdigit():
                raise Unknown("two numbers side by side")
            is_part = start == r"\frac" and factor.is_Rational and 0 < factor < 1
            if is_part and before.isdigit() and factors[-1].is_Integer:
                factors[-1] += factor
            else:
                factors.append(factor)
        return factors

    def _ends(self) -> bool:
        return self.token in ENDS or (self.token == "|" and self._bars > 0)

    def _product(self, factors: list[Any]) -> Any:
        """One flat product: a nested one would take time exponential in its depth."""
        if self._reading.matrices:
            factors = _in_order(factors)
        return factors[0] if len(factors) == 1 else sympy.Mul(*factors, evaluate=False)

    # -- factors ------------------------------------------------------------------------------------------------------

    def _factor(self) -> Any:
        found = self._atom()
        while True:
            if self.token == "^":
                self.take()
                found = self._power(found)
            elif self.token == "!":
                self.take()
                found = sympy.factorial(found, evaluate=False)
            elif self.token == "°":
                self.take()
                found = sympy.Mul(found, sympy.pi, sympy.Rational(1, 180), evaluate=False)
            elif self.token.startswith("'"):
                found = sympy.Symbol(f"({fingerprint(found)}){self.take()}", real=True)
            elif self.token == "_":
                raise Unknown(self.token)
            else:
                return found

    def _power(self, base: Any) -> Any:
        if self._mark_behind() == "T" and (name := _matrix_name(base) or (base.is_Symbol and base.name[:1].isupper())):
            self.argument_text()
            factors = name.split(" ") if isinstance(name, str) else [base]  # (AB)^T is B^T A^T
            return sympy.Symbol(" ".join(f"({factor})^T" for factor in reversed(factors)), real=True)
        self._height += 1
        if self._height > MAX_HEIGHT:
            raise TooLarge(f"more than {MAX_HEIGHT} powers, one in the exponent of the other")
        exponent = self._argument()
        if self.token == "^":  # 2^3^2 is 2^(3^2)
            self.take()
            exponent = self._power(exponent)
        self._height -= 1
        if self._reading.matrices and exponent == -1 and (name := _matrix_name(base)):
            return sympy.Symbol(f"({name})^-1", real=True)
        return sympy.exp(exponent) if base == sympy.E else sympy.Pow(base, exponent, evaluate=False)

    def _mark_behind(self) -> str:
        """`T` if the exponent that follows is a transposition."""
        text = self.ahead() if self.token == "{" and self.ahead(2) == "}" else self.token
        return TRANSPOSE.get(text, "")

    def _argument(self) -> Any:
        """What a command or `^` is applied to: a group, or one token as TeX has it."""
        if self.token == "{":
            return self._group("{")
        if self.token[:1].isdigit() and len(self.token) > 1:  # 2^10 without braces means 10 to who writes it
            if self.tokens[self.place - 1] != "^":
                digits = self.token
                if not digits.isdigit():
                    raise Unknown(digits)
                self.tokens[self.place : self.place + 1] = [digits[0], digits[1:]]
            return self._number(self.take())
        if self.token == "-" and self.tokens[self.place - 1] == "^":
            self.take()
            return -self._argument()
        if self.token in ("", "_", "^") or self.token in ENDS - {"("}:
            raise Unknown(self.token)
        return self._atom() if self.token != "(" else self._group("(")

    def _group(self, opening: str) -> Any:
        self.expect(opening)
        bars, self._bars = self._bars, 0
        found = self.with_choose() if opening == "{" else self.expression()
        self._bars = bars
        self.expect(CLOSING[opening])
        return found

    def _atom(self) -> Any:
        token = self.token
        if token[:1].isdigit() or (token[:1] == "." and len(token) > 1):
            return self._number(self.take())
        if token in ("(", "[", "{"):
            if token == "{" and self.ahead(2) == "}" and re.fullmatch(r"[A-Za-z]", self.ahead()):
                name = self.ahead()
                self.tokens[self.place : self.place + 3] = [name]  # {u}_{1}
                return self._atom()
            return self._group(token)
        if token == "|":
            return self._bars_around()
        if re.fullmatch(r"[A-Za-z]", token):
            return self.letter(self.take())
        if token.startswith("\\"):
            return self._command(self.take()[1:])
        raise Unknown(token)

    def _number(self, token: str) -> Any:
        digits = token.replace(",", "")
        if "." in digits and len(digits) > _EXACT_DIGITS + 1:
            return sympy.Float(digits, max(30, len(digits)))
        value = Fraction(digits)
        return sympy.Rational(value.numerator, value.denominator)

    def _bars_around(self) -> Any:
        self.take()
        self._bars += 1
        inside = self.expression()
        self._bars -= 1
        self.expect("|")
        return sympy.Abs(inside, evaluate=False)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, name: str) -> Any:
        name = VARIANTS.get(name, name)
        if name == "frac":
            return self._fraction()
        if name == "sqrt":
            return self._root()
        if name == "pi":
            return sympy.pi
        if name == "infty":
            return sympy.oo
        if name in FUNCTIONS:
            return self._function(name)
        if name in GREEK:
            return self.named("\\" + name)
        if name == "binom":
            return sympy.binomial(self._argument(), self._argument(), evaluate=False)
        if name in ("lfloor", "lceil"):
            self.place -= 1
            inside = self._group("\\" + name)
            return (sympy.floor if name == "lfloor" else sympy.ceiling)(inside, evaluate=False)
        if name in LISTED:
            return LISTED[name](*self.listed(), evaluate=False)
        if name in ("gcd", "lcm"):
            return sympy.Symbol(f"{name}({','.join(sorted(map(fingerprint, self.listed())))})", real=True)
        if name in APPLIED:
            of = self._group("(") if self.token == "(" else self._factor()
            return sympy.Symbol(f"{name}({fingerprint(of)})", real=True)
        if name in ("angle", "triangle"):
            return self.corners(name)
        if name == "text" or name in DECORATIONS:
            return self.decorated(name)
        raise Unknown(name)

    def _fraction(self) -> Any:
        start = self.place
        if self.token == "{" and DIFFERENTIAL.fullmatch(self.ahead()):
            top, bottom = self.argument_text(), self.argument_text()
            if DIFFERENTIALS.fullmatch(bottom):
                return self.derivative(top, bottom)
            self.place = start
        return _quotient(self._argument(), self._argument())

    def _root(self) -> Any:
        order: Any = sympy.Integer(2)
        if self.token == "[":
            order = self._group("[")
        return sympy.Pow(self._argument(), sympy.Pow(order, -1), evaluate=False)

    def _function(self, name: str) -> Any:
        base: Any = None
        power: Any = None
        while self.token in ("^", "_"):
            if self.take() == "_":
                base = self._argument()
            elif name in INVERSE and re.sub(r"[{}]", "", "".join(self.tokens[self.place : self.place + 4])).startswith(
                "-1"
            ):
                self._argument()
                name = INVERSE[name]
            else:
                power = self._argument()
        argument = self._function_argument()
        if name in ("log", "lg") and base is None:
            base = sympy.Integer(10)
        if name == "ln" and base is not None:
            raise Unknown(name)
        function = FUNCTIONS[name]
        found = function(argument, evaluate=False)
        if base is not None:
            if name not in ("log", "lg"):
                raise Unknown(name)
            found = sympy.Mul(found, sympy.Pow(sympy.log(base, evaluate=False), -1, evaluate=False), evaluate=False)
        return found if power is None else sympy.Pow(found, power, evaluate=False)

    def _function_argument(self) -> Any:
        r"""In parentheses, or without: up to a sign, another function, or parentheses behind a name."""
        if self.token in ("(", "[", "{", "|"):
            return self._factor_without_power()
        if self.token == "-":
            self.take()
            return sympy.Mul(sympy.Integer(-1), self._function_argument(), evaluate=False)
        factors = [self._factor()]
        while not self._ends() and not self._starts_another():
            factors.append(self._factor())
        if self.token == "(" and all(factor.is_Rational for factor in factors):
            raise Unknown("where the argument ends")
        found = factors[0] if len(factors) == 1 else sympy.Mul(*factors, evaluate=False)
        if (
            self.token == "/"
            and (self.ahead()[:1].isdigit() or found.is_number)
            and self.ahead()[:1] not in ("(", "\\")
        ):
            self.take()
            found = _quotient(found, self._factor())
        return found

    def _factor_without_power(self) -> Any:
        return self._bars_around() if self.token == "|" else self._group(self.token)

    def _starts_another(self) -> bool:
        if self.token in ("(", "[", "|") or (self.token == "e" and self.ahead() == "^"):
            return True
        return self.token[1:] in FUNCTIONS or self.token in (r"\sum", r"\int", r"\prod", r"\lim")


def _quotient(top: Any, bottom: Any) -> Any:
    if top.is_Integer and bottom.is_Integer and bottom != 0:
        return sympy.Rational(top.p, bottom.p)
    return sympy.Mul(top, sympy.Pow(bottom, -1, evaluate=False), evaluate=False)


def _in_order(factors: list[Any]) -> list[Any]:
    """Factors, of which capital letters side by side are one symbol: AB is not BA."""
    found: list[Any] = []
    for factor in factors:
        name, before = _matrix_name(factor), _matrix_name(found[-1]) if found else ""
        if name and before:
            scale = found[-1].args[0] if found[-1].is_Mul else sympy.Integer(1)
            together = sympy.Symbol(f"{before} {name}", real=True)
            found[-1] = together if scale == 1 else sympy.Mul(scale, together, evaluate=False)
        else:
            found.append(factor)
    return found


def _matrix_name(x: Any) -> str:
    """The name of a capital letter or of a product of them; empty for others."""
    if x.is_Mul and len(x.args) == 2 and x.args[0].is_Rational:
        x = x.args[1]
    return x.name if x.is_Symbol and re.match(r"\(*[A-Z]", x.name) else ""
