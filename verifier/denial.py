r"""Judges by the words around a box whether they state it: `\boxed{5}, no wait, it is 7` and `not \boxed{5}` do not.

A box is refused if it is a part of a larger formula, if the clause that leads to it denies or supposes it, if what is said
of it denies it, or if the text behind it turns ("but", "wait") or concludes, and arrives at another number. What the text
arrives at last counts: a check or a restatement of the box makes it good again.
"""

import re
from fractions import Fraction

from verifier.latex import clean
from verifier.literals import Literal, literal

BEFORE_CHARS, AFTER_CHARS = 250, 1_500
_OPEN = r"[\s$(*{\[\\]*$"
_SHUT = r"(?:[ \t$)}\]]|\\[)\]])*+"
"""What may stand between a box and what it is a part of."""
_MARKUP = re.compile(
    r"\[asy\].*?(?:\[/asy\]|$)|```.*?(?:```|$)|\\(?:math|text)[a-z]{2}\s*\{|(?:^|(?<=\n))\s*\d{1,2}[.)]\s+(?=\S)|</?[a-z]{1,20}>|-{3,}|\\end\{[a-z]+\*?\}",
    re.DOTALL,
)
"""What says nothing: drawings, programs, fonts, numbers of steps, tags."""

# -- the clause before ------------------------------------------------------------------------------------------------

