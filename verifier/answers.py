"""Defines the tree of an answer: numbers, formulas and words at the leaves, lists, points and relations above them."""

from dataclasses import dataclass

from verifier.literals import Literal


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is written out."""

    text: str
    value: Literal
    listed: tuple["Answer", ...] = ()
    """The two integers that `6,8` may be instead."""


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression, left to `verifier.symbols`."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, normalized."""

    text: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """Parts with colons between: a ratio, or a time of day."""

    parts: tuple["Answer", ...]
    half: str = ""
    """`a` or `p`: the half of the day that a time names."""


@dataclass(frozen=True, slots=True)
class Many:
    """Several answers, whose order does not matter."""

    items: tuple["Answer", ...]
    braces: bool = False
    r"""Written as a set, `\{ \}`."""
    word: str = ""
    """The word between them, "or" or "and", if there is one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Parts joined by a sign of set theory or logic: cup, cap, setminus, lor, land, oplus, to, iff."""

    sign: str
    items: tuple["Answer", ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Values in order between brackets: a point, a vector, or, with two, an interval."""

    items: tuple["Answer", ...]
    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix, or a column of one."""

    rows: tuple[tuple["Answer", ...], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """`label = value`, where the label is a name: x, f(x), P(X = 3), AB, V_1 : V_2."""

    label: str
    value: "Answer"


@dataclass(frozen=True, slots=True)
class Chain:
    """Sides with relations between them: `a < b <= c`, or an equation of expressions."""

    sides: tuple["Answer", ...]
    relations: tuple[str, ...]
    modulus: str = ""
    """Of a congruence."""


@dataclass(frozen=True, slots=True)
class Family:
    r"""What an integer letter runs through: `x = 2k, k \in \mathbb{Z}`."""

    letter: str
    value: "Answer"
    natural: bool = False
    """The letter is no negative integer."""


Answer = Number | Formula | Words | Ratio | Many | Operation | Row | Grid | Named | Chain | Family
