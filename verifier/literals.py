"""Reads numbers as people and models write them: integers, decimals, fractions, mixed and scientific, with units or percent.

Exact: every value is a Fraction. An expression that has to be worked out (`6 + 10`, `2^4`) is no literal.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verifier.latex import matching, without_text
from verifier.units import measure, plain_unit

MAX_DIGITS = 1000
"""Longest run of digits that is read; a longer answer is refused, not computed."""
MAX_EXPONENT = 400
FLOAT_ERROR = Fraction(4, 10**16)
"""How far a float may be from the number that it stands for, as a share of it."""
MIN_FIGURES = 4
"""Figures that a decimal must show at least to stand for what rounds to it: 4.6e-24 is not 4.57e-24."""

_INTEGER = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d{1,3}(?:'\d{3})+|\d+"
_POINTS_BETWEEN = r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}"
_DECIMAL_COMMA = r"\d+,(?!0(?!\d))\d{1,2}|\d+,\d{4,}|0,\d+"
_NUMBER = rf"(?:{_POINTS_BETWEEN}|{_DECIMAL_COMMA}|(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_PLAIN = r"[+-]?\s*\d+(?:,\d{3})*(?:\.\d+)?"
_DIGITS = re.compile(rf"[+-]?\d{{1,{MAX_DIGITS}}}", re.ASCII)
_FORMS = [
    re.compile(rf"(?P<sign>[+-]?)\s*{form}(?![\d.]*\d)", re.ASCII)
    for form in (
        rf"(?P<number>{_NUMBER})(?:[eE](?P<e>[+-]?\d+)|\s*(?:\\times|\\cdot|\*|x|X)\s*10\s*\^\s*\{{?\s*(?P<tens>[+-]?\d+)\s*\}}?)?",
        r"(?P<repeating>\d*\.\d*\\overline\s*\{\d+\}|\d*\.\d*\\(?:bar|dot)\s*\{\d\})",
        r"(?P<whole>\d+)\s+(?P<top>\d+)\s*/\s*(?P<bottom>\d+)",
        r"(?P<whole>\d+)\s*\\frac\s*(?P<top>\{\d+\}|\d)\s*(?P<bottom>\{\d+\}|\d)",
        rf"\\frac\s*(?P<top>\{{\s*{_PLAIN}\s*\}}|\d)\s*(?P<bottom>\{{\s*{_PLAIN}\s*\}}|\d)",
        r"(?P<top>[+-]?\d+(?:\.\d+)?)\s*/\s*(?P<bottom>[+-]?\d+(?:\.\d+)?)",
        r"\{?\s*(?P<top>\d+)\s*\\over\s*(?P<bottom>\d+)\s*\}?",
    )
]
_CURRENCY = r"\$|€|£|¥|₹|₽|USD|EUR|GBP|Rs\.?"
_PREFIX = re.compile(rf"([+-]?)\s*({_CURRENCY})\s*(?=[\d.\\+-])")
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
          "bn": 10**9, "tn": 10**12, "lakh": 10**5, "crore": 10**7}  # fmt: skip
_UNIT_WORD = re.compile(r"(?:[^\W\d_\u3400-\u9fff]|[°€£¥$₹])+\.?|[\u3400-\u9fff]{1,4}")
_NOT_UNITS = frozenset(
    """or and to not nor minus plus times divided over factorial squared cubed if but mod modulo than less more half
    halves ish third thirds quarter quarters of choose permute is are was else either between from through
    e i pi sin cos tan log ln exp sqrt frac one two three four five six seven eight nine ten fourths fifths sixths sevenths
    eighths ninths tenths hundredths thousandths tenth hundredth thousandth millionths root roots power
    at maximum minimum max upwards onwards fewer too below wrong incorrect false invalid rejected impossible
    maybe perhaps possibly probably etc among gross score zero""".split()
)
_SHORT_UNITS = frozenset(
    "m cm mm km dm nm ft in yd mi kg g mg lb oz s h hr ms l ml L mL J kJ N W kW V A Hz K C F ha cc pt am pm AM PM b B kB "
    "MB GB qt".split()
)
_UNIT_OR_SCALE = frozenset("kKMB")
"""5 K are five kelvins only if the gold says so, else five thousand."""
_UNKNOWN_UNIT = re.compile(r"(?!(?:units?|each|total|more|less)$)[A-Za-z]+")
"""One word that is no unit of measure: no other name of one that is."""
_COMPOUND = re.compile(
    r"(\d{1,9}) ?([A-Za-z]+)\.?,? (?:and )?(\d{1,9}(?:\.\d{1,9})?) ?([A-Za-z]+)\.?(?:,? (?:and )?(\d{1,9}(?:\.\d{1,9})?) ?([A-Za-z]+)\.?)?"
)
_ENDLESS = re.compile(
    r"(?P<sign>[+-]?)(?P<head>\d*)\.(?P<fixed>\d{0,20}?)(?P<block>\d{1,12})(?P<again>(?P=block)+)\d{0,11}\.\.\.",
    re.ASCII,
)
MIN_REPEATED = 3
"""Digits that `0.666...` must show of what repeats, and at least twice."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A number that was written out."""

    value: Fraction
    decimals: int | None = None
    """Places behind the point, None if the value is exact: an integer or a fraction."""
    percent: bool = False
    unit: str = ""
    """Empty if there is none."""
    compound: bool = False
    """Given in several units, `1 hour 30 minutes`: `value` is in the smallest."""