_PART_OF = re.compile(
    r"(?:\\(?:neq?|cdot|times|sqrt|frac|lt|gt|[bx]?cancel|sout|st|phantom)(?![a-z])|(?<![=>|-])[<>≠^/·×]|[=\s($]-|^\s*-|[\w)}]\s*\+)"
    + _OPEN
    + r"|(?:\d|(?<![A-Za-z\\])(?:[A-Za-z]|\\pi)|[+-]\s*\w\)|\\(?:[dt]?frac\s*\{[^{}]*\}|sqrt)\s*\{[^{}]*\})\Z|[$(+]\s*\d+(?:\.\d+)?[ ]*\Z"
)
_TAIL = re.compile(
    r"(?:\\[,!;: ])*(?:(?=[\d{,.]*\d|(?:[A-Za-z]|[ ][a-z](?=[$^]))(?![A-Za-z&])|\\(?:pi|sqrt|l[no]g?|sin|cos)(?![a-z])|\([a-z\d]+\s*[+-])[ ]?[^\s$]{1,40}"
    r"|[\s$)}]{0,6}(?:\\?%|(?:\\(?:text|mathrm)\s*\{\s*)?(?:hundred|thousand|[mbtr]+illion|bn)s?\b\}?))"
)
r"""What is behind a box and belongs to its number: `\boxed{3}x`, `\boxed{3}.5`, `\boxed{3} million`."""
_SENTENCE = re.compile(r"[.!?;\n](?!\d)")
_CLAUSE = re.compile(r"[,:]\s|\b(?:but|so|then|thus|hence|therefore|because|since|we)\b", re.IGNORECASE)
_VERB = r"(?:answer|say|write|give|put|box|report|use|choose|trust|believe|accept|submit)"
_DENIES = re.compile(
    rf"(?:\b(?:not|never|cannot|nicht|no\s+es|não|не)\b|n't\b|n'est\s+pas|不是)(?:\s+(?:be|equal\s+to|[a-z]+ly|have\s+been|{_VERB}))*(?:\s+the\s+(?:answer|value|result))?(?={_OPEN})"
    r"|(?:\b(?:nobody|neither|nor|no\s+one|far\s+from|rather\s+than|instead\s+of|as\s+opposed\s+to|unlike|avoid|ignore|"
    r"disregard|forget|refuse|retract|withdraw|discard|reject|scratch|differs?\s+from|contradicts?|exceeds?)\b"
    rf"|\b(?:(?:more|less|greater|fewer|other|larger|smaller)\s+than|nearly|almost|below|above|twice|double|triple|half"
    rf"|(?:multiples|factors|divisors|powers|(?:square|cube)(?:\s+root)?|reciprocal|logarithm|digit\s+sum)\s+of)(?={_OPEN}))"
    r"(?!.*(?:\b(?:is|are|was|were|has|have|equals?|gives?|yields?|leaves?|gets?|obtain|find|that)\b))",
    re.IGNORECASE,
)
"""A denial that no statement behind it has ended: in `numbers that are not odd are 5` 5 is stated."""
_UNTRUE_BEFORE = re.compile(
    r"\b(?:(?:wrong|incorrect|false|erroneous|mistaken|naive)\s+(?:answer|result|value|solution|count|guess|estimate|"
    r"assumption|approach|method|reasoning|formula|sign)|(?:initial|earlier|previous|original|first)\s+(?:answer|guess|attempt|estimate|thought|claim)|(?:incorrect|wrong|erroneous|mistaken|naive)ly|tempting|tempted|untrue|impossible\s+that|"
    r"suppose|pretend|imagine|doubt|no\s+way|not\s+(?:\w+\s+)?(?:the\s+case|true|right|correct)|anything\s+but|scratch\s+that|(?:mistake|error|trap|misconception|wrong|incorrect|false)\s+(?:is|was|to|would|that)|"
    rf"(?:all|any|every|each)(?:thing|one)?(?:\s+\w+){{0,3}}\s+(?:but|except|excluding|besides|other\s+than)(?:\s+for)?(?={_OPEN})|"
    r"(?:assum\w+|if|whether)\s+(?:that\s+)?(?:the\s+)?(?:final\s+)?(?:answer|result|it)\s*(?:is|was|were|'s)(?=\s))\b"
    r"|^\W*(?:add|subtract|multiply|divide|double|(?:add|subtract|multiply|divid|doubl)ing)\b(?!.*(?:=|\b(?:is|are|has|have|equals?|gives?|yields?|leaves?|gets?|becomes|obtain|find)\b))"
    rf"|[✗✘❌]|\beither(?:\s+\S+\s+or)?(?={_OPEN})",
    re.IGNORECASE,
)
_UNTRUE_LABEL = re.compile(
    r"\b(?:wrong|incorrect|false|placeholder|intermediate|previous\w*|initial\w*|format|example)\s*(?:answer|result|value|solution|guess|count)?\s*:\s*(?:[a-z]\s*=)?\W*$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:(?:differs?|different|differing)\s+from|by\s+no\s+means|says|said|claims?|claimed|gave(?:\s+me)?|suggested|partial\s+result|auxiliary|rule[ds]?\s+out|"
    r"possible\s+answers?|would\s+(?:write|answer|say)|answer\s+key)\b"
    rf"|\b(?:half\s+of|exceeding|among|é|est\s+pas){_OPEN}|\\[dt]frac\{{?{_OPEN}|\d-{_OPEN}",
    re.IGNORECASE,
)
"""What others say, what is one of several, and what is only on the way, in the clause that leads to a box."""
_CONDITION = re.compile(
    r"\W*(?:had\b|ignoring|first\s+attempt|upper\s+bound|lower\s+bound|let(?:'s|\s+us)\s+try)\b"
    rf"|\W*(?:(?:the\s+)?(?:final\s+)?answer\s+is\s+)?at\s+(?:most|least){_OPEN}",
    re.IGNORECASE,
)
_RETRACTS = re.compile(
    r"\b(?:retract|withdraw|take\s+back|(?:please\s+)?(?:disregard|ignore)\s+(?:this|that|it|the\s+above|my)|scratch\s+(?:that|this|it)|strike\s+(?:that|this|it)|replace\s+(?:this|that|it)|"
    r"(?:don't|do\s+not)\s+trust|no\s+longer\s+stand|(?:is|are)n't\s+done|not\s+done\s+yet|not\s+finished\s+yet|to\s+be\s+continued|as\s+scratch\s+work|the\s+check\s+fails|my\s+bad|just\s+(?:a\s+)?(?:random\s+)?guess\w*|"
    r"take\s+(?:that|this|it)\s+back|correct\s+myself|never\s+mind|I\s+(?:\w+\s+)?made\s+(?:a|an|the)\s+(?:\w+\s+)?(?:mistake|error)|forget\s+(?:that|this|it)\b(?!\s+\w)|"
    r"not\s+(?:the|my)\s+(?:final\s+)?answer|pas\s+la\s+réponse|stimmt\s+(?:\w+\s+)?nicht)\b|ではありません|不是(?!\s*[$\d])|不对|неверно|неправильно|は(?:間違|誤)|아니라|아닙니다",
    re.IGNORECASE,
)
"""What takes a box back wherever it stands behind it, with or without another number."""
_MENDED = re.compile(r"\b(?:correct|fix|avoid|remov|repair|after)\w*\b", re.IGNORECASE)
_HEDGED = re.compile(
    r"\b(?:might|may|could|would|'d|says?|claims?|claimed|students|first|glance|without|before|bound|were|had|approximately|perhaps|maybe|like|if|attempt|option|draft|version)\b",
    re.IGNORECASE,
)
"""What lets the text go on to another answer."""

