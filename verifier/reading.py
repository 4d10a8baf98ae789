r"""Reads a cleaned text (`verifier.latex.clean`) once, into the tree of `verifier.answers`.

The outer form is where graders go wrong: `\{1, 2\}` is not `(1, 2)`, "x = 1, y = 2" is not "x = 2, y = 1", and two values
are no answer where one is asked for. What is inside formulas is left to `verifier.symbols`.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache, partial

from verifier.answers import Answer, Chain, Family, Formula, Grid, Many, Named, Number, Operation, Ratio, Row, Words
from verifier.latex import matching, split_outside, unwrap
from verifier.literals import literal
from verifier.units import measure
from verifier.wording import plain_words, reals_in_words, verbal_form, without_qualifier

MAX_ITEMS = 200
MAX_DEPTH = 12
MAX_DETERMINANT = 4
"""Rows of a determinant that is written out: it has as many terms as their factorial."""
MAX_SIGNS = 4
r"""Signs `\pm` that are told apart: each doubles the number of values."""

_AND = re.compile(
    r"\s*(?:[,;]\s*)?(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|(?<=\d)or(?=[A-Z(]))\s*|\s*;\s*"
)
_SHARED = re.compile(r"\s*[A-Za-z]\s*\\(?:ne|equiv)(?![a-z])\s*")
r"""What is told of all: `x \ne 1, 2`, `n \equiv 1, 5 \pmod 6`."""
_COMMA = re.compile(r"\s*,\s*")
_OR = re.compile(r"(?<![A-Za-z\\])or(?![A-Za-z])")
_AND_WORD = re.compile(r"(?<![A-Za-z\\])and(?![A-Za-z])")
_OPERATIONS = tuple(  # those that bind less tightly first
    (sign, re.compile(pattern))
    for sign, pattern in (
        ("iff", r"\s*\\(?:leftrightarrow|Leftrightarrow|iff)(?![a-z])\s*"),
        ("to", r"\s*\\(?:to|rightarrow|Rightarrow|implies|longrightarrow)(?![a-z])\s*"),
        ("lor", r"\s*\\lor(?![a-z])\s*"),
        ("oplus", r"\s*\\oplus(?![a-z])\s*"),
        ("land", r"\s*\\land(?![a-z])\s*"),
        ("cup", r"\s*\\cup(?![a-z])\s*|(?<=[)\]}])\s*U\s*(?=[(\[{\\])"),
        ("setminus", r"\s*\\(?:setminus|backslash)(?![a-z])\s*|(?<=[)\]}])\s*-\s*(?=\\\{)"),
        ("cap", r"\s*\\cap(?![a-z])\s*"),
    )
)
_LOGIC, _SETS = _OPERATIONS[:5], _OPERATIONS[5:]
_MAY_OPERATE = re.compile(
    r"\\(?:[lL]eftrightarrow|iff|to|[rR]ightarrow|longr|implies|l?or|oplus|land|cup|cap|setminus|backslash)|U|-\s*\\\{"
)
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|subseteq|supseteq|subset|supset|parallel|perp)(?![a-z])|[<>=]")
# Possessive: letters that could be split over repetitions would take time exponential in their number.
_NAME = (
    r"\\?[A-Za-z]++'*+(?:_(?:\{[^{}]*\}|\w))?(?:(?:\^\{\s*-1\s*\}|\^\{\s*\(\d\)\s*\})?\s*\(\s*[A-Za-z0-9,\s_\\]*\))?"
)
_LABEL = re.compile(
    rf"(?:{_NAME}\s*)+|\|\s*\\?[A-Za-z]+(?:\s*\\(?:cup|cap|setminus)\s*[A-Z])*\s*\||\\(?:angle|triangle|overline|bar|hat|tilde|operatorname|text)\s*\{{?[A-Za-z0-9_ .]*\}}?(?:\s*[A-Za-z]+)?"
    rf"|(?:{_NAME}|S)\s*[:/]\s*{_NAME}|\\frac\s*\{{\s*[A-Za-z]+\s*\}}\s*\{{\s*[A-Za-z]+\s*\}}"
    rf"|\(\s*{_NAME}(?:\s*,\s*{_NAME})+\s*\)"
)
_OF_AN_EVENT = re.compile(
    r"(?:[A-Z][a-z]{0,2}|\\mathbb\s*\{[A-Z]\})\s*\[[^\[\]]{1,60}\]|(?:\\(?:Pr|max|min)|\\(?:mathbb|text|operatorname)\s*\{\s*[A-Za-z]+\s*\}|[A-Z][a-z]{0,2}|[a-z])'*(?:_\w)?"
    r"\s*[(\[](?P<of>(?:[^()\[\]]|\([^()]*\)){1,60})[)\]]"
    r"|\\lim\s*_\s*\{[^{}]*\}\s*[A-Za-z]\([a-z]\)|\\(?:max|min)\s*[a-z]\([a-z]\)"
)
_EVENT = re.compile(
    r".*(?:[<>=|,]|\\(?:le|ge|ne|in|cap|cup|mid)(?![a-z])).*|[-+]?[\d\s.+*/^{}-]+|\s*[-+]?\s*\\infty\s*|\s*[A-Z]\s*",
    re.DOTALL,
)
r"""What a function or probability is of, where that is no factor: `X \ge 2`, `A|B`, `r, +0`, `-1`."""
_FUNCTIONS = re.compile(r"\\(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|e)(?![a-z])|(?<![A-Za-z])[ei](?![A-Za-z(_])")
_MATRIX = re.compile(
    r"^(?P<scale>[^\\\[(|=]*|\\frac[\d{}]+)[\[(|]?\s*\\begin\{(?P<kind>[pbBv]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(?P<body>.*)\\end\{(?P=kind)\}\s*[\])|]?"
    r"(?P<turned>\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?)?\s*(?P<unit>\\text\s*\{[^{}]*\}[\^\d{}-]*)?$",
    re.DOTALL,
)
_BODY = re.compile(r"\\begin\{([pbB]?matrix|array)\}.*?\\end\{\1\}", re.DOTALL)
_LAST_TERM = re.compile(r".*M[^M]*?(?=[+-][^M+-]*M[^+-]*$)")
_FIRST_FACTOR = re.compile(r"[^M]*Mm*[\])]?(?P<sign>\s*(?:\\cdot|\\times)?)\s*(?=[\[(]?M)")
_NESTED = re.compile(r"\[\s*\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])*\s*\]")
_CASES = re.compile(r"(?:(?P<label>[^=\\]{1,40})=)?\s*\\begin\{cases\}(?P<body>.*)\\end\{cases\}", re.DOTALL)
_CONDITION = re.compile(r"\\text\s*\{\s*,?\s*(?:if|for|when|where|as)?\s*\}|(?<![A-Za-z\\])(?:if|for|when)(?![A-Za-z])")
_SUCH_THAT = re.compile(r"\s*[A-Za-z](?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*[|:]\s*(.*\S)\s*$")
_LETTERS = re.compile(r"\\text\s*\{\s*(\(?(?:[A-Z]|[IVX]+)\)?(?:\s*(?:,|and|&|, and)\s*\(?(?:[A-Z]|[IVX]+)\)?)+)\s*\}")
r"""Several choices: `\text{A and C}`."""
_POINT = re.compile(r"([A-Z])\s*(\([^,]*,.*\))")
_SET = re.compile(r"\\\{(?:(?!\\[{}]).)*\\\}")
r"""`\{...\}` around the whole."""
_EITHER_SIGN = re.compile(r"\\(?:pm|mp)(?![a-z])")
_EITHER_POINT = re.compile(r"\\pm\s*(\(.*\))")
_TRANSPOSED = re.compile(r"(?<=[)\]}])\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\text\s*\{\s*T\s*\})\s*\}?$")
_TWO_INTEGERS = re.compile(r"(-?\d+),(-?(?:\d|[1-9]\d+))", re.ASCII)
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+", re.ASCII)
MODULUS = re.compile(
    r"\s*(?:,\s*)?(?:\\[pb]?mod(?![a-z])|\(\s*(?:\\text\s*\{\s*mod\s*\}|\\?b?mod)|\\text\s*\{\s*\(\s*mod)\s*\{?\s*(\d{1,30})\s*\}?\s*\)?\s*\}?\)?\s*$"
)
_INTEGER_LETTER = re.compile(
    r"\s*([a-z])\s*\\in\s*(?:\\mathbb\s*\{?\s*)?(?:(N|Z(?=\s*\}?\s*[_^]\s*\{?\s*\+))|Z)(?![A-Za-z])\s*\}?(?:\s*[_^]\s*\{?\s*[+*\d]?\s*\}?)?\s*"
)
_CONDITION_BEHIND = re.compile(
    r"(?<=\S)\s*,?\s*(?:(?:\s\(|\\text\s*\{\s*,?\s*(?:where|with|(?:for\s+)?(?:all|any|every|each)|for|if|when)\s*\}|\\forall(?![a-z]))\s*"
    r"(?P<in>(?!\w\s*\\in\s*\\mathbb\s*\{?\s*[RQC])(?:[^(){},=]{1,30}(?:<|\\le))?\s*[a-z]\s*(?:\\(?:in|le|ge|ne)(?![a-z])|[<>])[^()=]{1,40})\)?"
    r"|(?:\\text\s*\{\s*,?\s*(?:where|with)\s*\}?|,)\s*(?P<named>[a-z])\s*(?:\\text\s*\{)?\s*is\s+any?\s+integer\s*\})\s*$"
)
r"""`(k \in \mathbb{Z})`, `\text{for } x > 0` and "where k is an integer" behind a formula."""
_FAMILY = re.compile(rf"(.*\S)\s*[|:]({_INTEGER_LETTER.pattern})")
_HALF_OF_DAY = re.compile(r"(?<=\d)\s*(?:\\text\s*\{\s*)?([ap])\.?\s*m\b\.?\s*\}?\s*$", re.IGNORECASE)
_MAPS_TO = re.compile(r"([A-Za-z])\s*:\s*([a-z])\s*\\mapsto\s*(.+)")
_NUMBERED = re.compile(r"(?:\(\d\)\s*){2,9}")
"""Statements by their numbers: `(1)(4)`."""
_OUTWARD = re.compile(r"([\]\[])([^\[\]()]+,[^\[\]()]+)([\]\[])")


@lru_cache(maxsize=4000)
def read(text: str, depth: int = 0) -> Answer:
    """The tree of a text."""
    text = _peel(text)
    if depth > MAX_DEPTH:
        return Formula(text)
    logical, joined = partial(_operated, operations=_LOGIC), partial(_operated, operations=_SETS)
    for reader in (_number, _words, _matrix, _mapping, _ratio, _listed, logical, _related, joined):
        if (tree := reader(text, depth)) is not None:
            return tree
    return Formula(text)


def _peel(text: str) -> str:
    """Without what says nothing: dollar signs, words before a formula, "for all x" behind it."""
    text = unwrap(text.removeprefix(r"\approx"))
    if letters := _LETTERS.fullmatch(text):
        text = letters[1]
    text = _CONDITION_BEHIND.sub(lambda of: f", {of['in']}" if of["in"] else rf", {of['named']} \in Z", text, count=1)
    if _NUMBERED.fullmatch(text):
        text = text.replace(")", "), ").rstrip(", ")
    text = without_qualifier(text)
    if "$" in text and literal(text) is None:
        text = text.replace("$", " ")
    if (outward := _OUTWARD.fullmatch(text)) and (outward[1], outward[3]) != ("[", "]"):  # ]1, 4] is (1, 4]
        text = f"{'(' if outward[1] == ']' else '['}{outward[2]}{')' if outward[3] == '[' else ']'}"
    return re.sub(r"\s+", " ", text).strip()


# -- leaves -----------------------------------------------------------------------------------------------------------


def _number(text: str, depth: int) -> Answer | None:
    if (value := literal(text)) is None:
        return None
    two = None if _THOUSANDS.fullmatch(text) else _TWO_INTEGERS.fullmatch(text)
    return Number(text, value, tuple(read(part, depth + 1) for part in two.groups()) if two else ())


def _words(text: str, depth: int) -> Answer | None:
    r"""Words: `\text{...}` alone, or letters that are no product of variables."""
    if (form := reals_in_words(text) or verbal_form(text)) is not None:
        return read(form, depth + 1)
    if not (words := plain_words(text)):
        return None
    return Words(words[0]) if len(words) == 1 else Many(tuple(map(Words, words)), word="and")


def _ratio(text: str, depth: int) -> Answer | None:
    if ":" not in text or "," in text or _RELATION.search(text):
        return None
    half = _HALF_OF_DAY.search(text)
    plain = text[: half.start()] if half else re.sub(r"\s*\\text\s*\{[^{}]*\}$", "", text)
    parts = [part.strip() for part in plain.split(":")]
    if len(parts) > MAX_DEPTH or not all(parts):
        return None
    return Ratio(tuple(read(part, depth + 1) for part in parts), half[1].lower() if half else "")


# -- lists, brackets, matrices ----------------------------------------------------------------------------------------


def _matrix(text: str, depth: int) -> Answer | None:
    if _NESTED.fullmatch(text):
        return _grid([row.split(",") for row in re.findall(r"\[([^\[\]]*)\]", text)], depth)
    if "\\begin" not in text:
        return None
    if "vmatrix" in text:
        matrix = _MATRIX.match(text)
        rows = [row.split("&") for row in _rows(matrix["body"])] if matrix and text.count("\\begin") == 1 else []
        is_square = {len(row) for row in rows} == {len(rows)} and len(rows) <= MAX_DETERMINANT
        return Formula(_determinant(rows)) if is_square else None
    if (cells := _cells(text)) is not None:
        return _grid(cells, depth)
    if cases := _CASES.fullmatch(text):
        pieces = _pieces(_rows(cases["body"]), depth)
        return Named(_label(cases["label"]), pieces) if cases["label"] else pieces
    return None


def _rows(body: str) -> list[str]:
    rows = re.split(r"\\\\(?:\[[^\]]*\])?", body.replace(r"\hline", ""))
    return [row for row in rows if row.strip()]


def _grid(rows: list[list[str]], depth: int) -> Grid:
    return Grid(tuple(tuple(read(cell, depth + 1) for cell in row) for row in rows[:MAX_ITEMS]))


def _cells(text: str) -> list[list[str]] | None:
    """The rows of a matrix, or of a sum or product of matrices, which is worked out; None if it is none."""
    outside = _BODY.sub(lambda body: "M" + "m" * (len(body[0]) - 1), text)
    if term := _LAST_TERM.match(outside):
        a, b = _cells(text[: term.end()]), _cells(text[term.end() :])
        if a is None or b is None or [*map(len, a)] != [*map(len, b)]:
            return None
        return [[_plus(pair) for pair in zip(row, other, strict=True)] for row, other in zip(a, b, strict=True)]
    if factor := _FIRST_FACTOR.match(outside):
        a, b = _cells(text[: factor.start("sign")]), _cells(text[factor.end() :])
        if a is None or b is None or {*map(len, a)} != {len(b)} or len(a) * len(b) * len(b[0]) > MAX_ITEMS:
            return None
        return [[_plus([*map(_times, row, column)]) for column in zip(*b, strict=True)] for row in a]
    if (matrix := _MATRIX.match(text)) is None or text.count("\\begin") > 1:
        return None
    rows = [row.split("&") for row in _rows(matrix["body"])]
    if scale := matrix["scale"].strip().lstrip("+"):
        rows = [[_times("-1" if scale == "-" else scale, cell) for cell in row] for row in rows]
    if unit := matrix["unit"] or "":
        if measure(unit) is None:
            return None
        rows = [[cell + unit for cell in row] for row in rows]
    is_matrix = len(rows) > 1 and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    return [[*column] for column in zip(*rows, strict=True)] if matrix["turned"] and is_matrix else rows


def _plain(cell: str) -> Fraction | None:
    number = literal(cell)
    return None if number is None or number.unit or number.percent else number.value


def _times(a: str, b: str) -> str:
    x, y = _plain(a), _plain(b)
    return f"({a})*({b})" if x is None or y is None else f"{x * y}"


def _plus(terms: Sequence[str]) -> str:
    numbers = [number for term in terms if (number := _plain(term)) is not None]
    return f"{sum(numbers)}" if len(numbers) == len(terms) else "+".join(f"({term})" for term in terms)


def _determinant(rows: list[list[str]]) -> str:
    if len(rows) < 2:
        return rows[0][0]
    minors = (_determinant([row[:k] + row[k + 1 :] for row in rows[1:]]) for k in range(len(rows)))
    return "+".join(
        f"({(-1) ** k})*({cell})*({minor})" for k, (cell, minor) in enumerate(zip(rows[0], minors, strict=True))
    )


def _pieces(rows: list[str], depth: int) -> Many:
    """The lines between a brace: equations of a system, or values with the conditions under which they hold."""
    cells = [[cell for cell in re.split(r",?\s*&", row) if cell.strip()] for row in rows[:MAX_ITEMS]]
    trees = [[read(_CONDITION.sub(" ", cell).strip(" ,;."), depth + 1) for cell in row] for row in cells]
    return Many(tuple(row[0] if len(row) == 1 else Row(tuple(row), "{", "}") for row in trees if row))


def _listed(text: str, depth: int) -> Answer | None:
    items = _items(text)
    if len(items) < 2:
        return None
    if (shared := _SHARED.match(items[0])) and not any(map(_RELATION.search, items[1:])):
        items = [items[0], *(shared[0] + item for item in items[1:])]
        if modulus := MODULUS.search(items[-1]):
            items = [item if MODULUS.search(item) else item + modulus[0] for item in items]
    word = "or" if _OR.search(text) else "and" if _AND_WORD.search(text) else ""
    letters = [(of[1], bool(of[2])) for item in items if (of := _INTEGER_LETTER.fullmatch(item))]
    others = [item for item in items if not _INTEGER_LETTER.fullmatch(item)] or items
    trees = tuple(read(item, depth + 1) for item in others)
    tree = trees[0] if len(trees) == 1 else Many(trees, word=word)
    return Family(letters[0][0], tree, letters[0][1]) if len(others) < len(items) else tree


def _items(text: str) -> list[str]:
    r"""The parts of a list. A `\pm` outside of all brackets makes two of one."""
    groups = [part.strip() for _, part in split_outside(text, _AND) if part.strip()]
    lists = [[part.strip() for _, part in split_outside(group, _COMMA)] for group in groups]
    parts = [part for parts in lists for part in parts if part and part not in (r"\text{and}", r"\text{or}")]
    if len(groups) > 1 and _are_systems(groups, lists, ";" in text):
        parts = [f"({group})" for group in groups]
    parts = parts if parts[-1:] == ["..."] else parts[:MAX_ITEMS]
    return [piece for part in (parts if len(parts) > 1 else [text]) for piece in _both_signs(part)]


def _are_systems(groups: list[str], lists: list[list[str]], semicolons: bool) -> bool:
    """Whether each group is a solution of its own: "p = 5, q = 2; p = 7, q = 2", also with "and" between."""
    if any(len(parts) < 2 for parts in lists) or any(literal(group) is not None for group in groups):
        return False
    names = [[part.partition("=")[0].strip() for part in parts if "=" in part] for parts in lists]
    return semicolons or (len(names[0]) == len(lists[0]) and names.count(names[0]) == len(names))


def _both_signs(text: str) -> list[str]:
    if (pair := _EITHER_POINT.fullmatch(text)) and matching(pair[1], 0) == len(pair[1]) - 1:
        parts = [part for _, part in split_outside(pair[1][1:-1], _COMMA)]
        opposite = ",".join(part[1:] if re.fullmatch(r"-\s*[\w.]+", part) else f"-{part}" for part in parts)
        plain = all(re.fullmatch(r"-?\s*(?:[\w.]+|\\(?:frac|sqrt)[^+-]*)", part) for part in parts)
        return [pair[1], f"({opposite})"] if len(parts) > 1 and plain else [text]
    if not 0 < len(_EITHER_SIGN.findall(text)) <= MAX_SIGNS or _SET.fullmatch(text):
        return [text]
    is_point = text[0] == "(" and matching(text, 0) == len(text) - 1 and len(split_outside(text[1:-1], _COMMA)) > 1
    if not is_point or r"\mp" in text:
        return [_signed(text, "+", "-"), _signed(text, "-", "+")]
    points = [text]  # (\pm 2, \pm 1) is four points, (\pm 2, \mp 1) two
    while _EITHER_SIGN.search(points[0]):
        points = [_EITHER_SIGN.sub(sign, point, count=1) for point in points for sign in "+-"]
    return points


def _signed(text: str, plus: str, minus: str) -> str:
    return re.sub(r"\\mp(?![a-z])", minus, re.sub(r"\\pm(?![a-z])", plus, text))


def _bracketed(text: str, depth: int) -> Answer | None:
    r"""`\{...\}`, `(...)`, `[...]`, `\langle...\rangle` around the whole."""
    if text.startswith("(") and "," in text and (transposed := _TRANSPOSED.search(text)):
        text = text[: transposed.start()]
    if set_braces := re.fullmatch(r"\\\{(.*)\\\}", text):
        if such := _SUCH_THAT.match(set_braces[1]):
            return read(such[1], depth + 1)
        if family := _FAMILY.fullmatch(set_braces[1]):
            return read(f"{family[1]}, {family[2]}", depth + 1)
        if _SET.fullmatch(text):
            inside = _items(set_braces[1]) if set_braces[1].strip() else []
            return Many(tuple(read(item, depth + 1) for item in inside), braces=True)
    if (point := _POINT.fullmatch(text)) and matching(text, point.start(2)) == len(text) - 1:
        return Named(point[1], read(point[2], depth + 1))
    if text.startswith(("(", "[")) and text.endswith((")", "]")) and matching(text, 0) == len(text) - 1:
        inside = _items(text[1:-1])
        if len(inside) > 1 and _EITHER_SIGN.search(text) is None:
            return Row(tuple(read(item, depth + 1) for item in inside), text[0], text[-1])
        if len(inside) == 1 and text[0] == "(" and text[-1] == ")":
            return read(inside[0], depth + 1)
    return None


# -- relations and operations -----------------------------------------------------------------------------------------


def _mapping(text: str, depth: int) -> Answer | None:
    mapping = _MAPS_TO.fullmatch(text)
    return Named(f"{mapping[1]}({mapping[2]})", read(mapping[3], depth + 1)) if mapping else None


def _related(text: str, depth: int) -> Answer | None:
    pieces = split_outside(text, _RELATION)
    if (named := _named(pieces, text, depth)) is not None:
        return named
    if (bracketed := _bracketed(text, depth)) is not None:
        return bracketed
    if len(pieces) < 2 or any(not part.strip() for _, part in pieces[1:]):
        return None
    if modulus := MODULUS.search(pieces[-1][1]):
        pieces[-1] = (pieces[-1][0], pieces[-1][1][: modulus.start()])
    sides = [part.strip() for _, part in pieces]
    relations = [separator for separator, _ in pieces[1:]]
    while relations and relations[-1] == r"\approx":
        if len(sides) == 2 and _is_label(sides[0]):
            return Named(_label(sides[0]), read(sides[1], depth + 1))
        sides.pop()
        relations.pop()
    if len(sides) == 1:
        return read(sides[0], depth + 1)
    return Chain(tuple(read(side, depth + 1) for side in sides), tuple(relations), modulus[1] if modulus else "")


def _named(pieces: list[tuple[str, str]], text: str, depth: int) -> Answer | None:
    label = pieces[0][1]
    if len(pieces) < 2 or not _is_label(label):
        return None
    relations = [separator for separator, _ in pieces[1:]]
    is_member = relations == [r"\in"]
    is_function = relations == [r"\equiv"] and not MODULUS.search(text) and re.match(r"\s*[a-zA-Z]\s*(?:\(|$)", label)
    if not (is_member or is_function or (relations[0] == "=" and set(relations) <= {"=", r"\approx"})):
        return None  # y = x + y is an equation, not a name with a value
    return Named(_label(label), read(text[len(label) + len(relations[0]) :], depth + 1))


def _operated(text: str, depth: int, operations: tuple[tuple[str, re.Pattern[str]], ...]) -> Answer | None:
    if _MAY_OPERATE.search(text) is None:
        return None
    for sign, pattern in operations:
        parts = [part for _, part in split_outside(text, pattern)]
        if len(parts) > 1 and all(part.strip() for part in parts):
            items = tuple(read(part, depth + 1) for part in parts[:MAX_ITEMS])
            labels = [item.label for item in items if isinstance(item, Named)]
            is_one = sign == "land" and len(set(labels)) < len(labels)  # no two solutions
            are_values = all(isinstance(item, Named | Chain | Number | Many) for item in items)
            word = {"lor": "or", "land": "and"}.get(sign)
            return Many(items, word=word) if word and are_values and not is_one else Operation(sign, items)
    return None


def _is_label(text: str) -> bool:
    text = text.strip()
    if len(text) > 60 or _FUNCTIONS.search(text):
        return False
    if _LABEL.fullmatch(text):
        return True
    event = _OF_AN_EVENT.fullmatch(text)
    return event is not None and (event["of"] is None or _EVENT.fullmatch(event["of"]) is not None)


def _label(text: str) -> str:
    """A name in one form."""
    text = re.sub(r"\\(?:text|operatorname|overline|mathrm|mathbb)\s*", "", text)
    return re.sub(r"[\s{}\\:]", "", text)
