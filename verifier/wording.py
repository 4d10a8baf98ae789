r"""Reads what answers say in words: numbers, signs, ratios, yes and no, sets of reals, lists of names, "for all x"."""

import re

from verifier.latex import without_text
from verifier.literals import SCALES, literal

_BELOW_TEN = "zero one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_UNITS = {word: number for number, word in enumerate([*_BELOW_TEN, *_TEENS])}
_TENS = {word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7,
          "eighth": 8, "ninth": 9, "tenth": 10}  # fmt: skip
_SIGNED = re.compile(r"(?:negative|minus)\s+(?=[\da-z\\])", re.IGNORECASE)
_TO = re.compile(r"([\d.]+|[a-z]+(?:-[a-z]+)?) (?:to|(out of)) ([\d.]+|[a-z]+(?:-[a-z]+)?)")
_DIGITS_IN_TEXT = re.compile(r"\\text\s*\{((?:[\d\s,;.-]|and|or)+)\}")
_YES_OR_NO = re.compile(r"(yes|no)\s*(?:[,;.:\u2013\u2014]|--|\b(?:because|since|as)\b)(.*)", re.IGNORECASE | re.DOTALL)
_CONTRARY = re.compile(r"\b(?:yes|no(?=\s*[,.;:!]|$)|but|however|or|maybe|unless)\b|^[\s\d.,/-]*$", re.IGNORECASE)
_REALS = r"(?:reals?(?:\s+(?:numbers?|values))?)"
_SETS = {
    "positive": r"(0,\infty)",
    "nonnegative": r"[0,\infty)",
    "negative": r"(-\infty,0)",
    "nonpositive": r"(-\infty,0]",
    "nonzero": r"\mathbb{R}\setminus\{0\}",
}
_KINDS = "|".join(_SETS)
_SET_IN_WORDS = re.compile(
    rf"(?:all|any|every|the)?\s*(?:({_KINDS})\s+{_REALS}|real\s+({_KINDS})\s+numbers)(?:\s+[a-z])?"
)
_EXCEPT = re.compile(
    rf"(?:all|any|every)?\s*(?:{_REALS}|\\mathbb\s*\{{?R\}}?)(?:\s+[a-z])?\s*,?\s*(?:except|excluding|other\s+than|but|not\s+equal\s+to)"
    r"(?:\s+for)?(?:\s+[a-z]\s*=)?\s+(\S.*)"
)
_BOUNDED = re.compile(
    rf"(?:all|any|every)?\s*{_REALS}?(?:\s*[a-z])?\s+(greater|less|larger|smaller|more)\s+than\s+(or\s+equal\s+to\s+)?(\S.*)"
)
_WHERE = re.compile(
    rf"(?:for\s+)?(?:all|any|every)(?:\s+{_REALS})?(?:\s+[a-z])?\s*,?\s*(?:(?:such\s+that|with|where)\s+)?(?=[a-z]\s*(?:\\ne|\\le|\\ge|[<>]|\\in))"
)
_QUALIFIER = re.compile(
    r"\s*,?\s*(?:\\text\s*\{\s*,?\s*(?:(?:for|where|with)\s+)?(?:all|every|any|each)(?:\s+(?:real|positive|natural|integers?|numbers?|values\s+of))*"
    r"\s*(?:[a-z]\s*)?\}|\\forall|\\text\s*\{\s*,?\s*(?:where|with|for)\s*\}(?=\s*[a-z]\s*\\in))"
    r"\s*(?:[a-z](?:\s*,\s*[a-z])*)?\s*(?:\\in\s*\\mathbb\s*\{?\s*[RNZQC]\s*\}?(?:\s*[_^]\s*\{?[+*\d]\}?)?)?\s*$"
)
_CONSTANT = re.compile(
    r"\s*,?\s*\\text\s*\{\s*,?\s*(?:(?:where|with)\s*\}?\s*[A-Za-z]\s*(?:\\text\s*\{)?\s*is\s+(?:an?\s+|any\s+)?(?:(?:real|arbitrary|fixed)\s+)*(?:constant|number)\s*\}"
    r"|(?:for|with)\s+(?:any\s+|some\s+|an?\s+)?(?:(?:real|arbitrary)\s+)*constants?\s*(?:\}\s*[A-Za-z]|[A-Za-z]\s*\}))\s*$"
)
_OF_ALL_REALS = re.compile(r"(?<=\S)\s*[,(]\s*([a-z])\s*\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*\)?\s*$")
_IN_TEXT = re.compile(r"\\text\s*\{[^{}]*\}")
_BETWEEN_NAMES = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_NAME = re.compile(r"[A-Za-z][A-Za-z'-]*(?: [A-Za-z][A-Za-z'-]*){0,3}")
_SENTENCE = re.compile(r"(?![-\d.])[^=<>^_{}\\+*/]*[A-Za-z]{2}[^=<>^_{}\\+*/]*")
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z'\- ]*[A-Za-z]|[A-Za-z]")


def number_words(words: str) -> int | None:
    """The integer that words such as `one hundred and five` say; None if they say none."""
    total = current = last = 0
    seen = False
    for word in words.replace("-", " ").split():
        if (value := _UNITS.get(word, _TENS.get(word))) is not None:
            if seen and not (last >= 100 or (20 <= last < 100 and 0 < value < 10)):
                return None
            current, last = current + value, value
        elif word in SCALES and last:
            last = SCALES[word]
            total, current = (total, current * last) if last == 100 else (total + current * last, 0)
        elif not (word == "and" and last >= 100):
            return None
        seen = True
    return total + current if seen else None