def literal(text: str) -> Literal | None:
    """The number that a cleaned text (`verifier.latex.clean`) is, as a whole; None if it is anything else."""
    text = text.strip()
    if _DIGITS.fullmatch(text):
        return Literal(Fraction(int(text)))
    if not any(character.isdigit() for character in text[:200]) or too_many_digits(text):
        return None
    text = _bare(text)
    if several := _compound(text) or _endless(text):
        return several
    if prefix := _PREFIX.match(text):
        text = prefix[1] + text[prefix.end() :]
    currency = prefix[2] if prefix else ""
    for form in _FORMS:
        if match := form.match(text):
            value, rest = _value(match), _rest(text[match.end() :].strip())
            if value is not None and rest is not None:
                number, decimals = value
                scale, percent, unit = rest
                return Literal(number if scale == 1 else number * scale, decimals, percent, unit or currency)
    return None


def too_many_digits(text: str) -> bool:
    """Whether a run of digits is longer than is ever read."""
    return len(text) > MAX_DIGITS and re.search(rf"\d{{{MAX_DIGITS + 1}}}", text) is not None


def _bare(text: str) -> str:
    """Without parentheses or dollar signs around the number, a sign before them kept. (7,6) is a point, no 7.6."""
    if text.count("$") == 2:
        text = text.replace("$", "").strip()
    if in_text := re.fullmatch(r"\\text\s*\{([^{}]*)\}", text):
        text = in_text[1].strip()
    text = re.sub(r"^\((-?[\d.,]+)\)\s+(?=[A-Za-z])", r"\1 ", text)
    for _ in range(3):
        match = re.match(r"([+-]?)\s*[({[]", text)
        if not match or matching(text, match.end() - 1) != len(text) - 1:
            break
        inside = text[match.end() : -1].strip()
        if "," in inside or (match[1] and inside[:1] in "+-"):
            break
        text = match[1] + inside
    return text


def _value(match: re.Match[str]) -> tuple[Fraction, int | None] | None:
    groups = match.groupdict()
    sign = -1 if groups["sign"] == "-" else 1
    if groups.get("number"):
        return _decimal(groups, sign)
    if groups.get("repeating"):
        return sign * _repeating(groups["repeating"]), None
    top, bottom = (Fraction(re.sub(r"[\s,{}]", "", match[part])) for part in ("top", "bottom"))
    return (sign * (int(groups.get("whole") or 0) + top / bottom), None) if bottom else None


