r"""Reads the outer form of an answer: a list, a tuple or interval, a matrix, an assignment, a relation, words, or a leaf.

What is inside the leaves is left to `verifier.symbols`: the outer form is where graders go wrong (`\{1, 2\}` is not
`(1, 2)`, "x = 1, y = 2" is not "x = 2, y = 1", and two values are no answer where one is asked for).
"""

import re
from dataclasses import dataclass

from verifier.latex import matching, split_outside, unwrap, without_text
from verifier.literals import literal


@dataclass(frozen=True, slots=True)
class Leaf:
    """An expression that is not taken apart here."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, normalized."""

    text: str


@dataclass(frozen=True, slots=True)
class Many:
    """Several answers, whose order does not matter."""

    items: tuple["Shape", ...]
    braces: bool = False
    r"""Written as a set, `\{ \}`."""
    word: str = ""
    """The word between them, "or" or "and", if there is one."""


@dataclass(frozen=True, slots=True)
class Row:
    """Values in order between brackets: a point, a vector, or, with two, an interval."""

    items: tuple["Shape", ...]
    opening: str
    closing: str

    @property
    def may_be_interval(self) -> bool:
        """Whether it can be read as one."""
        return len(self.items) == 2


@dataclass(frozen=True, slots=True)
class Union:
    r"""Parts joined by `\cup`."""

    items: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A matrix, or a column of one."""

    rows: tuple[tuple["Shape", ...], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """`label = value`, where the label is a name: x, f(x), AB, V_1 : V_2."""

    label: str
    value: "Shape"


@dataclass(frozen=True, slots=True)
class Chain:
    """Sides with relations between them: `a < b <= c`, or an equation of expressions."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]


Shape = Leaf | Words | Many | Row | Union | Grid | Named | Chain

_AND = re.compile(
    r"\s*(?:[,;]\s*)?(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|(?<=\d)or(?=[A-Z(])|\\(?:lor|vee|land|wedge)(?![a-z]))\s*|\s*;\s*"
)
_SEMICOLON = re.compile(r"\s*;\s*")
_COMMA = re.compile(r"\s*,\s*")
_CUP = re.compile(r"\s*\\cup(?![a-z])\s*|(?<=[)\]}])\s*U\s*(?=[(\[{\\])")
_RELATION = re.compile(
    r"\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\in(?![a-z])|\\approx(?![a-z])|\\equiv(?![a-z])|:=|[<>=]"
)
# Possessive: letters that could be split over repetitions would take time exponential in their number.
_NAME = re.compile(r"\\?[A-Za-z]++'*+(?:_(?:\{[^{}]*\}|\w))?(?:(?:\^\{\s*-1\s*\})?\s*\(\s*[A-Za-z0-9,\s_\\]*\))?")
_LABEL = re.compile(
    rf"(?:{_NAME.pattern}\s*)+|\|\s*\\?[A-Za-z]+\s*\||\\(?:angle|triangle|overline|operatorname|text)\s*\{{?[A-Za-z0-9_ .]*\}}?(?:\s*[A-Za-z]+)?"
    rf"|(?:{_NAME.pattern}|S)\s*[:/]\s*{_NAME.pattern}|\\frac\s*\{{\s*[A-Za-z]+\s*\}}\s*\{{\s*[A-Za-z]+\s*\}}"
    rf"|\(\s*{_NAME.pattern}(?:\s*,\s*{_NAME.pattern})+\s*\)"
)
_FUNCTIONS = re.compile(
    r"\\(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infty|e)(?![a-z])|(?<![A-Za-z])[ei](?![A-Za-z(_])"
)
_MATRIX = re.compile(
    r"^[\[(|]?\s*\\begin\{(?P<kind>[pbvBV]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(?P<body>.*)\\end\{(?P=kind)\}\s*[\])|]?"
    r"(?:\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?)?$",
    re.DOTALL,
)
_CASES = re.compile(r"(?:(?P<label>[^=\\]{1,40})=)?\s*\\begin\{cases\}(?P<body>.*)\\end\{cases\}", re.DOTALL)
_CONDITION = re.compile(r"\\text\s*\{\s*,?\s*(?:if|for|when|where|as)?\s*\}|(?<![A-Za-z\\])(?:if|for|when)(?![A-Za-z])")
_OR = re.compile(r"(?<![A-Za-z\\])or(?![A-Za-z])|\\(?:lor|vee)(?![a-z])")
_IN_TEXT = re.compile(r"\\text\s*\{[^{}]*\}")
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z'\- ]*[A-Za-z]|[A-Za-z]")
_SUCH_THAT = re.compile(r"\s*[A-Za-z](?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*[|:]\s*(.*\S)\s*$")
_LETTERS = re.compile(r"\\text\s*\{\s*(\(?[A-Z]\)?(?:\s*(?:,|and|&|, and)\s*\(?[A-Z]\)?)+)\s*\}")
r"""Several choices: `\text{A and C}`."""
_FOR_ALL = re.compile(r"^\\text\s*\{\s*(?:for\s+)?(?:all|every|any)(?:\s+real)?\s*\}\s*(?=[A-Za-z]\s*[<>\\])")
_SINGLE_BRACES = re.compile(r"\\\{|\\\}")
_EITHER_SIGN = re.compile(r"\\(?:pm|mp)(?![a-z])")
_TRANSPOSED = re.compile(r"(?<=[)\]}])\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\text\s*\{\s*T\s*\})\s*\}?$")
MAX_ITEMS = 200


