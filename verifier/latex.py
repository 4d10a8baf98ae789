"""Brings the text of an answer, in LaTeX or not, into one plain form of LaTeX. Pure string work, linear in the text."""

import html
import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate

OPENING, CLOSING = "([{", ")]}"

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-",
    "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/",
    "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ",
    "φ": r"\phi ", "ω": r"\omega ", "μ": r"\mu ", "σ": r"\sigma ", "∅": r"\emptyset ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∉": r"\notin ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "°": r"^\circ", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
    "⟨": r"\langle ", "⟩": r"\rangle ", "∖": r"\setminus ", "√": r"\sqrt ", "∛": r"\sqrt[3] ",
    "∨": r"\lor ", "∧": r"\land ", "¬": r"\neg ", "⊕": r"\oplus ", "→": r"\to ", "⇒": r"\Rightarrow ", "↔": r"\leftrightarrow ",
    "、": ",", "和": " and ", "与": " and ", "或": " or ", "✓": " ", "✔": " ", "✅": " ", "☑": " ", "\ufe0f": "",
    **{c: r" \frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", c).split("⁄")) for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"},
    "\u200b": "", "\ufeff": "", "\u2061": "", "\u200d": "",
}  # fmt: skip
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

_FUNCTION_NAMES = "sinh|cosh|tanh|coth|sech|csch|(?:arc|ar)(?:sin|cos|tan|cot|sec|csc)h?|sin|cos|tan|cot|csc|cis|log|ln|lg|exp|gcd|lcm"
_UNIT_LIKE = "sec|max|min|det"
"""Functions whose name in text may be a unit or a word."""
_OTHER_NAMES = {"tg": "tan", "ctg": "cot", "arctg": "arctan", "cosec": "csc"}
_ENTITY = re.compile(r"&(?:[a-z]+|#\d{1,6});")
_ENDING = r"\s*(st|nd|rd|th)\s*"
_ORDINAL = re.compile(
    rf"(?<!\d)(?<![^ ]\}})(\d{{1,9}})\s?(?:\^\s*\{{\s*\\text\s*\{{{_ENDING}\}}\s*\}}|\^\s*\{{{_ENDING}\}}"
    rf"|(?:\^\s*)?\\text(?:superscript)?\s*\{{{_ENDING}\}}|(st|nd|rd|th)(?![A-Za-z]))"
)
_SYNONYMS = {
    name: to
    for to, names in (
        (r" \le ", r"\leqslant \leq \le <= =<"), (r" \ge ", r"\geqslant \geq \ge >="), (r" \ne ", r"\neq \ne !="),
        (r" \approx ", r"\approx \simeq \doteq \thickapprox ~="), (" < ", r"\lt"), (" > ", r"\gt"), ("=", ":="),
        ("(", r"\langle"), (")", r"\rangle"), (r"\{", r"\lbrace"), (r"\}", r"\rbrace"), ("|", r"\lvert \rvert \vert \mid"),
        ("€", r"\euro"), ("£", r"\pounds \pound"), ("$", r"\dollar \textdollar \$"), (" and ", r"\&"), (r"\log_{10} ", r"\lg"),
        (r"\emptyset ", r"\varnothing"), ("...", r"\ldots \dots \cdots"), (r"\land ", r"\wedge"), (r"\lor ", r"\vee"), (r"\neg ", r"\lnot"),
    )
    for name in names.split()
}  # fmt: skip
_VECTOR = r"\\(?:vec|mathbf|bm|boldsymbol)\s*\{?\s*([A-Za-z])(?![A-Za-z])\s*\}?"
_REWRITES = [
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|Biggl|Biggr|big|Big|bigg|Bigg)(?![A-Za-z])\.?", ""),
        (r"\\(?:(?:display|text|script)style|(?:no)?limits|hfill|checkmark|[hv]?phantom\{[^{}]*\})(?![A-Za-z])", " "),
        (r"\{\\rm\s+([^{}]*)\}", r"\\mathrm{\1}"),
        (r"\\(?:text)?color\s*(?:\[[^\[\]]*\])?\s*\{[^{}]*\}", ""),
        (r"\\(?:tiny|small|normalsize|large|Large|LARGE|huge|Huge|bf|rm|it|bfseries|itshape)(?![A-Za-z])", ""),
        (r"\\(?:underline|uline|underbar)\s*\{([^{}]*)\}", r"\1"),
        (r"\\overline\s*\{\s*([A-Z](?:\s*[A-Z])+)\s*\}", r"\1"),
        (r"\\overline\s*(?=\{\s*[A-Za-z]\s*\}|[A-Za-z](?![A-Za-z]))", r"\\bar "),
        (r"\(\s*([\dA-F]+)\s*\)(?=\s*_)", r"\1"),
        (r"\\\||\\[lr]?Vert(?![A-Za-z])", "|"),
        (r"\\[dtc](frac|binom)(?![A-Za-z])", r"\\\1"),
        (r"(?<=\d)\s*(?:\{,\}|\\[,!;:]|\\ |\{\\,\}|,\\!|\{\s*,\s*\})\s*(?=\d{3}(?!\d))", ","),
        (r"(?<=\d)\{,\}(?=(?:\d\d?|\d{4,})(?![\d{]))", "."),
        (r"(?<!\\)\\[()]|(?<!\\)\\[,!;: ]|\\(?:quad|qquad|enspace|thinspace|hspace\{[^{}]*\})(?![A-Za-z])|~", " "),
        (r"<sup>\s*([^<>]{1,40}?)\s*</sup>", r"^{\1}"),
        (r"<sub>\s*([^<>]{1,40}?)\s*</sub>", r"_{\1}"),
        (r"\\(?:textbf|textit|textrm|textnormal|textsf|texttt|mbox|hbox|emph|textup)\s*(?=\{)", r"\\text"),
        (rf"\\operatorname\*?\s*\{{\s*({_UNIT_LIKE})\s*\}}", r"\\\1 "),
        (rf"\\mathop\s*\{{\s*\\[a-z]+\s*\{{\s*({_FUNCTION_NAMES})\s*\}}\s*\}}", r"\\\1 "),
        (
            rf"\\(?:operatorname\*?|mathop|mathrm|text)\s*\{{\s*({_FUNCTION_NAMES}|{'|'.join(_OTHER_NAMES)})\s*\}}",
            lambda name: f"\\{_OTHER_NAMES.get(name[1], name[1])} ",
        ),
        (
            rf"(?<![\d ]) ?\\(?:text|math(?:rm|op))\s*\{{\s*({_UNIT_LIKE})\s*\}}(?=\s*(?:[(^]|\\(?:theta|alpha|phi|frac)|[a-z](?![a-z])))",
            r" \\\1 ",
        ),
        (rf"{_VECTOR}\s*\\times\s*{_VECTOR}", r" V_{\1\2}"),
        (
            rf"(?<=[|(])\s*{_VECTOR}\s*\\cdot\s*{_VECTOR}\s*(?=\||\)\s*(?:\^|\\(?:vec|mathbf|bm|bold)))",
            lambda dot: dot[0] if dot[1] == dot[2] else f"D_{{{''.join(sorted(dot.groups()))}}}",
        ),
        (rf"(?:(?<=\))|{_VECTOR})\s*\\times\s*(?:{_VECTOR}|(?=\())", r" \1 V_{x} \2"),
        (r"\\operatorname\*?\s*(?=\{)", r"\\text"),
        (r"\\math(?:rm|bf|it|sf|tt)(?:\s*\{\s*([a-zA-Z])\s*\}|\s+([a-zA-Z](?![a-zA-Z])|d))", r" \1\2"),
        (r"\\math(?:rm|bf|it|sf|tt)\s*(?=\{)", r"\\text"),
        (r"\\mathbb\s*([A-Z])(?![A-Za-z])", r"\\mathbb{\1}"),
        (r"\(\s*([A-Za-z])\s*\\circ\s+([A-Za-z])\s*\)\s*\(([^()]{1,40})\)", r"\1(\2(\3))"),
        (r"\\(?:vec|overrightarrow)\s*\{\s*([A-Z])\s*([A-Z])\s*\}", r" V_{\1\2}"),
        (r"\\hat\s*(?:\{\s*([ijk])\s*\}|([ijk])(?![a-z]))", r" \1\2"),
        (
            r"\\(?:bm|boldsymbol|mathcal|mathscr|mathfrak|vec|overrightarrow)"
            r"(?:\s*\{\s*([^{}]*)\s*\}|\s+([A-Za-z])(?![A-Za-z]))",
            r" \1\2",
        ),
        (r"\\[a-z]+|[<>~:]=|(?<![\dn)])!=|=<|\\[$&]", lambda found: _SYNONYMS.get(found[0], found[0])),
        (r"\{:\}", ":"),
        (r"(?:\{\s*\}\s*|^\s*)[\^_]\s*\{?\s*(\w+)\s*\}?\s*C\s*_\s*\{?\s*(\w+)\s*\}?", r"\\binom{\1}{\2}"),
        (r"(?<![A-Za-z\\}])C\s*_\s*(\{[\dmnkr +-]{2,12}\}|[mn4-9])\s*\^\s*(\{[^{}]{1,12}\}|\w)", r"\\binom{\1}{\2}"),
        (r"(?:(?<![A-Za-z}\]^_])|(?<=[_^]\{\w\}))\{([A-Za-z]|\\[a-z]+)\}(?=\s*[_^])", r"\1"),
        (r"(\\partial|(?<![A-Za-z\\])d)\s*([A-Za-z])\s*/\s*\1\s*([A-Za-z])(?![A-Za-z])", r"\\frac{\1 \2}{\1 \3}"),
        (r"\\%|(?<![a-zA-Z])(?:percent(?:age)?(?: points?)?|pct)(?![a-zA-Z])", "%"),
        (r"\\text\{\s*([%+-])\s*\}", r"\1"),
        (r"(\\text\s*\{[^{},]*[^{},\s])(,|\s+and)\s*\}(?=\s*\d)", r"\1}\2 "),
        (r"\{\s*\{([^{}]*)\}\s*\}", r"{\1}"),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-z])|\\degree(?![a-z])|\\text\{\s*\^\\circ\s*\}", "°"),
        (r"\\mu\s*\\text\{\s*", r"\\text{µ"),
        (r"(?<![A-Za-z\\])(?:infinity|oo|inf)(?![A-Za-z])", r"\\infty "),
        (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
        (
            r"(?<![A-Za-z\\])((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp)(?=\s*[({^_\d]|\s+[a-z](?![a-z]))",
            r"\\\1",
        ),
        (r"(?<![A-Za-z\\])sqrt(?![A-Za-z])", r"\\sqrt "),
        (r"\*\*(?=\s*[-\d({a-z])", "^"),
    )
]
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ROOT = re.compile(r"\\sqrt(\s*)(\[[^\[\]]*\])?\s*(\d+|[a-zA-Z])")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z(\[{])")
_ENVIRONMENT = re.compile(r"\\begin\{(?:[pbvBV]?matrix|smallmatrix|array|cases|aligned)\}")
_CIRCLED = re.compile(r"[\u2460-\u249b\u2776-\u2793\u24ea-\u24f4]+")


def clean(text: str) -> str:
    """One form for what has many: brackets without size, one command per relation, no thin spaces, ASCII digits."""
    text = _ascii(_ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text)
    if not _ENVIRONMENT.search(text):
        text = _DOUBLED.sub(r"\\", text)
    for pattern, to in _REWRITES:
        text = pattern.sub(to, text)
    text = _ORDINAL.sub(_cardinal, text)
    return re.sub(r"\s+", " ", _ROOT.sub(_with_braces, text)).strip().removesuffix("\\\\").rstrip()


def _cardinal(ordinal: re.Match[str]) -> str:
    r"""The number of `14^{\text{th}}`; the text as it is where the ending is not that of the number."""
    number = ordinal[1]
    ending = "th" if number[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
    return f"{number} " if ending in ordinal.groups() else ordinal[0]


def _ascii(text: str) -> str:
    """Unicode's mathematical signs and digits as LaTeX. Superscripts first: NFKC would make 5² a 52."""
    if text.isascii():
        return text
    text = re.sub(f"[{''.join(_SUPERSCRIPTS)}]+", lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
    text = re.sub(f"[{''.join(_SUBSCRIPTS)}]+", lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
    text = "".join(_CHARACTERS.get(character, character) for character in text)
    # NFKC would make one number of several
    text = _CIRCLED.sub(lambda digits: ", ".join(f"{unicodedata.numeric(digit):.0f}" for digit in digits[0]), text)
    text = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text)


def _with_braces(root: re.Match[str]) -> str:
    r"""`\sqrt2` as `\sqrt{2}`. To TeX, `\sqrt23` is the root of 2, times 3; who writes `sqrt 23` or `√23` means 23."""
    space, order, number = root.groups()
    width = len(number) if space.startswith(" ") else 1
    return rf"\sqrt{order or ''}{{{number[:width]}}}{number[width:]}"


def _depths(text: str) -> Iterator[int]:
    """How deep in brackets, whatever their kind ([0, 1) closes too), each character is; a bracket itself is outside."""
    depth = 0
    for character in text:
        depth -= character in CLOSING
        yield depth
        depth += character in OPENING


def matching(text: str, start: int) -> int:
    """Index of the bracket that closes the one at `start`; -1 if none does."""
    behind = enumerate(_depths(text[start:]), start)
    return next((index for index, depth in behind if depth == 0 and index > start), -1)


def depth_of(text: str) -> int:
    """How deep the brackets nest."""
    steps = ((character in OPENING) - (character in CLOSING) for character in text)
    return max(accumulate(steps, lambda depth, step: max(0, depth + step), initial=0))


def split_outside(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Split where the pattern matches outside of all brackets: pairs of (separator before, part); the first has none."""
    depths = [*_depths(text)]
    pieces: list[tuple[str, str]] = []
    start, separator = 0, ""
    for match in pattern.finditer(text):
        if depths[match.start()] == 0:
            pieces.append((separator, text[start : match.start()]))
            start, separator = match.end(), match[0]
    return [*pieces, (separator, text[start:])]


def without_text(text: str) -> str:
    r"""The content of every `\text{...}` in its place."""
    return _TEXT.sub(r" \1 ", text)


def without_commands(text: str) -> str:
    r"""Blanks in the place of commands such as `\frac`."""
    return _COMMAND.sub(" ", text)


_AROUND = (*zip(r"** $$ $ \( \[ __ ' “ ‘".split(), r"** $$ $ \) \] __ ' ” ’".split(), strict=True), ('"', '"'))
_CONTINUES = re.compile(r"(?:^|\d\.\d+|[,+]\s*)(?:\.\.\.|\\[lc]?dots)$", re.ASCII)


def unwrap(text: str) -> str:
    """Without dollar signs, markdown, braces or parentheses around the whole, and without the full stop behind."""
    while True:
        before = text
        text = text.strip().strip("`")
        text = text if _CONTINUES.search(text) else text.rstrip(".,;:。，；：")
        text = text.lstrip("= ").strip()
        if text.count("**") == 1:
            text = text.removeprefix("**").removesuffix("**")
        if re.fullmatch(r"\*?[^*]+\*", text):  # the first may have been taken for a list's
            text = text.strip("*")
        for start, end in _AROUND:
            if len(text) >= len(start) + len(end) and text.startswith(start) and text.endswith(end):
                inner = text[len(start) : len(text) - len(end)]
                if start not in inner and end not in inner:
                    text = inner
        if text.endswith("}") and text.count("}") > text.count("{"):
            text = text[:-1]
        if text.startswith("{") and matching(text, 0) == len(text) - 1:
            text = text[1:-1]
        if text == before:
            return text
