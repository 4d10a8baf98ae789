"""Finds the answer of a message that marks none, by what its words and formulas state.

Words that deny, bound, suppose or hedge what follows make it another thing than the answer (docs/verifier-study.md,
sets 11 to 14). Rules of language have no end: ask for a box.
"""

import re

from verifier.latex import matching, unwrap, without_commands
from verifier.literals import literal

LAST_CHARS = 5_000
"""Where the last formula or number is looked for, from the end."""
MAX_CANDIDATE = 3_000
"""Longest text that is taken for an answer, in characters."""
LIST_GLUE = re.compile(
    r"(?:\s|[,;.&]|\$|\\[()\[\]]|\\(?:quad|qquad|lor|vee|land|wedge|neq?(?![a-z])|[,;:! ])|\\text\s*\{\s*(?:,?\s*(?:and|or)\s*)\}|(?<![a-z])(?:and|or)(?![a-z]))*"
)
_SAYS = (
    r"s?\b[^.\n:=]{0,60}?(?:\bis\b|\bare\b|:|=|\bbe\b|\bequals\b)"
    r"(?:\s*(?:approximately|equal to|simply|just|therefore|exactly|given by|now|:|\*\*))*\s*(?=\S)"
)
_SAID = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"final\s+answer" + _SAYS,
        r"\banswer" + _SAYS,
        r"(?:答案|réponse|respuesta|resposta|risposta|antwort|ответ|lösung|ergebnis|soluci[óo]n|solução|soluzione|resultado|résultat|risultato|результат)[^.\n:：=。是为]{0,40}?"
        r"(?:[:：=是为]|\b(?:est|es|ist|lautet|è|é)\b)\s*(?=\S)",
        r"\b(?:solution|result|option|choice)" + _SAYS,
    )
]
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<a>[^$]{1,3000}?)\$\$|(?<![\\\d])\$(?P<b>(?:\\\$|[^$\n]){1,3000}?)(?<!\\)\$(?!\d)"
    r"|\\\[(?P<c>.{1,3000}?)\\\]|\\\((?P<d>.{1,3000}?)\\\)",
    re.DOTALL,
)
_ARITHMETIC = re.compile(
    r"(?<![\w\\./])(?<!\w[-−(])(?:\d+(?::\d+)+(?:\s?[aApP]\.?[mM]\b\.?)?|[-−+(]{0,3}(?:[$€£¥]\s?)?[-−]?\.?\d(?:[\d.,+*/^()= ×÷·⋅−-]*[\d)])?(?:\s?(?:%|percent\b|pct\b|(?!of\b|and\s+(?!(?:an?|one|two|three|half)\b)[a-z]|in\s+[a-z\d]|(?:on|over|from|by|with)\s+(?:the\b|his\b|her\b|their\b|[A-Z])|it\s+is\b|is\s+(?:the|my|our)\s+(?:correct\s|final\s|right\s|only\s)?\s*(?:answer|root|solution|value)\b)"
    r"[a-zA-Z²³°€$£]{1,12}(?:\sper\s[a-z]{1,12}(?:\ssquared)?)?(?=[\s.,;:!?)]|$)))?)(?![\w'\"\\{}/])",
    re.ASCII,
)
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|larger|greater|bigger|higher|more|less|fewer|smaller|lower|above|below|over|under|"
    r"least|most|except|unlike|unlikely|anything\s+but|far\s+from|different\s+from|other\s+than)|n't)\b(?:\s+(?!(?:is|are|was|were|equals)\b)[a-z]+){0,2}\s*$"
    r"|\b(?:twice|thrice|(?<!a\s)half|double|triple|near(?:ly)?|almost|close\s+to|short\s+of|(?<!add )(?<!adds )(?<!sums )up\s+to)"
    r"\s+(?:of\s+)?(?:the\s+)?$|\b(?:wrong|incorrect)\s+(?:\w+\s+){0,2}(?:is|was|be|of|:)?\s*$"
    r"|[^,\d\s]\s+or\s*$|(?:(?<![<>=-])[<>≠≤≥]|!=|\bdivisible\s+by|\bdivides)\s*$"
    r"|(?:\b(?:squares?|cubes?|roots?|reciprocal|inverse|opposite|logarithm|log|factorial|multiples?|divisors?|digit\s+sum|out|"
    r"thirds?|quarters?|percent)|%)\s+of\s+(?:the\s+)?$|,\s+who(?:se)?\b[^.;\n]*$",
    re.IGNORECASE,
)
"""What makes the number that follows another thing than the answer."""
_CHANGED = re.compile(r"\s+(?:divided\s+by|(?:less|more|fewer|greater)\s+than|(?:times|plus|minus)\s+[$\d\\])")
_AND_MORE = re.compile(rf"\s*(?:,|and\b|or\b|\$)|{_CHANGED.pattern}")
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot)|n't)(?:\s+be)?\W*$|不是\s*$|\b(?:might|may|could)\s+be\W*$", re.IGNORECASE
)
_JOINED = re.compile(
    r"(?<![\w.,/])[-−]?\d(?:[\d.,/]*\d)?%?(?:(?:\s+[a-z]{1,12})?\s+and|\s+(?:to(?:\s+the(?:\s+power(?:\s+of)?)?)?|plus|minus|times|remainder|rem|mod|in(?=\s*$)|divided\s+by|multiplied\s+by)|(?:\s?[a-z]{1,6})?\s+by|\s*(?:≈|\\approx)|"
    r"[,;]?\s+(?:or(?!\s+(?:more|less|fewer)\b)|maybe|perhaps|possibly|but\s+(?:it\s+)?(?:may|might|could))\b[^\d.\n]{0,30}?)"
    r"\s*[-−]?$",
    re.IGNORECASE,
)
"""What ties a number to the one before: "between 41 and 42", "41 or maybe 42", "6 plus 10" state neither."""
_CIRCUMSTANCE = re.compile(
    r"\b(?:in|within|with|without|during|after|every|per|over|for|from|at|of|on|across|among)\s+(?:th(?:e|is|[eo]se)\s+)?(?:(?:first|last|next|past|same|full|whole)\s+)?$"
)
_GIVEN = re.compile(rf"{_CIRCUMSTANCE.pattern}|\b(?:the|these|those|all|h(?:is|er)|their)\s+$")
_BY_DOING = re.compile(
    r"\b(?:after|before|by|from|without|while|despite)\s+[a-z]+ing\s+(?:[a-z]+\s+){0,2}$"
    r"|\bto\s+(?!(?:reach|get|make|give|be|have|total|equal|become|obtain|leave|find)\b)[a-z]{3,}\s+(?:the\s+|all\s+)?$"
)
"""The same where an activity is counted: `15 marbles after giving away 5`, `15 minutes to walk 2 miles`."""
_NEW_STATEMENT = re.compile(
    r"[.!?;:=\n,]|\b(?:is|are|was|were|equals?|gives?|makes?|leaves?|has|have|had|be|gets?|costs?|calls|total|so|then|and|or|but|out|because|since|if|when)\b"
)
"""Between two numbers: the second states something of its own."""
_DIVIDED = re.compile(r"\s+(?:when|if|after)\s+(?:it\s+is\s+)?divided\s+by\s+")
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be)\s+(?:[a-z]+ed|the\s+(?:[a-z]+\s+)?answer|left|made|sold|bought|paid|given|taken|seen)\b|\bout\s+of\b"
)
_MINUS = re.compile(r"\b(?:negative|minus)\s+$", re.IGNORECASE)
_NUMBERED = re.compile(
    r"\b(?:steps?|options?|parts?|cases?|problems?|questions?|exercises?|examples?|figures?|tables?|sections?|chapters?|equations?|eqs?\.?|"
    r"theorems?|lemmas?)\s*\(?$",
    re.IGNORECASE,
)
"""Before the number of a thing, which is no result."""
_MISCALLED = re.compile(
    r"\b(?:wrong|incorrect|false)\s+(?:\w+\s+)?$|\b(?:if|whether|unless)\s+(?:\w+\s+)?$|\b(?:think|claim|argue|write|say|believe|guesse|insist)s\s+(?:\w+\s+){0,3}$|"
    r"\b(?:might|may|could|would|tempted|temptation)\s+(?:\w+\s+){0,4}$|"
    r"(?:\b(?:not|never|nobody|no(?=\s+$)|no\s+one|doubt|false|deny|suppose|assum\w+|imagine)|n't)\b[^.,;:\n]{0,25}$",
    re.IGNORECASE,
)
"""Before an "answer is" that states no answer."""
_REJECTED = re.compile(
    r"[^A-Za-z\n]{1,30}(?:(?:does|is|was)(?:\s+not\b|n't)|cannot\b|can't|fails\b|is\s+(?:extraneous|rejected|invalid|impossible|"
    r"wrong|incorrect|false|too)\b)"
)
"""A number, and that it is not the answer."""
_PLACE = re.compile(
    r"(?:(?<=\d),?\s+(?:attained|achieved|reached|occurring)|,\s+(?:\$?\d[\d.,]*%?\s+(?:[a-z]+\s+)?(?:more|less|fewer|[a-z]+er)\s+than|(?:up|down)\s+from|(?:in|ex)cluding|compared\s+(?:to|with)))\s"
    r"[^\n]{0,100}?(?=\.(?:\s|$)|\n|$)"
)
"""Where a number is reached, and what it is compared with: `16 years, 4 years older than Ben`."""
_ASIDE = re.compile(
    r"(?P<number>(?<![\d.,/])\d[\d.,/]*+%?(?:\s+(?!(?:and|y|e|et|und|not?|non|nicht)\b)[a-zA-Z/]+){0,2})(?:\s+\((?!\s*(?:or|maybe|perhaps|possibly|either)\b)[^()\n]{1,100}\)"
    r"|\s*[,，]?\s*(?:\b(?:rather\s+than|instead\s+of|as\s+opposed\s+to|(?:(?:and|y|e|et|und|а|и)\s+)?(?:not|no|non|não|nicht|не))\s|而?不是)"
    r"\s*[-−$]?\d(?:[\d.,/]*\d)?%?)(?=[\s.,;!。]|$)"
)
"""What a number is explained or contrasted with: `7 (many say 8)`, `7, not 8`."""
_SUPPOSITION = re.compile(
    r"(?:^|(?<=[.!?\n]))\s*(?:Let(?!'s|\s+(?:us|me)\b)|Suppose|Assume|Consider|Define|Given)\b"
    r"(?:(?!\b(?:then|so|thus|hence|gives?|get|have|we)\b)(?:[^.!?\n,]|\.\d))*(?:[.!?]\$*|\n|$)"
)
"""A sentence that supposes a number and concludes nothing."""
_LIST_MARK = re.compile(r"^[ \t]*\d{1,2}[.)](?=[ \t]+\S)", re.MULTILINE)
BOLD_PART = re.compile(r"(?<![\w*)])\*\*(?=\S)([^*\n]{1,80}?)(?<=\S)\*\*(?![\w*(])")
_WORKED_OUT = re.compile(
    r",?\s+(?:(?:which|that)\s+(?:is|equals|gives|makes)\s+(?:equal\s+to\s+)?|(?:so|hence|thus|i\.e\.,?)\s+(?:it\s+is\s+|is\s+)?)"
    r"(?=[-−$\d\\])"
)
_UNDONE = re.compile(r"[+*/×·^]|\b(?:plus|minus|times|by|of)\b")
_YES_OR_NO = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)
_MATH_END = re.compile(
    r"(?:(?<![A-Za-z\d'])[A-Za-z](?![A-Za-z'])|[\d.,+*/^()=<>≤≥≠∈{}\[\]²³×·\s−-]|(?<![A-Za-z])(?:and|or)(?![A-Za-z]))+$"
)
"""A formula without dollar signs at the end of a sentence."""
_LIST = re.compile(r"[\d./-]+(?:(?:, (?:and )?|,? and )[\d./-]+)+")
_ASKED = re.compile(r"[^.!?\n]{0,200}\?")
_BOLD = re.compile(r"\*\*([^*\n]{1,80}?)\*\*")
_DERIVED = re.compile(
    r"\b(?:(?:statement|claim|assertion|proposition)\s+is|gets?|gives?|obtain(?:s|ed)?|yields?|becomes?|equals?|simplif(?:y|ies)\s+to|equal\s+to)\s+(?=\S)",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\\(?:[dtc]?frac|sqrt|pi|binom|cdot|times|div|over|ast|pm|mp|infty|theta|pm|left|right|ln|log|sin|cos|tan|text)(?![a-z])"
)
_AFTER_COMMAND = re.compile(r"(?:\s*(?:\\[a-zA-Z]+|[-+*/^_=()\[\]|]|\d+(?:\.\d+)?|[a-z](?![a-z])))*\s*")
_SENTENCE_END = re.compile(
    r"(?<!i\.e)(?<!e\.g)\.(?=\s|$)|\n|(?<=\d)(?:[,;]\s(?![a-z]\s*=|(?:or|maybe|perhaps|possibly|but\s+(?:it\s+)?(?:may|might|could))\b)(?=[a-z])|;\s(?=\d+\s+[a-z]{2}))|,?\s+(?:because|since|as|so|which|car|puisque|weil|denn|da|ya\s+que|porque|parce\s+que|pois|perché|poiché|так\s+как|потому\s+что)\s|[，。；（]|(?<=\d)\s+[-–—]+\s+(?=[a-z]{3})"
    r"|(?<=\d)\s+(?:when|where|for|with|at(?!\s+(?:most|least)))\s(?!.{0,200}\b(?:when|if|otherwise|or|and\s+\d)\b)"
)
_WORD = re.compile(r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0400-\u04ff\u0590-\u06ff\u0900-\u0d7f]{2,}")
_TEXT = r"\\(?:text\w*|mbox|hbox|mathrm)\s*\{"
_IN_FORMULA = re.compile(rf"{_TEXT}(?:(?!{_TEXT})[^{{}}])*|\\[A-Za-z]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts that write words without spaces between: how many there are is not known."""
_MATH_WORDS = frozenset(
    """and or sin cos tan cot sec csc log ln exp sqrt pi inf infinity oo frac dfrac tfrac boxed text mathrm mathbf begin
    end pmatrix bmatrix matrix array cases aligned left right cdot times leq geq neq le ge ne in cup cap infty lim sum
    int to percent pct mod gcd lcm max min arcsin arccos arctan sinh cosh tanh det binom dx dy dt dz quad ldots dots
    degrees degree cm mm km kg ft mi lb hr""".split()
)
MAX_WORDS = 2
"""More words than this (names of functions aside) make a text prose."""


def is_prose(text: str) -> bool:
    r"""Whether a text is sentences. What stands in `\text{}` belongs to a formula."""
    plain = without_commands(re.sub(_TEXT + r"[^{}]*\}", " ", text))
    words = [word for word in _WORD.findall(plain) if word.lower() not in _MATH_WORDS]
    if len(words) > MAX_WORDS or _UNSPACED.search(plain):
        return True
    return any(word.lower() in ("answer", "is", "are", "therefore", "thus") for word in words)


def introduces(text: str, numeric: bool) -> bool:
    """Whether a short text is words and, behind them, the answer: `Answer $9$`, `Total: 9`."""
    words = (word for word in _WORD.finditer(_blank(_IN_FORMULA, text)) if word[0].lower() not in _MATH_WORDS)
    if (first := next(words, None)) is None:
        return False
    if formula := _FORMULA.search(text):
        return first.start() < formula.start()
    return numeric and re.search(r"\d", text[first.end() :]) is not None


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """A text with blanks where the pattern matches."""
    return pattern.sub(lambda match: " " * len(match[0]), text)


def stated_answer(text: str, numeric: bool) -> tuple[str, str]:
    """What follows the last "final answer is", or else the last "answer is", and the text from there on."""
    denied = ("", "")
    for pattern in _SAID:
        for match in reversed(list(pattern.finditer(text))[-3:]):
            rest = text[match.end() : match.end() + MAX_CANDIDATE].lstrip(" :*\n→⇒…")
            bold, _, behind = rest.partition("**")
            if rest.count("**") % 2:  # the first ends what began before
                rest = bold if not is_prose(bold) and re.match(r"\W*[A-Z]", behind) else bold + behind
            found = _stated(rest, numeric)
            if found and _MISCALLED.search(text[: match.start()][-60:]):
                later = last_answer(rest.partition(found)[2], numeric)
                denied = denied if denied[0] else (later if later not in ("", found) else f"not {found}", rest)
            elif found:
                return f"not {found}" if _NEGATED.search(match[0]) else found, rest
    return denied


_COUNTED = re.compile(
    r"(?!.*\b(?:if|when)\b.*\b(?:if|when)\b)\s*(?:[$€£¥]\s*)?(?P<number>[-−]?\d[\d,]*(?:\.\d+)?%?)"
    r"(?P<what>(?:\s+(?:[gmlshLJNWV](?=[\s,])|(?!(?:or|and|to|times|plus|minus|over|choose|remainder|rem|of|mod|by|out|squared|cubed|more|less|fewer)\b)[^\W\d_]{2,20})){0,4}?)"
    r"(?:(?<=[A-Za-z%])(?:\s+out\s+of\s|,\s)|(?<=[A-Za-z])\s+[a-z]{2,12}(?:ed|en|ld)\s+(?:by|into|between|among|from|with|over)\s|\s+of\s+(?:the|them)\b|(?<=[A-Za-z])(?<!percent)\s+of\s+(?=\d)|,\s+(?!and\b|or\b)(?=[a-z])"
    r"|\s+(?:for|at|off|with|from|among|during|within|every|each|per|after|before|when|on|across|in(?!\s+base)|en|em|por|para|pour|par|für|pro|auf|bei|за|на|в)\s)"
    r"(?!.*\b(?:unless|or|otherwise|remainder|and\s+[-$]?\d)\b)",
    re.IGNORECASE,
)
"""A number with what it counts, and a circumstance: `90 euros for 6 tickets`. A later number is not the answer."""
_OR_VALUE = re.compile(r"(?P<undone>[^,]{1,60}),\s+or\s+(?P<value>[-−$]?\d[\d,.]*)\s*")


def _stated(rest: str, numeric: bool) -> str:
    """The answer at the beginning of a text."""
    sentence = _SENTENCE_END.split(rest, maxsplit=1)[0]
    worked_out = _WORKED_OUT.match(rest, len(sentence.rstrip(",")))
    if worked_out and _UNDONE.search(sentence):
        return _stated(rest[worked_out.end() :], numeric)
    value = _OR_VALUE.fullmatch(sentence)
    if value and _UNDONE.search(value["undone"]) and not re.fullmatch(r"[-\d\s/.]+", value["undone"]):
        return value["value"]
    if (number := literal(sentence)) and number.compound:
        return sentence.strip()
    sentence = _ASIDE.sub(lambda aside: aside["number"], sentence) if numeric else sentence
    if (formula := _FORMULA.match(rest)) and not _AND_MORE.match(rest, formula.end()):
        return _formula_text(formula, rest)
    if numeric and re.match(r"\s*-?[\d.,]+\s+and\s+(?!not\b)[a-z].*\d", sentence):  # 36, and to the other part 9
        return unwrap(sentence)
    first = _COUNTED.match(sentence) if numeric else None
    with_circumstance = first is not None and first["what"] and re.search(r"\d", sentence[first.end() :])
    if sentence.strip() and not with_circumstance and not is_prose(sentence) and not introduces(sentence, numeric):
        return unwrap(sentence)
    if first:
        return unwrap(sentence) if re.match(r"\s*[$€£¥]?[\d.,]+%\s+of\b", sentence) else first["number"]
    return last_answer(sentence, numeric) or (unwrap(sentence) if _DENIED.search(sentence) else "")


def plain_end(text: str) -> str:
    """The last bold words, or what a sentence arrives at, in a message without formulas; empty if there is neither."""
    yes_or_no = _YES_OR_NO.findall(text)
    if len(yes_or_no) == 1 and re.match(r"\W*(?:yes|no)\W*[,.;:!]", text, re.IGNORECASE):
        return str(yes_or_no[0])
    if _FORMULA.search(text) or _COMMAND.search(text):
        return ""
    if bold := [match for match in _BOLD.findall(text) if not match.rstrip().endswith(":")]:
        return unwrap(bold[-1])
    derived = [*_DERIVED.finditer(text)]
    sentence = _SENTENCE_END.split(text[derived[-1].end() :], maxsplit=1)[0] if derived else ""
    return "" if is_prose(sentence) else unwrap(sentence)


def last_answer(text: str, numeric: bool) -> str:
    """The last formula with those that it is listed with, or the last number outside of formulas: what comes later."""
    text = _SUPPOSITION.sub(lambda let: let[0] if let[0].count("$") % 2 else " ", text[-LAST_CHARS:])
    text = text.replace("√", r"\sqrt ").replace("π", r"\pi ")
    text = re.sub(r"(?<=\d)\s[xX]\s(?=\d)", " × ", text)
    formulas = [*_FORMULA.finditer(text)]
    outside = BOLD_PART.sub(lambda bold: f"  {bold[1]}  ", _blank(_FORMULA, text))
    outside = _blank(_PLACE, _blank(_LIST_MARK, outside))
    outside = _ASIDE.sub(lambda aside: aside["number"].ljust(len(aside[0])), outside)
    best, start, end = _listed(formulas, text) if formulas else ("", 0, -1)
    if (bare := _last_bare_latex(outside)) is not None and bare[1] > end:
        best, (start, end) = text[slice(*bare)], bare
    if not numeric and end < 0 and (plain := _plain_formula(text)):
        return plain
    if numeric or end < 0:
        # the 3 of a fraction is no number of its own
        without_braces = re.sub(r"\{[^{}]*\}", lambda braces: "{" + "x" * (len(braces[0]) - 2) + "}", outside)
        if (numbers := _without_circumstances([*_ARITHMETIC.finditer(without_braces)], outside)) is None:
            return ""
        while numbers and (
            _ASKED.match(outside, numbers[-1].end())
            or _REJECTED.match(outside, numbers[-1].start())
            or _NUMBERED.search(outside[: numbers[-1].start()][-20:])
        ):
            numbers.pop()
        if numbers and numbers[-1].end() > end:
            before = outside[: numbers[-1].start()][-100:]
            if tied := _JOINED.search(before) or _DENIED.search(before):
                return unwrap(tied[0] + numbers[-1][0])
            return unwrap(("-" if _MINUS.search(before) else "") + numbers[-1][0])
    is_changed = best and (_DENIED.search(text[:start][-100:]) or _CHANGED.match(text, end))
    return f"not {unwrap(best)}" if is_changed else unwrap(best)


def _without_circumstances(numbers: list[re.Match[str]], text: str) -> list[re.Match[str]] | None:
    """Numbers without those that say when or per what at the end; None where any may be meant: `5 people share 20 slices`."""
    while len(numbers) > 1:
        before, last = numbers[-2:]
        between = before[0].lstrip("-+($€£¥−0123456789.,/*=×÷ ") + text[before.end() : last.start()]
        between = " " + between.lstrip("^)% ")
        counts = re.search(r"[$€£]\s?\d|\d%?\s[A-Za-z]", text[before.start() : before.end() + 3])
        has_unit = re.match(r"[^A-Za-z]*\s?[A-Za-z]|(?:1[5-9]|20)\d\d\W*$", text[last.start() : last.end() + 3])
        is_time = re.match(r"[\d:]+\s?[ap]\.?m\b", text[last.start() : last.end() + 5])
        is_aside = is_time or _BY_DOING.search(between) or (_CIRCUMSTANCE.search(between) and has_unit)
        is_new = _NEW_STATEMENT.search(_PASSIVE.sub(" ", between)) or not counts
        if not _DIVIDED.fullmatch(between) and (is_new or not is_aside):
            return numbers if is_new or _GIVEN.search(text[: before.start()][-40:].lower()) else None
        numbers = numbers[:-1]
    return numbers


def _plain_formula(text: str) -> str:
    """What a text ends in, if that is a formula with a sign in it."""
    found = _MATH_END.search(text[-200:].rstrip(" .!\n"))
    formula = re.sub(r"^(?:\s|[,.)]|and\b|or\b|a\s)+", "", found[0]) if found else ""
    is_formula = re.search(r"[=<>≤≥∈+*/^²³−-]", formula[1:]) and re.search(r"[A-Za-z]", formula)
    return formula if is_formula or _LIST.fullmatch(formula) else ""


def _listed(formulas: list[re.Match[str]], text: str) -> tuple[str, int, int]:
    """The last formula, and those before it with nothing but a comma, "and" or "or" between: text, start, end."""
    parts, start = [_formula_text(formulas[-1], text)], formulas[-1].start()
    for before, behind in zip(formulas[-2::-1], formulas[:0:-1], strict=False):
        between = text[before.end() : behind.start()]
        if not between.strip() or not LIST_GLUE.fullmatch(between):
            break
        parts.insert(0, _formula_text(before, text))
        start = before.start()
    return ", ".join(parts), start, formulas[-1].end()


def _last_bare_latex(text: str) -> tuple[int, int] | None:
    """Where the last LaTeX stands that has no dollar signs around it, with the numbers and signs beside it."""
    commands = [*_COMMAND.finditer(text)]
    if not commands:
        return None
    stop, closing = 0, commands[-1].end() - 1
    while closing >= 0:
        stop = next(_AFTER_COMMAND.finditer(text, closing + 1)).end()
        closing = matching(text, stop) if text[stop : stop + 1] == "{" else -1
    start = commands[-1].start()
    for command in reversed(commands[:-1]):
        between = text[command.end() : start]
        if not re.fullmatch(r"[\s\d{}()+\-*/^_.,a-z=]{0,60}", between) or re.search(r"[a-z]{3}", between):
            break
        start = command.start()
    return next(re.finditer(r"[-+\d\s.*/^({]*$", text[:start])).start(), stop


def _formula_text(match: re.Match[str], text: str) -> str:
    content = next(group for group in match.groups() if group is not None)
    behind = re.match(r"\s*(?:\\?%|percent(?:age)?\b|pct\b)", text[match.end() :])
    return unwrap(content) + (" %" if behind else "")
