"""Grades multiple choice: finds the letters that a message settles on.

The last box, tag, `####` or line `Answer:` counts if it holds letters; else the last sentence that says which is the
answer, or right, unless a later one denies it. Between several letters "or" states none.
"""

import re
from collections.abc import Iterator

from stream.messages import FoundBy
from verifier.denial import calls_wrong
from verifier.extract import find_answer
from verifier.grade import BadGold, Grade, correct, unparsable, wrong
from verifier.latex import clean, without_text
from verifier.marks import after_thinking, last_tag

LAST_CHARS = 2_000
_ONE = r"\(?[A-Za-z](?![A-Za-z])\)?"
_GOLD = re.compile(rf"{_ONE}(?:(?:\s*[,;&]\s*(?:and\s+)?|\s+and\s+|\s+){_ONE})*\.?")
_BEFORE_TEXT = re.compile(r"^\(?([A-Z])\s*[).:]\s*\S")
"""`(B) 12 apples`: the letter before its text."""
_LETTER = r"(?<![A-Za-z'\d-])(?:\([A-Za-h]\)|[A-HJ-Z]{1,5}(?![A-Za-z'\d-])\)?|I\))"
"""I is a word, unless in parentheses."""
_OPTION = re.compile(r"\(?([A-Z])\s*[).:]\s*(?:(?!\b(?:not|but|no|is|seems|wrong|or|[A-HJ-Z])\b)[^.!?,;\n]){1,60}\.?")
_LETTERS = (
    rf"(?P<letters>{_LETTER}(?:(?:\s*(?:[,&、和与或]|\b(?:and|or|perhaps|possibly|maybe)\b))+\s*{_LETTER}){{0,9}})"
)
_PROSE = r"(?:(?!\b[A-HJ-Z]\b)[^.\n])"
"""A character that begins no letter of a choice."""
_ANSWER = r"(?:\b(?i:answers?|réponse|respuesta|resposta|risposta|antwort|ответ)\b|答案)"
_ANNOUNCED = re.compile(
    rf"(?:(?:{_ANSWER}|\b(?i:choices?|options?|statements?|right\s+one)\b){_PROSE}{{0,40}}?(?:\b(?:is|are|be|es|est|ist)\b|[:=：是为èé])"
    rf"|\b(?i:choose|chose|picks?|select(?:ed)?|go(?:ing)?\s+with|say|guess|corresponds?\s+to|match(?:es)?|supports?)\b|{_ANSWER}(?=[\s(】]*[(A-Z])|选择?)(?P<between>{_PROSE}{{0,40}}?){_LETTERS}"
)
_RIGHT = re.compile(
    rf"{_LETTERS}\s+(?:(?:is|are|must\s+be)\s+(?:(?!no[tr]?\b|never|hardly|scarcely|rarely|barely|far\b|less\b|part|almost|near|anything)[a-z]+\s+){{0,2}}?(?:correct|right|true|best|better|one(?!\s+of)|answer(?!\s+to))\b|(?:satisf(?:y|ies)|works?|holds?|fits?|matches|remains)\b)"
)
_OTHERS = re.compile(r"\b(?i:students?|people|many|most|some|others|they|you|anyone)\s+(?:(?!the\b)[a-z]+\s+){0,3}$")
"""Who says what the message need not mean: `Many would say D`."""
_IF = re.compile(r"(?<![Ee]ven )\b[Ii]f\b")
_ENDS = re.compile(
    r"(?:(?:^|:\s)(?:(?i:both)\s+)?|\b(?i:so|thus|hence|therefore|it's|it\s+is|which\s+is|must\s+be|that's|but|namely|rather|no(?=,)|sorry(?=,)|mean|meant|make\s+that|(?:leav(?:es|ing)(?:\s+us)?|left)(?:\s+with)?)\b[\s,:]*(?i:it's\s+|it\s+is\s+|[a-z]+ly\s+|(?:option|choice|answer)\s+)?|^(?i:option|choice|answer)\s+)"
    rf"{_LETTERS}(?:$|,?\s+(?:because|since|as|though|although|while|rather\s+than)\b)"
)
_DENIED = re.compile(
    rf"(?:\b(?i:not|never|cannot|eliminate|exclude|reject|discard|rule\s+out|except|than|over|instead\s+of)\b|n't\b|不)[^.,;\n]{{0,20}}?{_LETTERS}"
)
_UNTRUE = re.compile(
    rf"{_LETTERS}\s*(?:(?:is|are|was|were|would\s+be|seems?)\b(?:(?!right,|correct,|true,)[^.\n]){{0,30}}?\b(?:wrong|incorrect|false|not|impossible|out|eliminated|excluded)\b"
    r"|(?:is|are|ca|does|do)n't\b|cannot\b|不)"
)
_ALSO = re.compile(rf"\b(?:could|might|may)\s+(?:also|equally|as\s+well)\b[^.\n]{{0,20}}{_LETTER}")
_DOUBTS = re.compile(r"(?:\W*\b(?:wait|no|nope|oops|sorry|actually|hmm+)\b)+\W*", re.IGNORECASE)
_BRACKETED = re.compile(rf"{_LETTERS}\s*\([^()]*\)")
_DENIAL = re.compile(
    r"\b(?:not|never|between|among|nor|neither|except|incorrect|wrong|false|least)\b|n't|不|非", re.IGNORECASE
)
_SENTENCE = re.compile(r"[^.!?;。！？；\n]+(?:\.(?!\s|$)[^.!?;。！？；\n]*)*(?P<end>[.!?;。！？；\n]?)")