def shape_of(text: str, depth: int = 0) -> Shape:
    """The outer form of a cleaned text (`verifier.latex.clean`)."""
    text = _peel(text)
    if depth > 12:
        return Leaf(text)
    if literal(text) is not None:
        return Leaf(text)
    words = _words(text)
    if words is not None:
        return words
    matrix = _MATRIX.match(text)
    if matrix and text.count("\\begin") == 1:
        return _grid(matrix["body"], depth)
    if cases := _CASES.fullmatch(text):
        pieces = _pieces(cases["body"], depth)
        return Named(_label(cases["label"]), pieces) if cases["label"] else pieces
    items = _items(text)
    if len(items) > 1:
        return _many(items, depth, word=_word_between(text))
    if _is_label_and_value(text):
        label, value = text.split("=", 1) if "=" in text else re.split(r"\\in(?![a-z])", text, maxsplit=1)
        return Named(_label(label), shape_of(value, depth + 1))
    if (bracketed := _bracketed(text, depth)) is not None:
        return bracketed
    if (chain := _chain(text, depth)) is not None:
        return chain
    parts = [part for _, part in split_outside(text, _CUP)]
    if len(parts) > 1:
        return Union(tuple(shape_of(part, depth + 1) for part in parts[:MAX_ITEMS]))
    return Leaf(text)


def _peel(text: str) -> str:
    """Without what says nothing: dollar signs, words before a formula, a unit behind one."""
    text = unwrap(text)
    if letters := _LETTERS.fullmatch(text):
        text = letters[1]
    text = _FOR_ALL.sub("", text, count=1)
    if text.startswith("$") and text.count("$") == 1:
        text = text[1:]
    if "$" in text and literal(text) is None:
        text = text.replace("$", " ")
    return re.sub(r"\s+", " ", text).strip()


