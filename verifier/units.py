"""Knows units of measure, what they measure and how large they are, and times of day: 3 m is 300 cm, 72 km/h is 20 m/s.

Words that are no unit of measure, such as `apples`, have none. Currencies, degrees, radians and temperatures are
dimensions of their own: nothing is converted between them.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Measure:
    """A product of powers of base units, in terms of m, kg, s and others."""

    size: Fraction
    powers: tuple[tuple[str, int], ...]


_KINDS: tuple[tuple[dict[str, int], dict[str, str]], ...] = (
    # powers of base units: names of a unit, and its size
    ({"m": 1}, {"m meter metre": "1", "dm decimeter decimetre": "0.1", "cm centimeter centimetre": "0.01",
                "mm millimeter millimetre": "0.001", "nm nanometer nanometre": "1e-9", "km kilometer kilometre": "1000",
                "in inch inche": "0.0254", "ft foot feet": "0.3048", "yd yard": "0.9144", "mi mile": "1609.344"}),
    ({"m": 2}, {"ha hectare": "10000"}),
    ({"m": 3}, {"L l liter litre": "0.001", "mL ml milliliter millilitre cc": "1e-6"}),
    ({"cup": 1}, {"gal gallon": "16", "qt quart": "4", "pt pint": "2", "cup": "1"}),
    ({"kg": 1}, {"kg kilogram": "1", "g gram": "0.001", "mg milligram": "1e-6", "tonne": "1000",
                 "lb pound lbs": "0.45359237", "oz ounce": "0.028349523125"}),
    ({"s": 1}, {"s sec second": "1", "ms millisecond": "0.001", "min minute mins": "60", "h hr hrs hour": "3600",
                "day": "86400", "week": "604800"}),
    ({"month": 1}, {"month": "1", "year yr yrs": "12", "decade": "120"}),
    ({"s": -1}, {"Hz hertz": "1"}),
    ({"m": 1, "s": -1}, {"mph": "0.44704", "kmh kph": "5/18"}),
    ({"kg": 1, "m": 1, "s": -2}, {"N newton": "1"}),
    ({"kg": 1, "m": 2, "s": -2}, {"J joule": "1", "kJ kilojoule": "1000"}),
    ({"kg": 1, "m": 2, "s": -3}, {"W watt": "1", "kW kilowatt": "1000"}),
    ({"kg": 1, "m": -1, "s": -2}, {"Pa pascal": "1"}),
    ({"cal": 1}, {"cal calorie": "1", "kcal kilocalorie": "1000"}),
    ({"$": 1}, {"$ USD dollar": "1", "cent ¢": "0.01"}),
    *(({names.split()[0]: 1}, {names: "1"}) for names in ("mol mole", "Ω ohm", "V volt", "A ampere amp", "€ EUR euro",
      "£ GBP", "¥ yen", "a.m am AM A.M", "p.m pm PM P.M", "° deg degree", "rad radian", "°C", "°F", "K kelvin", "acre", "ton")),
)  # fmt: skip
_UNITS = {names.split()[0]: (Fraction(size), powers) for powers, sizes in _KINDS for names, size in sizes.items()}
_NAMES = {name: names.split()[0] for _, sizes in _KINDS for names in sizes for name in names.split()}
_TEXT = re.compile(r"\\text\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_WORDS = (
    (re.compile(r"\b(?:square|sq\.?)\s+([a-z]+)", re.IGNORECASE), r"\1^2"),
    (re.compile(r"\b(?:cubic|cu\.?)\s+([a-z]+)", re.IGNORECASE), r"\1^3"),
    (re.compile(r"(?:°|\bdegrees?)\s*([CF])(?:elsius|ahrenheit)?\b"), r"°\1"),
    (re.compile(r"\s+squared\b"), "^2"),
    (re.compile(r"\s+cubed\b"), "^3"),
    (re.compile(r"\s+per\s+"), " / "),
    (re.compile(r"\\cdot|\\times|\*"), " "),
)
_FACTOR = re.compile(r"(\D+?)\.?(?:\^(-?\d))?")
MAX_UNIT_CHARS = 60


@lru_cache(maxsize=2000)
def measure(text: str) -> Measure | None:
    """What a unit measures; None if it is no unit of measure."""
    if not text or len(text) > MAX_UNIT_CHARS:
        return None
    plain = plain_unit(text)
    size, powers, sign = Fraction(1), dict[str, int](), 1
    for token in plain.replace("/", " / ").split():
        if token == "/":
            sign = -1
            continue
        factor = _FACTOR.fullmatch(token)
        unit = _UNITS.get(_name_of(factor[1])) if factor else None
        if factor is None or unit is None:
            return None
        power = sign * int(factor[2] or 1)
        size *= unit[0] ** power
        for base, exponent in unit[1].items():
            powers[base] = powers.get(base, 0) + power * exponent
    return Measure(size, tuple(sorted((base, power) for base, power in powers.items() if power))) if plain else None


def plain_unit(text: str) -> str:
    r"""A unit without LaTeX: `\text{m}\,\text{s}^{-2}` as `m s^-2`."""
    text = _TEXT.sub(r" \1 ", text)
    text = re.sub(r"\s*\^\s*(?:\{\s*(-?\d)\s*\}|(-?\d))", lambda power: f"^{power[1] or power[2]}", text)
    text = _FRACTION.sub(r"\1 / \2", text)
    for pattern, to in _WORDS:
        text = pattern.sub(to, text)
    plain = re.sub(r"[{}\s]+", " ", text).strip(" .")
    return re.sub(r"[^\s/^\d.-]+", lambda name: _name_of(name[0]), plain) if len(plain) <= MAX_UNIT_CHARS else plain


def _name_of(name: str) -> str:
    """One name for those of a unit; others as they are."""
    return _NAMES.get(name) or (_NAMES.get(name.lower().removesuffix("s"), name) if len(name) > 2 else name)


def differ(a: str, b: str) -> bool:
    """Whether two units of measure are known and not the same."""
    one, other = measure(a), measure(b)
    return one is not None and other is not None and one != other


def same_time(gold: tuple[list[str], str], answer: tuple[list[str], str]) -> bool:
    """2:30 p.m. is 14:30. Where only one of two names the half of the day, 2:30 is either, 12:30 is after noon."""
    if not all(re.fullmatch(r"\d{1,2}", part) for part in (*gold[0], *answer[0])):
        return False
    times = [[int(part) for part in parts] for parts, _ in (gold, answer)]
    if bool(gold[1]) == bool(answer[1]):
        return times[0] == times[1] and gold[1] == answer[1]
    named, known = times if gold[1] else times[::-1]
    hour = named[0] % 12 + (12 if (gold[1] or answer[1]) == "p" else 0)
    return known[1:] == named[1:] and (known[0] == hour or (0 < known[0] < 12 and known[0] == named[0]))
