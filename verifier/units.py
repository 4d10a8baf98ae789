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


_MILES, _INCH, _POUND = Fraction(1609344, 1000), Fraction(254, 10000), Fraction(45359237, 100_000_000)
_BASE: dict[str, tuple[Fraction | int, dict[str, int], str]] = {
    # name: size, powers of base units, other names
    "m": (1, {"m": 1}, "meter metre"),
    "dm": (Fraction(1, 10), {"m": 1}, "decimeter decimetre"),
    "cm": (Fraction(1, 100), {"m": 1}, "centimeter centimetre"),
    "mm": (Fraction(1, 1000), {"m": 1}, "millimeter millimetre"),
    "km": (1000, {"m": 1}, "kilometer kilometre"),
    "nm": (Fraction(1, 10**9), {"m": 1}, "nanometer nanometre"),
    "in": (_INCH, {"m": 1}, "inch inche"),
    "ft": (12 * _INCH, {"m": 1}, "foot feet"),
    "yd": (36 * _INCH, {"m": 1}, "yard"),
    "mi": (_MILES, {"m": 1}, "mile"),
    "kg": (1, {"kg": 1}, "kilogram"),
    "g": (Fraction(1, 1000), {"kg": 1}, "gram"),
    "mg": (Fraction(1, 10**6), {"kg": 1}, "milligram"),
    "lb": (_POUND, {"kg": 1}, "pound lbs"),
    "oz": (_POUND / 16, {"kg": 1}, "ounce"),
    "s": (1, {"s": 1}, "sec second"),
    "ms": (Fraction(1, 1000), {"s": 1}, "millisecond"),
    "min": (60, {"s": 1}, "minute mins"),
    "h": (3600, {"s": 1}, "hr hrs hour"),
    "day": (86400, {"s": 1}, ""),
    "week": (604800, {"s": 1}, ""),
    "month": (1, {"month": 1}, ""),
    "year": (12, {"month": 1}, "yr yrs"),
    "L": (Fraction(1, 1000), {"m": 3}, "l liter litre"),
    "mL": (Fraction(1, 10**6), {"m": 3}, "ml milliliter millilitre cc"),
    "gal": (16, {"cup": 1}, "gallon"),
    "qt": (4, {"cup": 1}, "quart"),
    "pt": (2, {"cup": 1}, "pint"),
    "cup": (1, {"cup": 1}, ""),
    "acre": (1, {"acre": 1}, ""),
    "tonne": (1000, {"kg": 1}, ""),
    "ton": (1, {"ton": 1}, ""),
    "decade": (120, {"month": 1}, ""),
    "mol": (1, {"mol": 1}, "mole"),
    "Ω": (1, {"Ω": 1}, "ohm"),
    "cal": (1, {"cal": 1}, "calorie"),
    "kcal": (1000, {"cal": 1}, "kilocalorie"),
    "mph": (_MILES / 3600, {"m": 1, "s": -1}, ""),
    "kmh": (Fraction(1000, 3600), {"m": 1, "s": -1}, "kph"),
    "N": (1, {"kg": 1, "m": 1, "s": -2}, "newton"),
    "J": (1, {"kg": 1, "m": 2, "s": -2}, "joule"),
    "kJ": (1000, {"kg": 1, "m": 2, "s": -2}, "kilojoule"),
    "W": (1, {"kg": 1, "m": 2, "s": -3}, "watt"),
    "kW": (1000, {"kg": 1, "m": 2, "s": -3}, "kilowatt"),
    "Pa": (1, {"kg": 1, "m": -1, "s": -2}, "pascal"),
    "Hz": (1, {"s": -1}, "hertz"),
    "V": (1, {"V": 1}, "volt"),
    "A": (1, {"A": 1}, "ampere amp"),
    "ha": (10_000, {"m": 2}, "hectare"),
    "$": (1, {"$": 1}, "USD dollar"),
    "cent": (Fraction(1, 100), {"$": 1}, "¢"),
    "€": (1, {"€": 1}, "EUR euro"),
    "£": (1, {"£": 1}, "GBP"),
    "¥": (1, {"¥": 1}, "yen"),
    "°": (1, {"°": 1}, "deg degree"),
    "rad": (1, {"rad": 1}, "radian"),
    "°C": (1, {"°C": 1}, ""),
    "°F": (1, {"°F": 1}, ""),
    "K": (1, {"K": 1}, "kelvin"),
}
_NAMES = {other: name for name, (_, _, others) in _BASE.items() for other in (name, *others.split())}
_TEXT = re.compile(r"\\text\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_WORDS = (
    (re.compile(r"\b(?:square|sq\.?)\s+([a-z]+)", re.IGNORECASE), r"\1^2"),
    (re.compile(r"\b(?:cubic|cu\.?)\s+([a-z]+)", re.IGNORECASE), r"\1^3"),
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
            if sign < 0:
                return None
            sign = -1
            continue
        factor = _FACTOR.fullmatch(token)
        unit = _BASE.get(_name_of(factor[1])) if factor else None
        if factor is None or unit is None:
            return None
        power = sign * int(factor[2] or 1)
        size *= Fraction(unit[0]) ** power
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
