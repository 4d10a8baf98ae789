r"""Parses a formula of LaTeX into a sympy expression, by its own grammar of what answers are made of.

It keeps apart what general parsers lose: `\sin x \cdot y` is sin(x) y, y'' is not y', f^{-1}(t) is not 1/f(t), A^T is not
A, and dh/ds is not dh/dt; such names are symbols of their own. Nothing is worked out (`evaluate=False`), so a parsed
formula is as small as its text. What is beyond the grammar (sets, contour integrals) raises Unknown.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy

from verifier.names import ENDS, GREEK, OVER, TIMES, Names, Reading, TooLarge, Unknown, fingerprint
from verifier.values import evaluate, rational

MAX_HEIGHT = 4
"""Powers in exponents of each other."""
_EXACT_DIGITS = 9
"""A decimal with more digits is taken for a rounding."""
_MATRIX_MARK = re.compile(r"[A-Z)]\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\dagger|-\s*1)(?![a-z])")
_BOTH_ORDERS = re.compile(
    r"(?<![A-Za-z\\])([A-Z])\s*([A-Z])(?![A-Za-z]).*(?<![A-Za-z\\])(?!\1)\2\s*\1(?![A-Za-z])"
    r"|(?<![A-Za-z\\])([A-Z])\s*(?!\3)[A-Z]\s*\3(?![A-Za-z])",
    re.DOTALL,
)
_CAPITALS = re.compile(r"(?<![\\A-Za-z])[A-Z]+(?![a-z])")
_VARIANTS = {"varphi": "phi", "vartheta": "theta", "varepsilon": "epsilon", "varrho": "rho", "varsigma": "sigma"}
_CONSTANTS = {"pi": sympy.pi, "infty": sympy.oo}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(sympy, name) for name in "sin cos tan cot sec csc sinh cosh tanh coth sech csch log exp".split()},
    **{f"arc{name}": getattr(sympy, f"a{name}") for name in "sin cos tan cot sec csc sinh cosh tanh".split()},
    **{f"ar{name}": getattr(sympy, f"a{name}") for name in ("sinh", "cosh", "tanh")},
    "ln": sympy.log,
    "cis": lambda angle, **_: sympy.exp(sympy.Mul(sympy.I, angle, evaluate=False)),
}
_LISTED: dict[str, Callable[..., Any]] = {"max": sympy.Max, "min": sympy.Min}
_ROUNDED: dict[str, Callable[..., Any]] = {"lfloor": sympy.floor, "lceil": sympy.ceiling}
_APPLIED = frozenset("det dim ker deg arg".split())
"""Functions that are not worked out: what they are of is part of a name."""
_DECORATIONS = frozenset("text bar overline hat widehat tilde widetilde dot ddot dddot vec neg nabla".split())
_CLOSING = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_SUMMED: dict[str, Callable[..., Any]] = {"sum": sympy.Sum, "prod": sympy.Product}
_BOUND = "ⅰⅱⅲⅳ"
"""Names of bound letters, by depth; no letter of a cleaned text."""
_DIFFERENTIAL_BEHIND = "d_"
"""The token for `dx`, which ends what is integrated."""
_ABOVE_LINE = re.compile(
    r"\\int((?:\s*[_^]\s*(?:\{[^{}]*\}|[\w-]))*)\s*\\frac\s*\{\s*d\s*([a-z])\s*\}\s*(\{(?:[^{}]|\{[^{}]*\})*\})"
)
r"""`\int_1^2 \frac{dx}{x}`."""
_TRANSPOSE = (r"\top", r"\intercal", "T")
_VARIABLE = re.compile(rf"[A-Za-z]|\\(?:{'|'.join(GREEK)})")
_DIFFERENTIAL = re.compile(r"d|\\partial")
_DIFFERENTIALS = re.compile(
    r"(?:(?:d|\\partial )(?:\\(?:dot|ddot|bar|hat) \{?[A-Za-z]\}?|[A-Za-z]|\\[a-z]+ )(?:_\w)?(?:\^\{?\d\}?)?)+"
)
"""What is below the line of a derivative."""


def has_matrices(text: str) -> bool:
    """Whether a formula multiplies capital letters in both orders, or several of which it transposes or inverts one."""
    if _BOTH_ORDERS.search(text):
        return True
    return _MATRIX_MARK.search(text) is not None and sum(map(len, _CAPITALS.findall(text))) > 1


def parse_formula(text: str, reading: Reading) -> Any:
    """The expression, not worked out; raises Unknown if the text has parts that this grammar does not know."""
    parser = _Parser(_ABOVE_LINE.sub(r"\\int\1\\frac{1}\3 d \2 ", text), reading)
    found = parser.with_choose()
    if parser.token:
        raise Unknown(parser.token)
    return found


class _Parser(Names):
    def __init__(self, text: str, reading: Reading) -> None:
        super().__init__(text, reading)
        self._bars = 0
        self._height = 0
        self._num_bound = 0

    def with_choose(self) -> Any:
        r"""An expression, or two with `\choose` or `\over` between."""
        found = self.expression()
        if self.took(r"\over"):
            return _quotient(found, self.expression())
        return sympy.binomial(found, self.expression(), evaluate=False) if self.took(r"\choose") else found

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
        return -term if term.is_Rational or term is sympy.oo else sympy.Mul(sympy.Integer(-1), term, evaluate=False)

    def _term(self) -> Any:
        factors = self._juxtaposed()
        while True:
            if self.took(*TIMES):
                factors += self._behind_sign()
            elif self.took(*OVER):
                factors.append(sympy.Pow(self._product(self._behind_sign()), -1, evaluate=False))
            elif self.took(r"\bmod", r"\mod"):
                factors = [sympy.Mod(self._product(factors), self._product(self._juxtaposed()), evaluate=False)]
            else:
                return self._product(factors)

    def _behind_sign(self) -> list[Any]:
        """Factors behind a sign of multiplication or division, before which a minus may be: 3 * -2."""
        return [sympy.Integer(-1), *self._juxtaposed()] if self.took("-") else self._juxtaposed()

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
            if self.took("^"):
                found = self._power(found)
            elif self.took("!"):
                found = sympy.factorial(found, evaluate=False)
            elif self.took("°"):
                found = sympy.Mul(found, sympy.pi, sympy.Rational(1, 180), evaluate=False)
            elif self.token.startswith("'"):
                found = sympy.Symbol(f"({fingerprint(found)}){self.take()}", real=True)
            else:
                return found

    def _power(self, base: Any) -> Any:
        mark = self.ahead() if self.token == "{" and self.ahead(2) == "}" else self.token
        if mark in _TRANSPOSE and (name := _matrix_name(base) or (base.is_Symbol and base.name[:1].isupper())):
            self.argument_text()
            factors = name.split(" ") if isinstance(name, str) else [base]  # (AB)^T is B^T A^T
            return sympy.Symbol(" ".join(f"({factor})^T" for factor in reversed(factors)), real=True)
        self._height += 1
        if self._height > MAX_HEIGHT:
            raise TooLarge(f"more than {MAX_HEIGHT} powers, one in the exponent of the other")
        exponent = self._argument()
        if self.took("^"):  # 2^3^2 is 2^(3^2)
            exponent = self._power(exponent)
        self._height -= 1
        if self._reading.matrices and exponent == -1 and (name := _matrix_name(base)):
            return sympy.Symbol(" ".join(f"({factor})^-1" for factor in reversed(name.split(" "))), real=True)
        return sympy.exp(exponent) if base == sympy.E else self._raised(base, exponent)

    def _raised(self, base: Any, exponent: Any) -> Any:
        """An odd root of a negative number is negative, unless complex numbers are meant."""
        power = None if exponent.is_Integer or base.free_symbols or self._reading.complex_i else rational(exponent)
        if power and power.denominator % 2 and (value := evaluate(base, {})) is not None and value.is_negative:
            positive = sympy.Pow(sympy.Mul(-1, base, evaluate=False), exponent, evaluate=False)
            return sympy.Mul((-1) ** power.numerator, positive, evaluate=False)
        return sympy.Pow(base, exponent, evaluate=False)

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
        if self.tokens[self.place - 1] == "^" and self.took("-"):
            return -self._argument()
        return self._atom() if self.token != "(" else self._group("(")

    def _group(self, opening: str) -> Any:
        self.expect(opening)
        bars, self._bars = self._bars, 0
        found = self.with_choose() if opening == "{" else self.expression()
        self._bars = bars
        self.expect(_CLOSING[opening])
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
            is_flat = token == "[" and self.is_flat()
            found = self._group(token)
            if is_flat and found.free_symbols and not found.has(sympy.Add, sympy.Function):
                return sympy.Symbol(f"[{fingerprint(found)}]", real=True)  # [x] is no x in parentheses
            return found
        if token == "|":
            return self._bars_around()
        if re.fullmatch(rf"[A-Za-z{_BOUND}]", token):
            return self.letter(self.take())
        if token.startswith("\\"):
            return self._command(self.take()[1:])
        raise Unknown(token)

    def _number(self, token: str) -> Any:
        digits = token.replace(",", "")
        if "." in digits and len(digits) > _EXACT_DIGITS + 1:
            return sympy.Float(digits, max(30, len(digits)))
        return sympy.Rational(Fraction(digits))

    def _bars_around(self) -> Any:
        self.take()
        self._bars += 1
        inside = self.expression()
        self._bars -= 1
        self.expect("|")
        return sympy.Abs(inside, evaluate=False)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, name: str) -> Any:
        name = _VARIANTS.get(name, name)
        if reader := {"frac": self._fraction, "int": self._integral, "lim": self._limit}.get(name):
            return reader()
        if name == "sqrt":
            order = self._group("[") if self.token == "[" else sympy.Integer(2)
            return self._raised(self._argument(), sympy.Pow(order, -1))
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in GREEK:
            return self.named("\\" + name)
        if name == "binom":
            return sympy.binomial(self._argument(), self._argument(), evaluate=False)
        if name in _ROUNDED:
            self.place -= 1
            return _ROUNDED[name](self._group("\\" + name), evaluate=False)
        if name in _LISTED:
            return _LISTED[name](*self.listed(), evaluate=False)
        if name in ("gcd", "lcm"):
            return sympy.Symbol(f"{name}({','.join(sorted(map(fingerprint, self.listed())))})", real=True)
        if name in _APPLIED:
            of = self._group("(") if self.token == "(" else self._factor()
            return sympy.Symbol(f"{name}({fingerprint(of)})", real=True)
        if name in _FUNCTIONS:
            return self._function(name)
        if name in _SUMMED:
            return self._summed(name)
        if name in ("angle", "triangle"):
            return self.corners(name)
        if name in _DECORATIONS:
            return self.decorated(name)
        raise Unknown(name)

    def _fraction(self) -> Any:
        start = self.place
        if self.token == "{" and _DIFFERENTIAL.fullmatch(self.ahead()):
            top, bottom = self.argument_text(), self.argument_text()
            if _DIFFERENTIALS.fullmatch(bottom):
                return self.derivative(top, bottom)
            self.place = start
        return _quotient(self._argument(), self._argument())

    # -- what binds a letter ------------------------------------------------------------------------------------------

    def _summed(self, name: str) -> Any:
        r"""`\sum_{k=1}^n` or `\prod_{k=1}^n` of all factors that follow."""
        self.expect("_", "{")
        letter = self.take()
        self.expect("=")
        first = self.expression()
        self.expect("}", "^")
        last = self._argument()
        variable, terms = self._of(letter, self._term)
        return _opaque(name, terms, first, last) or _SUMMED[name](terms, (variable, first, last))

    def _integral(self) -> Any:
        self.expect("_")
        first = self._argument()
        self.expect("^")
        last = self._argument()
        depth, missing = 0, 1
        for place in range(self.place, len(self.tokens) - 1):
            token, behind = self.tokens[place : place + 2]
            depth += (token in _CLOSING) - (token in _CLOSING.values())
            missing += (token == r"\int") - (depth == 0 and token == "d" and _VARIABLE.fullmatch(behind) is not None)
            if missing == 0:
                break
        else:
            raise Unknown("an integral without a differential")
        letter = self.tokens[place + 1]
        self.tokens[place : place + 2] = [_DIFFERENTIAL_BEHIND]
        variable, integrand = self._of(letter, self.expression)
        self.expect(_DIFFERENTIAL_BEHIND)
        opaque = _opaque("int", integrand, first, last, variable)
        return opaque or sympy.Integral(integrand, (variable, first, last))

    def _limit(self) -> Any:
        self.expect("_", "{")
        letter = self.take()
        if not self.took(r"\to", r"\rightarrow"):
            raise Unknown("a limit of no letter")
        end = self.expression()
        self.expect("}")
        variable, found = self._of(letter, self._term)
        side = "+-" if end.is_finite else "+"
        return _opaque("lim", found, end, end, variable) or sympy.Limit(found, variable, end, side)

    def _of(self, letter: str, read: Callable[[], Any]) -> tuple[Any, Any]:
        """What follows, with a name of our own for the letter that is bound in it: (that name, what was read)."""
        if self._num_bound == len(_BOUND) or not _VARIABLE.fullmatch(letter):
            raise Unknown(letter)
        name = _BOUND[self._num_bound]
        self._num_bound += 1
        self.tokens[self.place :] = [name if token == letter else token for token in self.tokens[self.place :]]
        found = read()
        self.tokens[self.place :] = [letter if token == name else token for token in self.tokens[self.place :]]
        self._num_bound -= 1
        return sympy.Symbol(name, real=True), found

    # -- functions ----------------------------------------------------------------------------------------------------

    def _function(self, name: str) -> Any:
        base: Any = sympy.Integer(10) if name == "log" else None
        power: Any = None
        while self.token in ("^", "_"):
            if self.take() == "_":
                base = self._argument()
                continue
            power = self._argument()
            if power == -1 and f"arc{name}" in _FUNCTIONS:
                name, power = f"arc{name}", None
        found = _FUNCTIONS[name](self._function_argument(), evaluate=False)
        if base is not None:
            if name != "log":
                raise Unknown(name)
            found = sympy.Mul(found, sympy.Pow(sympy.log(base, evaluate=False), -1, evaluate=False), evaluate=False)
        return found if power is None else sympy.Pow(found, power, evaluate=False)

    def _function_argument(self) -> Any:
        r"""In parentheses, or without: up to a sign, another function, or parentheses behind a name."""
        if self.token == "|":
            return self._bars_around()
        if self.token in ("(", "[", "{"):
            return self._group(self.token)
        if self.took("-"):
            return sympy.Mul(sympy.Integer(-1), self._function_argument(), evaluate=False)
        factors = [self._factor()]
        while not self._ends() and not self._starts_another():
            factors.append(self._factor())
        if self.token == "(" and all(factor.is_Rational for factor in factors):
            raise Unknown("where the argument ends")
        found = self._product(factors)
        start = self.ahead()[:1]
        if self.token == "/" and start not in ("(", "\\") and (start.isdigit() or found.is_number):
            self.take()
            found = _quotient(found, self._factor())
        return found

    def _starts_another(self) -> bool:
        if self.token in ("(", "[", "|") or (self.token == "e" and self.ahead() == "^"):
            return True
        return self.token[1:] in _FUNCTIONS or self.token in (r"\sum", r"\int", r"\prod", r"\lim")


def _quotient(top: Any, bottom: Any) -> Any:
    if top.is_Integer and bottom.is_Integer and bottom != 0:
        return sympy.Rational(top.p, bottom.p)
    return sympy.Mul(top, sympy.Pow(bottom, -1, evaluate=False), evaluate=False)


def _opaque(kind: str, of: Any, first: Any, last: Any, variable: Any = None) -> Any | None:
    """A symbol for a sum or an integral of an unknown function, f(k), which has no values; None for others.

    Terms a_k of a sum have values (`verifier.sums`); an unknown y_t in the integral by t has none.
    """
    names = [symbol.name for symbol in of.free_symbols if symbol != variable]
    if not any("(" in name or (variable is not None and variable.name in name) for name in names):
        return None
    return sympy.Symbol(f"{kind}[{','.join(map(fingerprint, (first, last, of)))}]", real=True)


def _in_order(factors: list[Any]) -> list[Any]:
    """Factors, of which capital letters side by side are one symbol: AB is not BA."""
    found: list[Any] = []
    for factor in factors:
        name, before = _matrix_name(factor), _matrix_name(found[-1]) if found else ""
        if name and before:
            found[-1] = sympy.Symbol(f"{before} {name}", real=True)
        else:
            found.append(factor)
    return found


def _matrix_name(x: Any) -> str:
    """The name of a capital letter or of a product of them; empty for others."""
    return x.name if x.is_Symbol and re.match(r"\(*[A-Z]", x.name) else ""