# -- what is said of it -----------------------------------------------------------------------------------------------

_SUBJECT = re.compile(
    r"[\s$)*}\]\\(.,;:!?–—→-]{0,12}(?:(?:no|wait|hmm+|oops|but|however|sorry|and|actually|unfortunately|though|note(?:\s+that)?)\b[\s,.!:-]*){0,3}"
    r"(?:(?:(?:the|this|that|my)\s+(?:\w+\s+)?(?:above|answer|result|value|box|solution)|this|that|it|which)\b\s*)?",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:(?:is|was|ist|es|est|è|é|has|had|'s|seems|looks|turns|turned|proves|proved|must|will|would|should|can|could|may)\b\s+(?:(?!not\b)[a-z]+\s+){0,4}?)?"
    r"(?:wrong|incorrect|false|mistaken|invalid|impossible|extraneous|rejected|discarded|excluded|ruled\s+out|absurd|too\s+(?:large|small|big|high|low)|a\s+lie|off\s+by|refuted|falsch|incorrect[oa]|faux|fausse|sbagliat[oa]|errad[oa])"
    r"\b(?!\s+(?:for|when|if|in|unless|to)\b)"
    r"|(?:(?:is|was|can|could|does|do|would|must|'s)\s*(?:n't|not)|can't|cannot)\s+(?:be\s+)?(?:the\s+|an?\s+|quite\s+)?"
    r"(?:right|correct|valid|true|work|fit|satisfy|it|what|so|possible|among|one\s+of|(?:[a-z]+\s+)?(?:answer|solution|option|choice|root))\b|(?:can't|cannot|couldn't)\s+be\s*[.!,;]"
    r"|(?:is|was|'s)\s+(?:only|just|merely|half|twice|part|another|off|what\s+(?:you|one|they)|(?:\w+\s+){1,2}than\s+the\s+(?:answer|result)|an?\s+(?:part|different)|no\s+(?:[a-z]+\s+)?(?:answer|solution)|"
    r"(?:an?|my|the|our)\s+(?:[a-z]+\s+){0,2}?(?:wrong|mistake|error|slip|typo|misprint|trap|guess|(?:over|under)\w+)|(?:\w+\s+){0,4}(?:different|another|other)\s+(?:question|problem|part))\b"
    r"|(?:leads|led)\s+to\s+an?\s+(?:contradiction|impossibility)\b|is\s+(?:only\s+)?an?\s+(?:upper|lower)\s+bound\b(?=[^.]*(?:\bnot\b|n't\b))"
    r"|was\s+(?:the|my)\s+(?:\w+\s+)?(?:answer|guess|result)\b|(?:more|less|fewer)\s+than\s+[$\\(]*\d"
    r"|(?:over|under|double[\s-]*)(?:counts?|estimates?)\b|(?:looks|seems)\s+\w+,?\s+(?:but|yet)\b|(?:fails?|contradicts?|violates?|forgets?|ignores?|neglects?|misses|needs?\s+to\s+be|(?:should|ought\s+to)\s+(?:be|have\s+been)|"
    r"would\s+be\s+(?:\w+\s+)?only)\b",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"[\s$)*\\\]},?→–—-]*(?:wait\b[\s,.!-]*)?(?:(?:no(?:\s+wait)?|nope|nah|oops|sorry)\b\s*(?:[,.!:]|$)|wait[\s.!…]*$)|"
    + _SHUT
    + r"(?:\?(?!\s*(?:yes|yeah|yep|correct|indeed|right|sure|true|so)\b)|[✗✘❌×]|\(not\b[^)\d]{0,3}\)|n(?:e\s+|')\w+\s+pas\b|(?:no\s+es|non\s+è|não\s+é|(?:ist\s+)?nicht)\s+(?:corre|richtig|die\s|la\s|a\s)|(?:(?:st|nd|rd|th)\s+(?:root|power)|squared|cubed|factorial|halves|or\s+so\s+more|and\s+(?:an?|\w+)\s+(?:hal(?:f|ves)|thirds?|quarters?))\b|[<>≠]\s*[\dA-Za-z]|!\$(?!\$)|\^\s*\{?\d|\\(?:neq?|lt|gt)(?![a-z]))",
    re.IGNORECASE,
)

# -- what the text behind it arrives at -------------------------------------------------------------------------------

_OPERATES = re.compile(
    _SHUT
    + r"(?:(?:plus|minus|times(?=\s+(?:the|[$\\(]*\d))|divided\s+by|or(?=\s+[$\\(]*-?\d)|make\s+that)\s|%\s*of\s|[+*]\s?\d|=(?=\s*-?[\d.,]+[\s$.]*(?:\n|$))|/\s?\d|-\s?\d|\\(?:cdot|times|to|rightarrow|Rightarrow)(?![a-z])|[=-]>|[→⇒])",
    re.IGNORECASE,
)
_TURNS = re.compile(
    r"\b(?:wait|w?h?oops|sorry|correction|corrected|erratum|edit|update|actually|hmm+|scratch|strike|nope|nah|hold\s+on|hang\s+on|changed|revised|crossed|slip|ignore|disregard|"
    r"on\s+(?:second\s+thoughts?|reflection)|or\s+rather|make\s+that(?!\W*$)|i\s+(?:meant|mean)|take\s+(?:that|it)\s+back|just\s+kidding|recompute|redo|(?<!common\s)mistake|"
    r"(?:no|nein|non)(?=\s*[,.!:]|\s+wait|\s*$)|erreur|perdón)\b|✓|不对",
    re.IGNORECASE,
)
_BUTS = re.compile(
    r"\b(?:but|however|though|although|yet|unless|instead|whereas|(?:that|it|this)\s+would\s+be)\b", re.IGNORECASE
)
_STATES = re.compile(
    r"(?:\b(?:is|are|be|equals?|gives?|giving|get|obtain|find|leaves?|have|has|was|were|read|answer|need|candidate|hence|says|arrive\s+at)\b|=|:|'s\b|应该是)"
    r"\s*(?:[a-z]+ly|therefore|thus|then|a\s+total\s+of|now|the\s+next\s+candidate,)?[-\s$*\\({\[]*$",
    re.IGNORECASE,
)
"""A number behind this is stated."""
_AN_ASIDE = re.compile(
    r"(?!.*\b(?:answer|final|correct)\b)(?:\s*\(|\W*(?:note|notice|observe|here|check|in\s+fact|also|for\s+(?:example|instance)|alternative|remark|proof|let|suppose|if|with\s+(?:\w+\s+){1,3}(?:work|had)|"
    r"they|these|we\s+(?:can|could|used|also)|there\s+are|to\s+[a-z]+|key|fun|as\s+a|of\s+course|more\s+generally|summary|step|"
    r"common|students|people|pitfall|topic|level|difficulty|source|tags|"
    r"(?:the|an?|each|every)\s+(?!(?:[a-z]+\s+){0,3}(?:answer|value|result|solution|correct|right|true|final|exact|real|required)\b)))",
    re.IGNORECASE,
)
"""A sentence that begins so explains, checks or adds something, and states no other answer."""
_LABEL = re.compile(r"[^:]*\b(?:answer|ans|result|final|correct\w*|solution|now)\b[^:]*:", re.IGNORECASE)
_ALONE = re.compile(r"[-\s$*\\({\[#]*(?:[a-z]\s*=\s*)?", re.IGNORECASE)
_MEANT_OTHERWISE = re.compile(
    r"\b(?:if|would|could|might|had|mistake|wrong|incorrect|many|some|common|not|cannot|rather\s+than|instead\s+of|fails?|rejected?|invalid|"
    r"extraneous|unlike|as\s+opposed|remainder|confidence|seems|looks|appears|possible|impossible|(?:for|when|if|with|at)\s+[$\\(]*[a-z]\s*=)\b|n't\b",
    re.IGNORECASE,
)
_AFFIRMS = re.compile(
    r"^\W*(?:yes|good|great|correct|right)\s*(?:[.,!]|$)|(?<![\d$]\s)\b(?:is|'s|looks)\s+(?:indeed\s+)?(?:correct|right)\b|\b(?:matches|verif\w+|confirm\w*|checks?\s+out|works|consistent)\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"\bno\s+(?:such\s+\w+|solutions?|answer)\b|\bno\s+\w+\s+exists?\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.^_{])-?(?:\\[dt]?frac\s*\{?\d+\}?\s*\{?\d+\}?|\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\w^_]|\.\d)(?:\s*\\?%|\s+percent)?",
    re.ASCII,
)
_WHAT_IT_COUNTS = re.compile(r"[\s$*\\)}\].!]*(?:[a-z]+[\s.!]*){0,3}", re.IGNORECASE)