def choice(gold: str, answer: str) -> Grade:
    """The answer is the gold letter of a multiple choice, or, for a gold such as `A, C`, exactly those letters."""
    if not (wanted := _letters(gold)):
        raise BadGold(f"{gold[:100]!r} is no letter of a multiple choice, such as B, (B) or A, C")
    if not answer.strip():
        return unparsable("the answer is empty")
    letters, found_by = _chosen(answer)
    if not letters:
        return unparsable("no letter found").at("none", "")
    shown = ", ".join(sorted(letters))
    grade = correct(f"chose {shown}") if letters == wanted else wrong(f"chose {shown}")
    return grade.at(found_by, shown)


def _letters(text: str) -> frozenset[str]:
    """The letters of `B`, `(B)`, `A, C`, `A and C`, `ac`; none of anything else."""
    plain = re.sub(r"\s+", " ", without_text(clean(text))).strip(' .$*"`')
    if re.fullmatch(r"[A-Z]{2,6}", plain) and len(set(plain)) == len(plain):
        return frozenset(plain)
    if _GOLD.fullmatch(plain) is None:
        return frozenset()
    return frozenset(letter.upper() for letter in re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", plain))


def _chosen(answer: str) -> tuple[frozenset[str], FoundBy]:
    """The letters that a message settles on, and where it does."""
    found = find_answer(answer, strict=True)
    if found.by != "none":
        plain = without_text(clean(found.text)).strip(" .$*")
        if letters := _letters(plain) or frozenset(_BEFORE_TEXT.findall(plain)):
            return letters, found.by
    text = after_thinking(answer.rstrip())
    tag = last_tag(text)
    text = (text if tag is None or found.text.startswith("not ") else tag.text)[-LAST_CHARS:]
    if letters := _letters(text):
        return letters, "whole"
    if option := _OPTION.fullmatch(text):
        return frozenset(option[1]), "whole"
    return _stated(text), "last" if _letters(text.rstrip().rpartition("\n")[2]) else "stated"


def _stated(text: str) -> frozenset[str]:
    """The letters of the last sentence that states some; none if they are denied later."""
    denied: set[str] = set()
    for sentence, is_question in reversed([*_sentences(text)]):
        if is_question:
            continue
        if _DOUBTS.fullmatch(sentence) or _ALSO.search(sentence):
            return frozenset()
        no = {
            letter for pattern in (_DENIED, _UNTRUE) for found in pattern.finditer(sentence) for letter in _split(found)
        }
        statements = [
            found
            for pattern in (_ANNOUNCED, _RIGHT, _ENDS)
            for found in pattern.finditer(sentence)
            if not _is_denied(found, sentence) and no.isdisjoint(_split(found))
        ]
        no |= {letter for found in _BRACKETED.finditer(sentence) if calls_wrong(found[0]) for letter in _split(found)}
        denied |= no
        if statements:
            last = max(statements, key=lambda found: found.start("letters"))
            letters = _split(last)
            is_one = not re.search(r"\bor\b|或", last["letters"])
            return frozenset(letters) if is_one and denied.isdisjoint(letters) else frozenset()
    return frozenset()


def _is_denied(found: re.Match[str], sentence: str) -> bool:
    between = found.groupdict().get("between") or ""
    if re.match(r"but\s+\(?[A-Z]", found[0]):
        return re.search(r"\b[Nn]ot\b", sentence[: found.start()]) is None  # "not A but B", "all but B"
    before = sentence[: found.start()][-12:]
    if any(_DENIAL.search(text) for text in (between, before)) or _in_formula(found, sentence):
        return True
    return _OTHERS.search(sentence[: found.start()]) is not None or any(
        condition.start() < found.start() or not re.search(r",|\bwhile\b", sentence[found.end() : condition.start()])
        for condition in _IF.finditer(sentence)
    )


def _in_formula(found: re.Match[str], sentence: str) -> bool:
    """Whether a letter is a variable or a unit: `x + C`, `C_1`, `30°C`."""
    before, behind = sentence[: found.start("letters")].rstrip(), sentence[found.end("letters") :]
    return before[-1:] in tuple("+-*/^<>_°%&") or re.match(r"[_^+*/=-]|\s*[+*/^=<>]", behind) is not None


def _split(found: re.Match[str]) -> set[str]:
    return {letter.upper() for letter in re.findall(r"[A-Z]|(?<=\()[a-h](?=\))", found["letters"])}


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    """The sentences of a text without marks of emphasis, and whether each is a question."""
    plain = re.sub(r"[*`$\"\u201c\u201d]|\\(?:text|math)(?:bf|rm|it)?\s*|[{}]", "", text)
    for sentence in _SENTENCE.finditer(re.sub(r":\s*\n\s*", ": ", plain)):
        yield sentence[0].rstrip(".!?;。！？；\n").strip(), sentence["end"] in ("?", "？")