def _decimal(groups: dict[str, str | None], sign: int) -> tuple[Fraction, int | None] | None:
    number = groups["number"]
    assert number
    exponent = int(groups.get("e") or groups.get("tens") or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    if re.fullmatch(_POINTS_BETWEEN, number):
        number = number.replace(".", "").replace(",", ".")
    elif re.fullmatch(_DECIMAL_COMMA, number):
        number = number.replace(",", ".")
    number = re.sub(r"[ ,']", "", number)
    places = len(number.partition(".")[2])
    value = Fraction(number.rstrip("."))
    if exponent:
        value *= Fraction(10) ** exponent
    return sign * value, max(0, places - exponent) if places else None


def _repeating(text: str) -> Fraction:
    head, _, digits = re.sub(r"\\(?:overline|bar|dot)\s*", "", text).replace("}", "").partition("{")
    whole, _, fixed = head.partition(".")
    start = Fraction(int((whole or "0") + fixed), 10 ** len(fixed))
    return start + Fraction(int(digits), 10 ** len(fixed) * (10 ** len(digits) - 1))


def _rest(text: str) -> tuple[int, bool, str] | None:
    """What follows a number: (scale, percent, unit); None if it makes the whole no literal."""
    if not text.startswith("/") and measure(text) is not None:
        return 1, False, plain_unit(text)
    in_text = text.startswith(r"\text")
    text = re.sub(r"\s+", " ", without_text(text)).strip(" .,;:")
    scale = 1
    first, _, others = text.partition(" ")
    if first.lower().rstrip("s") in SCALES:
        scale, text = SCALES[first.lower().rstrip("s")], others.removeprefix("of ")
    if text.startswith("%"):
        return (scale, True, "") if _is_unit(text[1:].strip(), True) else None
    return (scale, False, plain_unit(text)) if _is_unit(text, in_text) else None


def _is_unit(text: str, in_text: bool) -> bool:
    words = re.sub(r"\^\s*\{?-?\d\}?|[()]", "", text).replace("/", " ").replace(r"\cdot", " ").replace("-", " ").split()
    if not words or text.startswith("/"):  # 1/A is no number of amperes
        return not text
    if text.startswith("("):
        return measure(" ".join(words)) is not None
    if len(words) > (6 if in_text else 3) or any(word.lower().strip(".") in _NOT_UNITS for word in words):
        return False
    if not all(_UNIT_WORD.fullmatch(word) for word in words):
        return False
    return in_text or all(
        len(word.strip(".")) >= 3 or word.strip(".") in _SHORT_UNITS or word in "$€£¥₹" or not word.isascii()
        for word in words
    )


def _compound(text: str) -> Literal | None:
    """`1 hour 30 minutes`, in minutes."""
    found = _COMPOUND.fullmatch(re.sub(r"\s+", " ", without_text(text)).strip()) if len(text) < 120 else None
    if found is None:
        return None
    pairs = zip(found.groups()[::2], found.groups()[1::2], strict=True)
    parts = [(Fraction(number), unit) for number, unit in pairs if number]
    measures = [known for _, unit in parts if (known := measure(unit))]
    sizes = [known.size for known in measures]
    is_alike = len(measures) == len(parts) and len({known.powers for known in measures}) == 1
    if not is_alike or sizes != sorted(set(sizes))[::-1]:
        return None
    total = sum((number * size for (number, _), size in zip(parts, sizes, strict=True)), Fraction(0))
    return Literal(total / sizes[-1], None, False, parts[-1][1], compound=True)


def _endless(text: str) -> Literal | None:
    """`0.1666...` as 1/6."""
    found = _ENDLESS.fullmatch(text) if text.endswith("...") else None
    if found is None:
        return None
    block, shown = found["block"], found["block"] + found["again"]
    rest = text[: -len("...")].partition(".")[2][len(found["fixed"]) + len(shown) :]
    if len(shown) < MIN_REPEATED or not block.startswith(rest):
        return None
    value = _repeating(f"{found['head']}.{found['fixed']}{{{block}}}")
    return Literal(-value if found["sign"] == "-" else value)


def same_number(gold: Literal, answer: Literal) -> bool:
    """Whether two literals are the same number.

    Exact, but for what decimals mean: with six places or more a decimal stands for all that rounds to it. 28% is also
    28, if one of the two is no percentage, and 0.28.
    """
    if answer.unit in _UNIT_OR_SCALE and answer.unit != gold.unit:
        return False
    is_temperature = gold.unit in ("°C", "°F") and answer.unit in ("°", gold.unit[1])
    a, b = (None, None) if is_temperature else (measure(gold.unit), measure(answer.unit))
    if a is not None and b is not None:
        if a.powers != b.powers:
            return False
        if a.size != b.size:
            return gold.value * a.size == answer.value * b.size
    elif gold.compound or answer.compound or (a is not None and _UNKNOWN_UNIT.fullmatch(answer.unit)):
        return False
    if gold.percent != answer.percent:
        plain, percentage = (gold, answer) if answer.percent else (answer, gold)
        if measure(plain.unit) is not None:
            return False
        hundredth = Literal(percentage.value / 100, None if percentage.decimals is None else percentage.decimals + 2)
        return _close(plain, hundredth) or (abs(plain.value) >= 1 and _close(plain, percentage))
    return _close(gold, answer)


def _close(a: Literal, b: Literal) -> bool:
    if a.value == b.value:
        return True
    places = [x.decimals for x in (a, b) if x.decimals is not None]
    if not places or a.value == 0 or b.value == 0:
        return False
    error = abs(a.value - b.value) / abs(a.value)
    if error <= FLOAT_ERROR and any(is_float_of(x, error, float(y.value)) for x, y in ((a, b), (b, a))):
        return True
    # An exact value with few places of its own is meant exactly: 3 is not 2.9999999.
    if any(x.decimals is None and _terminates(x.value) for x in (a, b)):
        return False
    fewest = min(places)
    rounded = _rounded(a.value, fewest)
    return fewest >= 6 and rounded == _rounded(b.value, fewest) and abs(rounded) >= 10 ** (MIN_FIGURES - 1)


def is_float_of(number: Literal, error: Any, value: float) -> bool:
    """Whether a decimal, off by this share (`error`) of a value, is the value as a float prints it: 15 figures or more."""
    figures = len(str(abs(int(number.value * 10**number.decimals)))) if number.decimals else 0
    if figures < 15 or number.decimals is None or error > FLOAT_ERROR:
        return False
    return figures <= 17 or abs(number.value - Fraction(value)) <= Fraction(1, 10**number.decimals)


def _terminates(value: Fraction) -> bool:
    return pow(10, value.denominator.bit_length(), value.denominator) == 0


def _rounded(value: Fraction, places: int) -> int:
    """Half away from zero, in units of the last place."""
    scaled = abs(value) * 10**places
    return int(scaled + Fraction(1, 2)) * (1 if value > 0 else -1)