def is_denied(before: str, box: str, after: str, *, by_conclusion: bool = True) -> bool:
    """Whether the words around a box say that it is not the answer.

    Args:
        before: the text up to the box.
        after: the text behind it.
        by_conclusion: a sentence behind it that states another number denies it, also without a "but" or "wait".

    """
    end = after[-AFTER_CHARS:]
    before, after = _MARKUP.sub(" ", before[-BEFORE_CHARS:]), _MARKUP.sub(" ", after[:AFTER_CHARS])
    sentence = _SENTENCE.split(before)[-1]
    if _PART_OF.search(before) or _DOUBTED.match(after) or (_is_denied_before(sentence) and not _restates(box, after)):
        return True
    subject = _SUBJECT.match(after)
    if (subject and _DENIED.match(after, subject.end())) or _RETRACTS.search(after):
        return True
    hedged = _HEDGED.search(sentence) is not None
    return _arrives_elsewhere(box, after, hedged=hedged, by_conclusion=by_conclusion) and not _restates(box, end)


def _restates(box: str, text: str) -> bool:
    """Whether a text states what a box holds, and no number behind it."""
    return (
        re.search(rf"(?:=|\b(?:is|are|yields?|gives?|total\s+of))[\s$*(]*{re.escape(box)}(?![\w.]*\d)\D*\Z", text)
        is not None
    )