def _words(text: str) -> Words | None:
    r"""Words: `\text{...}` alone, or letters that are no product of variables. Single letters are leaves too."""
    in_text = "\\text" in text
    if _LETTERS.fullmatch(text):
        return None
    plain = re.sub(r"\s+", " ", without_text(text)).strip(" .,;:!\"'")
    choice = re.fullmatch(r"\(?\s*([A-Z])\s*\)?\s*[.:)]?", plain)
    if in_text and choice:
        return Words(choice[1])
    if (
        not plain
        or plain[0] in "+-"
        or "\\" in plain
        or not (in_text or len(plain) > 3 or plain.lower() in ("no", "yes", "odd"))
    ):
        return None
    in_text = in_text and re.fullmatch(r"[A-Za-z\s.,!?'-]*", _IN_TEXT.sub("", text)) is not None
    if (
        in_text
        and re.fullmatch(r"[^=<>^_{}\\+*/]*[A-Za-z]{2}[^=<>^_{}\\+*/]*", plain)
        and not re.match(r"[-+]?\s*[\d.]", plain)
    ):
        return Words(_normal(plain))
    if (
        re.fullmatch(_PLAIN_WORDS, plain)
        and not re.search(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])", plain)
        and (" " in plain or len(plain) > 3)
    ):
        if " " in plain and max(map(len, plain.split())) < 3:
            return None
        return Words(_normal(plain))
    return None


