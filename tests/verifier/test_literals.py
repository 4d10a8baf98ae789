from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.graders import integer, math
from verifier.latex import clean
from verifier.literals import Literal, literal, same_number

INTEGERS = st.integers(-(10**18), 10**18)
SMALL = st.integers(-999, 999)


def read(text: str) -> Literal | None:
    return literal(clean(text))


@given(INTEGERS)
def test_an_integer_is_read_in_every_notation(number: int) -> None:
    grouped = f"{number:,}"
    notations = [
        f"{number}",
        f"{number}.0",
        f"{number}.",
        grouped,
        grouped.replace(",", "{,}"),
        grouped.replace(",", r"\,"),
        grouped.replace(",", " "),
        f"${number}$",
        f"{number}".replace("-", "\u2212"),
        rf"{number} \text{{ apples}}",
        rf"\frac{{{number}}}{{1}}",
        f"{number}e0",
        rf"{number} \times 10^{{0}}",
    ]
    assert {notation: found.value if (found := read(notation)) else None for notation in notations} == dict.fromkeys(
        notations, Fraction(number)
    )


@given(SMALL, st.integers(1, 999))
def test_a_fraction_is_read_in_every_notation(top: int, bottom: int) -> None:
    for notation in (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{top}}}{{{bottom}}}"):
        found = read(notation)
        assert found is not None and found.value == Fraction(top, bottom)


@given(st.integers(1, 99), st.integers(1, 98), st.integers(2, 99))
def test_a_mixed_number_is_a_sum(whole: int, top: int, bottom: int) -> None:
    for notation in (f"{whole} {top}/{bottom}", rf"{whole}\frac{{{top}}}{{{bottom}}}"):
        found = read(notation)
        assert found is not None and found.value == whole + Fraction(top, bottom)


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_a_decimal_keeps_its_places(digits: int, places: int) -> None:
    text = f"{digits / 10**places:.{places}f}"
    found = read(text)
    assert found is not None
    assert (found.value, found.decimals) == (Fraction(text), places)


@pytest.mark.parametrize(
    ("text", "value", "percent", "unit"),
    [
        ("$1,000.99", "1000.99", False, "$"),
        ("1.000,99", "1000.99", False, ""),
        ("1.234.567", "1234567", False, ""),
        ("0,5", "0.5", False, ""),
        ("28 percent", "28", True, ""),
        (r"28\%", "28", True, ""),
        (r"0.1\overline{6}", "1/6", False, ""),
        (r"3\frac12", "7/2", False, ""),
        ("5 cm^2", "5", False, "cm^2"),
        ("5 square meters", "5", False, "m^2"),
        ("2 dozen", "24", False, ""),
        ("1.5 million", "1500000", False, ""),
        ("1.5e-3", "3/2000", False, ""),
        (r"2 \times 10^{3}", "2000", False, ""),
        ("90°", "90", False, "°"),
    ],
)
def test_what_stands_around_a_number(text: str, value: str, percent: bool, unit: str) -> None:
    found = read(text)
    assert found is not None
    assert (found.value, found.percent, found.unit) == (Fraction(value), percent, unit)


@pytest.mark.parametrize(
    "text",
    ["", "x", "6 + 10", "2^4", "5!", "5x", "5 or 6", "1, 2", "(1, 2)", r"\sqrt{4}", "1/0", "5 squared", "--5", "5 = 5",
     "9" * 1001, "1e999", "5 of x", r"5 \pi", "0x1f", "five"],
)  # fmt: skip
def test_what_is_no_literal(text: str) -> None:
    assert read(text) is None


def same(a: str, b: str) -> bool:
    x, y = read(a), read(b)
    assert x is not None and y is not None
    assert same_number(x, y) == same_number(y, x)
    return same_number(x, y)


@given(INTEGERS, INTEGERS)
def test_integers_are_the_same_only_if_they_are(a: int, b: int) -> None:
    assert same(f"{a}", f"{b}") == (a == b)


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(6, 12))
def test_a_fraction_is_its_decimal_of_six_places(top: int, bottom: int, places: int) -> None:
    value = Fraction(top, bottom)
    scaled = int(value * 10**places + Fraction(1, 2))
    decimal = f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"
    terminates = value * 10**40 % 1 == 0
    exact = Fraction(scaled, 10**places) == value
    if not terminates and scaled >= 1000:
        assert same(f"{top}/{bottom}", decimal)
    if terminates and not exact and places < 10:
        assert not same(f"{top}/{bottom}", decimal)


def test_rounding_needs_six_places_and_units_must_agree() -> None:
    assert not same("1/3", "0.33333")
    assert same("1/3", "0.333333")
    assert not same("3", "2.9999999")
    assert same("0.3", "0.30000000000000004")
    assert not same("4.6e-24", "4.57e-24") and not same("1/999999", "0.000001")
    assert same("28%", "0.28") and same("28%", "28") and not same("0.28", "28") and not same("0.28%", "0.28")
    assert same("5 cm", "5") and same("5 cm", "5 centimeters") and same("5 apples", "5 pears")
    assert not same("5 cm", "5 m") and not same("5 cm", "5 cm^2")


@given(SMALL, SMALL, st.sampled_from(["+", "-", r"\times", r"\cdot", "*", r"\div", "^"]))
def test_an_echoed_question_is_never_correct(a: int, b: int, sign: str) -> None:
    value = {"+": a + b, "-": a - b, "^": 7}.get(sign, a * b)
    for answer in (f"{a} {sign} {abs(b)}", rf"\boxed{{{a} {sign} {abs(b)}}}", f"Calculate {a} {sign} {abs(b)}."):
        for gold in {value, a, abs(b)}:
            assert math(str(gold), answer).outcome != "correct"
            assert integer(str(gold), answer).outcome != "correct"


@given(SMALL, SMALL)
def test_several_values_are_never_correct(a: int, b: int) -> None:
    if a == b:
        return
    for answer in (rf"\boxed{{{a}, {b}}}", rf"\boxed{{{a}}} or \boxed{{{b}}}", rf"\boxed{{{a} = {b}}}"):
        assert math(str(a), answer).outcome == math(str(b), answer).outcome == "wrong"