def _is_denied_before(sentence: str) -> bool:
    last = re.split(r"[,:]\s", sentence)[-1]
    if _UNTRUE_BEFORE.search(last) and not _MENDED.search(sentence):
        return True
    if _UNTRUE_LABEL.search(sentence) or _SUPPOSED.search(last) or _CONDITION.match(sentence):
        return True
    return _DENIES.search(_CLAUSE.split(sentence)[-1]) is not None


def _arrives_elsewhere(box: str, after: str, *, hedged: bool, by_conclusion: bool) -> bool:
    """Whether the text turns, or concludes, and then states another number than that of the box."""
    if not after.strip(" \n\t$.)}\\]*"):
        return False
    value = literal(clean(box))
    turned = 2 if value is not None and _OPERATES.match(after) else int(hedged)  # 1: but, 2: wait
    other = settled = False
    for number, sentence in enumerate(re.split(r"(?<=[.!?;])\s+|\n+", after)):
        if _AFFIRMS.search(sentence) and not _MEANT_OTHERWISE.search(sentence):
            turned, other = 0, False
            continue
        concludes, stop = by_conclusion and number > 0 and _AN_ASIDE.match(sentence) is None and value is not None, 0
        for clause in re.split(r"(?<=[,:])(?=\s)|(?=\sand\s)", sentence):
            start, stop = stop, stop + len(clause)
            turn = 2 if _TURNS.search(clause) else int(_BUTS.search(clause) is not None)
            turned = max(turned, turn)
            if turned and _NOTHING.search(clause):
                return True
            numbers = [] if _MEANT_OTHERWISE.search(clause) else [*_NUMBER.finditer(sentence, start, stop)]
            same = _is_same(value, numbers[-1][0]) if numbers else None
            if same and not turn:
                turned, other, settled = 0, False, True
            elif same is False and (
                turned == 2
                or ((turned or (concludes and not settled)) and _is_stated(numbers[-1], stop, other_may_be=turned > 0))
            ):
                other = True
    return other or (turned == 2 and value is None and box.strip() not in after)


def _is_stated(number: re.Match[str], stop: int, *, other_may_be: bool) -> bool:
    """Whether a number, in a clause that ends at `stop`, is stated by its sentence, or is all of it."""
    before, behind = number.string[: number.start()], number.string[stop:]
    if not _WHAT_IT_COUNTS.fullmatch(number.string, number.end(), stop):
        return False
    if _ALONE.fullmatch(before.rpartition(", ")[2] if other_may_be else before) and not behind.strip():
        return True
    is_label = before.rstrip().endswith(":") and not other_may_be
    return (_LABEL.match(before) if is_label else _STATES.search(before)) is not None


def _is_same(value: Literal | None, text: str) -> bool | None:
    """Whether a number is that of the box, also rounded or as a percentage; None for one of another kind."""
    number = literal(clean(text))
    if number is None or value is None:
        return None if number is None else False
    if number.value.denominator == value.value.denominator == 1 and number.percent == value.percent:
        return number.value == value.value
    if any(abs(number.value * scale - value.value) * 50 <= abs(value.value) for scale in (Fraction(1, 100), 1, 100)):
        return True
    return None if number.percent > value.percent else False


def with_tail(content: str, after: str) -> str:
    """What a box holds, with what follows it at once and makes it another number."""
    tail = _TAIL.match(after)
    return (
        content + tail[0].strip("$ ")
        if tail and literal(clean(content)) is not None and not content.endswith("%")
        else content
    )