def _normal(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", words.lower()).strip() or words.strip()


def _items(text: str) -> list[str]:
    r"""The parts of a list. A `\pm` outside of all brackets makes two of one."""
    groups = [part for _, part in split_outside(text, _SEMICOLON)]
    if len(groups) > 1 and all(len(split_outside(group, _COMMA)) > 1 and literal(group) is None for group in groups):
        return [f"({group.strip()})" for group in groups[:MAX_ITEMS]]  # "p = 5, q = 2; p = 7, q = 2"
    parts = [part for _, part in split_outside(text, _AND)]
    parts = [piece for part in parts for _, piece in split_outside(part, _COMMA)]
    parts = [part.strip() for part in parts if part.strip() and part.strip() not in (r"\text{and}", r"\text{or}")]
    if parts and parts[-1] == "..." and len(parts) > 1:
        return parts
    return parts[:MAX_ITEMS] if len(parts) > 1 else _both_signs(text)


def _both_signs(text: str) -> list[str]:
    if _EITHER_SIGN.search(text) is None or _braced(text):
        return [text]
    plus = re.sub(r"\\mp(?![a-z])", "-", re.sub(r"\\pm(?![a-z])", "+", text))
    minus = re.sub(r"\\mp(?![a-z])", "+", re.sub(r"\\pm(?![a-z])", "-", text))
    return [plus, minus]


def _word_between(text: str) -> str:
    if _OR.search(text):
        return "or"
    return "and" if re.search(r"(?<![A-Za-z\\])and(?![A-Za-z])", text) else ""


def _many(items: list[str], depth: int, *, word: str) -> Shape:
    expanded = [part for item in items for part in _both_signs(item)]
    shapes = [shape_of(item, depth + 1) for item in expanded]
    if isinstance(shapes[0], Named) and not any(isinstance(shape, Named | Chain) for shape in shapes[1:]):
        # "n = 1, 2, 3": the name is that of all
        return Named(shapes[0].label, Many((shapes[0].value, *shapes[1:])))
    if isinstance(shapes[-1], Named) and len(shapes) == 2 and isinstance(shapes[0], Leaf) and _is_label(shapes[0].text):
        return Named(f"({_label(shapes[0].text)},{shapes[-1].label})", shapes[-1].value)  # "x, y = ..."
    return Many(tuple(shapes), word=word)


def _is_label(text: str) -> bool:
    text = text.strip()
    if len(text) > 60 or _LABEL.fullmatch(text) is None:
        return False
    return not _FUNCTIONS.search(text)


def _is_label_and_value(text: str) -> bool:
    relations = split_outside(text, _RELATION)
    if len(relations) < 2 or relations[1][0] not in ("=", ":=", r"\in"):
        return False
    if not _is_label(relations[0][1]):
        return False
    if relations[1][0] == r"\in":
        return len(relations) == 2
    # y = x + y is an equation, not a name with a value
    return all(separator in ("", "=", ":=", r"\approx") for separator, _ in relations)


def _label(text: str) -> str:
    """A name in one form: subscripts that number the solutions aside."""
    text = re.sub(r"\\(?:text|operatorname|overline|mathrm)\s*", "", text)
    return re.sub(r"[\s{}\\:]", "", text)


def _bracketed(text: str, depth: int) -> Shape | None:
    r"""`\{...\}`, `(...)`, `[...]`, `\langle...\rangle` around the whole."""
    if text.startswith("(") and (transposed := _TRANSPOSED.search(text)):
        text = text[: transposed.start()]
    set_braces = re.fullmatch(r"\\\{(.*)\\\}", text)
    if set_braces and (such := _SUCH_THAT.match(set_braces[1])):
        return shape_of(such[1], depth + 1)
    if set_braces and _SINGLE_BRACES.search(set_braces[1]) is None:
        inside = [piece for part in _items_or_none(set_braces[1]) for piece in _both_signs(part)]
        return Many(tuple(shape_of(item, depth + 1) for item in inside), braces=True)
    if text.startswith(("(", "[")) and text.endswith((")", "]")) and matching(text, 0) == len(text) - 1:
        inside = _items(text[1:-1])
        if len(inside) > 1 and _EITHER_SIGN.search(text) is None:
            return Row(tuple(shape_of(item, depth + 1) for item in inside), text[0], text[-1])
        if len(inside) == 1 and text[0] == "(" and text[-1] == ")":
            return shape_of(inside[0], depth + 1)
    return None


def _braced(text: str) -> bool:
    r"""Whether `\{...\}` is around the whole."""
    return text.startswith(r"\{") and text.endswith(r"\}") and _SINGLE_BRACES.search(text[2:-2]) is None


def _items_or_none(text: str) -> list[str]:
    return _items(text) if text.strip() else []


def _chain(text: str, depth: int) -> Shape | None:
    pieces = split_outside(text, _RELATION)
    if len(pieces) < 2 or any(not part.strip() for _, part in pieces[1:]):
        return None
    sides = [part.strip() for _, part in pieces]
    relations = [separator for separator, _ in pieces[1:]]
    while relations and relations[-1] == r"\approx" and len(sides) > 1:
        if len(sides) == 2 and _is_label(sides[0]):
            return Named(_label(sides[0]), shape_of(sides[1], depth + 1))
        sides.pop()
        relations.pop()
    if len(sides) == 1:
        return shape_of(sides[0], depth + 1)
    return Chain(tuple(sides), tuple("=" if relation == ":=" else relation for relation in relations))


def _grid(body: str, depth: int) -> Grid:
    body = re.sub(r"\\hline|\\\\\s*$", "", body.strip())
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", body) if row.strip()]
    return Grid(tuple(tuple(shape_of(cell, depth + 1) for cell in row.split("&")) for row in rows[:MAX_ITEMS]))


def _pieces(body: str, depth: int) -> Many:
    """The lines between a brace: equations of a system, or values with the conditions under which they hold."""
    lines = [re.split(r",?\s*&", line) for line in re.split(r"\\\\(?:\[[^\]]*\])?", body) if line.strip()]
    cells = [[_CONDITION.sub(" ", cell).strip(" ,;.") for cell in line if cell.strip()] for line in lines[:MAX_ITEMS]]
    shapes = [[shape_of(cell, depth + 1) for cell in line] for line in cells]
    return Many(tuple(line[0] if len(line) == 1 else Row(tuple(line), "{", "}") for line in shapes if line))


def same_label(a: str, b: str) -> bool:
    """Whether two labels name the same: subscripts and the variables of a function aside."""

    def base(label: str) -> str:
        return re.sub(r"_\{?\d+\}?$|_\d$", "", label)

    def head(label: str) -> str:
        return label.partition("(")[0]

    def of_variable(label: str) -> bool:
        return re.search(r"\((?:[A-Za-z](?:,[A-Za-z])*|[A-Za-z]_\w)\)$", label) is not None

    if a == b or base(a) == base(b) or (bool(head(a)) and "(" in a and "(" in b and head(a) == head(b)):
        return True
    return bool(head(a)) and head(a) == head(b) and (of_variable(a) or of_variable(b))