def verbal_form(text: str) -> str | None:
    r"""The signs for what is said in words: `\text{eight}`, `\text{minus } 8`, `5 \text{ to } 7`, `\text{No, it is not}`."""
    if not re.search("[a-z]{3}|to", text):
        return None
    if digits := _DIGITS_IN_TEXT.fullmatch(text):
        return digits[1]
    plain = re.sub(r"\s+", " ", without_text(text)).strip(" .")
    if not plain or len(plain) > 200:
        return None
    answer = _YES_OR_NO.match(plain)
    if answer and "\\text" in text and not _CONTRARY.search(answer[2]):
        return rf"\text{{{answer[1]}}}"
    if ratio := _TO.fullmatch(plain.lower()):
        first, second = _digits(ratio[1]), _digits(ratio[3])
        form = rf"\frac{{{first}}}{{{second}}}" if ratio[2] else f"{first}:{second}"
        return form if first and second else None
    if sign := _SIGNED.match(plain):
        number = _digits(plain[sign.end() :].lower())
        return None if number is None or number.startswith("-") else "-" + number
    return _with_unit(plain.lower())


def _digits(words: str) -> str | None:
    """A number in words or digits, in digits."""
    if literal(words) is not None:
        return words
    if (number := number_words(words)) is not None:
        return str(number)
    top, _, part = words.replace("-", " ").rpartition(" ")
    part = part if part in _PARTS else part.removesuffix("s")
    count = number_words(top) if top else None
    if top in ("a", "an") or (not top and part == "half"):
        count = 1
    return rf"\frac{{{count}}}{{{_PARTS[part]}}}" if part in _PARTS and count is not None else None


def _with_unit(plain: str) -> str | None:
    """A number in words, and what it counts."""
    if plain.replace("-", " ").partition(" ")[0] not in {*_UNITS, *_TENS, "a", "an", "half"}:
        return None
    words = plain.split(" ")
    for length in range(min(len(words), 12), 0, -1):
        if (number := _digits(" ".join(words[:length]))) is not None and re.match(r"[\d\\]", number):
            rest = " ".join(words[length:])
            whole = rf"{number} \text{{{rest}}}" if rest else number
            return whole if literal(whole) is not None else None
    return None


def reals_in_words(text: str) -> str | None:
    r"""`\text{all real numbers except } 6` as `\mathbb{R}\setminus\{6\}`."""
    if "real" not in text and "\\text" not in text:
        return None
    plain = re.sub(r"\s+", " ", without_text(text)).strip(" .").replace("non-", "non")
    if name := _SET_IN_WORDS.fullmatch(plain):
        return _SETS[name[1] or name[2]]
    if exception := _EXCEPT.fullmatch(plain):
        points = re.sub(r"\s+(?:and|or)\s+", ", ", exception[1])
        return rf"\mathbb{{R}}\setminus\{{{points}\}}"
    if bound := _BOUNDED.fullmatch(plain):
        strict, closed = ("<", r"\le") if bound[1] in ("less", "smaller") else (">", r"\ge")
        return f"x {closed if bound[2] else strict} {bound[3]}"
    if condition := _WHERE.match(plain):
        return plain[condition.end() :]
    return None


def without_qualifier(text: str) -> str:
    r"""A formula without `\text{for all } x` or `, x \in \mathbb{R}` behind it, which say nothing more."""
    if "\\" not in text:
        return text
    shorter = _CONSTANT.sub("", _QUALIFIER.sub("", text, count=1), count=1)
    if shorter == text and (domain := _OF_ALL_REALS.search(text)) and f"({domain[1]})" in text:
        shorter = text[: domain.start()]
    return shorter if shorter.strip() else text


def plain_words(text: str) -> list[str]:
    r"""The words of `\text{...}` or of letters that are no product of variables; several if they list names."""
    in_text = "\\text" in text
    plain = re.sub(r"\s+", " ", without_text(text)).strip(" .,;:!\"'")
    if in_text and (choice := re.fullmatch(r"\(?\s*([A-Z])\s*\)?\s*[.:)]?", plain)):
        return [choice[1]]
    if "-" in plain and not in_text and not re.search("[A-Za-z]{4}", plain):
        return []  # ax - b
    if in_text and _SENTENCE.fullmatch(plain) and re.fullmatch(r"[A-Za-z\s.,!?'-]*", _IN_TEXT.sub("", text)):
        return _names(plain)
    is_product = re.search("[ ']", plain) and not re.search("[A-Za-z]{3}", plain)
    is_list = re.search(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])", plain)
    is_words = len(plain) > 3 and _PLAIN_WORDS.fullmatch(plain) and not is_product and not is_list
    return [normal_words(plain)] if is_words else []


def _names(plain: str) -> list[str]:
    parts = [part.strip() for part in _BETWEEN_NAMES.split(plain)]
    if len(parts) > 1 and all(_NAME.fullmatch(part) for part in parts):
        return [normal_words(part) for part in parts]
    return [normal_words(plain)]


def normal_words(words: str) -> str:
    """Words in small letters, with nothing but letters and digits."""
    return re.sub(r"[^a-z0-9]+", " ", words.lower()).strip() or words.strip()
