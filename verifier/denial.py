r"""Judges by the words around a mark whether they state it: `\boxed{5}, no wait, it is 7` and `not \boxed{5}` do not.

A mark is refused if it is a part of a larger formula, if the clause that leads to it denies or supposes it, if a sentence
about it says that it is wrong or not right, or if the text behind it turns ("but", "wait") or concludes, and arrives at
another number. What the text arrives at last counts: a check or a restatement of the mark makes it good again.
"""

import re
from fractions import Fraction
from functools import lru_cache

from verifier.latex import clean
from verifier.literals import Literal, literal
from verifier.marks import BOX, Mark

BEFORE_CHARS, AFTER_CHARS = 250, 1_500


def _any(words: str) -> str:
    """A pattern for any of the words; `_` is space between words, `*` any ending."""
    patterns = re.sub(r"\|\s+", "|", words).split()
    return r"\b(?:" + "|".join(patterns).replace("_", r"\s+").replace("*", r"\w*") + r")\b"


_OPEN = r"[\s$(*{\[\\]*$"
_SHUT = r"(?:[ \t$)}\]]|\\[)\]])*+"
"""What may stand between a mark and what it is a part of."""
_MARKUP = re.compile(
    r"\[asy\].*?(?:\[/asy\]|$)|```.*?(?:```|$)|\\(?:math|text)[a-z]*\s*\{|(?:^|(?<=\n))\s*\d{1,2}[.)]\s+(?=\S)|</?[a-z]{1,20}>|-{3,}"
    r"|\\end\{[a-z]+\*?\}|\\q*uad(?![a-z])|\\[ ,;:!]",
    re.DOTALL,
)
"""What says nothing: drawings, programs, fonts, spaces, numbers of steps, tags."""
_TAGS = re.compile(r"</?[a-z]{1,20}>")
_SENTENCE = re.compile(r"[.!?;\n](?!\d)")

# -- words that judge -------------------------------------------------------------------------------------------------

_NOT = rf"(?:{_any('not never cannot no none neither nor nothing hardly without nicht kein* pas non não не')}|n't\b|不是|[不没])"
_RIGHT = (
    "(?:"
    + _any(
        r"""right correct valid true works? fits? satisf* holds? match* agrees? checks? possible acceptable sure certain sense
        confident trust*(?:_th[ai][ts])?+ stands? done finished convinced what_(?:we|they|the|is|was) among one_of solutions? add_up complete
        (?:the|an?|my|our)_(?:(?!wrong|incorrect|false|extraneous|invalid|spurious)[a-z]+_)?(?:answer|option|choice|root)
        richtig juste vrai la die corre* верно правильно"""
    )
    + r"|\b(?:it|so|be|sein|être|ser)\s*(?=[.!,;]|$)|[对対])"
)
_WRONG = (
    "(?:"
    + _any(
        r"""wrong incorrect* false mistake* erroneous errors? misconception faulty scrap*(?:_th[ai][ts])?+ dismissed retracted discard amend* blunder oversight fallacy flawed deleted removed cancelled void invalid impossible absurd nonsense bogus garbage
        inconsistent contradict* violat* fail(?:s|ed)? disagree doubt guess* (?:typo|misprint)(?:_for)?+ slip bug lie trap
        refuted off_by mixed_up confus* forgot forgets? overlook* neglect* ignor* miss(?:es|ed) mis(?:read|count|calc|took|under|appl|interp|cop)*
        (?:over|under|double)[\s-]?(?:count|estimat)* too_(?:large|small|big|high|low|many|few|much|little|long|short) needs?_to_be
        (?:should|ought_to)(?:_be|(?:_have|'ve)_been) (?:[a-z]+_){1,2}than_the_(?:[a-z]+_)?(?:answer|result|value)
        rejected discarded excluded extraneous obsolete outdated withdrawn superseded ruled_out crossed_out
        (?:is|was)_only_the (?:only|just|merely)_(?:an?|half|part|guess*) (?:is|was|'s)_(?:half|twice|part|another) would_be_(?:[a-z]+_)?only(?:_if)?+ (?:would|could)_only (?:upper|lower)_bound (?:fits?|satisf*|match*|meets?)_neither
        what_(?:you|one|we|they)_gets?_(?:if|when|by|without) what_[a-z]+(?:'d|_would)_(?!expect)[a-z]+(?:_(?:if|when))?+ ha[sd]_to_be(?=[\s$]+\d) mismatch discrepancy
        (?:other|another|different)_(?:question|problem|part) leads?_to_an?_(?:contradiction|impossibility)
        falsch* faux fausse fals[oa] incorrect[oa] erreur sbagliat[oa] errad[oa] equivo* trompé* oublié* olvid* verrechnet verzählt vergessen ошиб* неверно неправильно
        stimmt_(?:[a-z]+_)?nicht"""
    )
    + "|[错誤误漏違]|間違|틀|아니라|아닙니다|ではありません|[✗✘❌])"
)
_JUDGED = re.compile(
    rf"(?P<no>{_NOT}\W*(?:(?!other|else|more|only|further|(?:small|larg|bigg|great|bett|few|low|high)er\b)\w+[^\w,;:.]+){{0,4}}?)?(?:(?P<right>{_RIGHT}(?!\s+neither))|{_WRONG})"
    rf"(?!\s+{_any('for when if in unless to that whether how why')})"
)
_CLAUSE_END = re.compile(
    r"[,;:()\n]|"
    + _any(
        "of who where when if because since unless as but which while to(?!_be|_an?_) (?:can|may|might)_(?:make|contain)"
    )
)
_ABOUT = re.compile(
    r"[^\w✗✘❌]*(?:(?:"
    + _any(
        """no(?=\\s?[,.!:]) note(?=\\s?:) note_that nope nah wait hmm* oops but yet however sorry and or actually unfortunately though well ah eh ugh so
        then attention nein non нет いや"""
    )
    + r")[^\w✗✘❌]*){0,4}(?:(?:"
    + _any(
        """(?:(?:the|this|that|my|our)_)?(?:(?:above|previous|final|boxed|last)_)?(?:above|answer|result|value|box|solution|number|line|claim|total|count|statement)(?:_above)?
        this that it which das dies c'?est ce esto eso isso questo"""
    )
    + r"|это|我|[这這]|これ|それ)|"
    + _any("i we one they he she please je ich yo me eu я")
    + rf"(?!\s+{_any('may might could hope')})|(?=(?:"
    + r"\b(?:(?:is|was|'s|seems|looks|has|had|contain(?:s|ed)|turns|turned|proves|proved|must|will|would|should|can|could|may|does|do|leads?|results?|comes?|came|stems|arises|ist|war|est|était|es|está|era|è|é)(?:n't|\b))"
    + f"|{_NOT}|是|(?!(?:wrong|incorrect|false|invalid|impossible)\\s+(?!answer|result|value|sign)[a-z]){_WRONG})))"
)
"""The subject of a sentence about a mark, with what leads to it; left out where the sentence begins with its verb."""

_CLAUSE_BEHIND = re.compile(r"(?<![\d$])(?=[,;:(]\s|\b(?:but|yet|and|so)\b)")

# -- the clause before ------------------------------------------------------------------------------------------------

_PART_OF = re.compile(
    r"(?:\\(?:neq?|cdot|times|sqrt|frac|lt|gt|[bx]?cancel|sout|st|phantom)(?![a-z])|(?<![=>|-])[<>≠^/·×]|[=\s($]-|^\s*-|[\w)}]\s*\+)"
    + _OPEN
    + r"|(?:\d|(?<![A-Za-z\\])(?:[A-Za-z]|\\pi)|[+-]\s*\w\)|\\(?:[dt]?frac\s*\{[^{}]*\}|sqrt)\s*\{[^{}]*\})\Z|[$(+]\s*\d+(?:\.\d+)?[ ]*\Z"
    r"|(?:\}\s*\{|[_^]\s*\{?|[\w)}]-|(?<![A-Za-z\\])[A-Za-z]\(|\\(?:l[no]g?|exp|sin|cos|tan|binom|lfloor|lceil|gcd|max|min)(?![a-z])\s*[({]?)\s*\Z"
)
_TAIL = re.compile(
    r"(?:\\[,!;: ])*(?:(?=[\d{,.]*\d|(?:[A-Za-z]|[ ][a-z](?=[$^]))(?![A-Za-z&])|\\(?:pi|sqrt|[dt]?frac|l[no]g?|sin|cos)(?![a-z])|\([a-z\d]+\s*[+-])[ ]?[^\s$]{1,40}"
    r"|[\s$)}]{0,6}(?:\\?%|(?:\\(?:text|mathrm)\s*\{\s*)?(?:hundred|thousand|[mbtr]+illion|bn)s?\b\}?))"
)
r"""What is behind a box and belongs to its number: `\boxed{3}x`, `\boxed{3}.5`, `\boxed{3} million`."""
_CLAUSE = re.compile(r"[,:]\s|\b(?:but|so|then|thus|hence|therefore|because|since|we)\b")
_STATEMENT = _any("is are was were has have equals? gives? yields? leaves? gets? obtain find that")
_DENIES = re.compile(
    rf"{_NOT}(?:\s+{_any('be es equal(?:_to)? [a-z]+ly conclude claim support* argue* have_been answer say write give put box report use choose trust believe accept submit take')})*"
    rf"(?:\s+(?!{_STATEMENT})[a-z]+)?(?:\s+the\s+(?:answer|value|result))?(?={_OPEN})"
    rf"|(?:{_any('nobody no_one far_from rather_than instead_of as_opposed_to unlike avoid ignor* disregard forget refuse reconsider strike retract withdraw discard reject scratch differs?_from contradicts?')}"
    rf"|{_any('(?:more|less|greater|fewer|other|larger|smaller)_than nearly almost below above twice double triple half eliminat* exclud* dismiss* rul(?:e|ing)_out cross*_out replac* (?:multiples|factors|divisors|powers|(?:square|cube)(?:_root)?|reciprocal|logarithm|digit_sum|half)_of among close_to exceed*')}(?={_OPEN}))"
    rf"(?!.*{_STATEMENT})"
)
"""A denial that no statement behind it has ended: in `numbers that are not odd are 5` 5 is stated."""
_UNSTATED = re.compile(
    _any(
        r"""(?:wrong|incorrect|false|erroneous|mistaken|naive)_(?:[a-z]+_)?(?:answer|result|value|solution|count|guess|estimate|
        assumption|approach|method|reasoning|formula|sign) (?:initial|earlier|previous|original|first)_(?:answer|guess|
        attempt|estimate|thought|claim) (?:incorrect|wrong|erroneous|mistaken|naive)ly tempting tempted untrue
        impossible_that suppose pretend imagine doubt (?:i|we|you|one)_(?:first_)?(?:thought|believed|assumed|expected|guessed) no_way not_(?:[a-z]+_)?(?:the_case|true|right|correct)
        scratch_that by_mistake (?:mistake|error|trap|misconception|wrong|incorrect|false)_(?:is|was|to|would|that|yields|gives|leads|results|produces)
        (?:assum*|if|whether)_(?:that_)?(?:the_)?(?:final_)?(?:answer|result|it)(?:_is|_was|_were|'s)
        (?:differs?|different|differing)_from by_no_means says said (?<!\bi\s)(?<!\bwe\s)claims? claimed gave_me suggested partial_result
        auxiliary rule[ds]?_out possible_answers? would_(?:write|answer|say|argue) i_originally under_no_circumstances in_no_(?:case|way) might_(?:think|guess|say)
        (?:some|many|others|people|students)_(?:[a-z]+_)?(?:get|say|write|think|claim|believe|guess|answer)
        (?:they|he|she|most|everyone)_(?:[a-z]+_)?(?:say|think|claim|believe|guess|argue)s? answer_key"""
    )
    + rf"|{_any('(?:all|any|every|each)(?:thing|one)?(?:_[a-z]+){0,3}_(?:but|except|excluding|besides|other_than)(?:_for)? either either_[^-]+_or exceeding among é est_pas')}(?={_OPEN})"
    rf"|\A\W*(?:add|subtract|multiply|divide|double|(?:add|subtract|multiply|divid|doubl)ing)\b(?!.*(?:=|{_STATEMENT}))"
    rf"|\\[dt]frac\{{?{_OPEN}|\d-{_OPEN}|[✗✘❌]"
)
"""What others say, what is one of several or on the way, and what is called wrong, in the clause that leads to a mark."""
_CONDITION = re.compile(
    rf"\W*(?:(?:had|ignoring|first\s+attempt|upper\s+bound|lower\s+bound|let(?:'s|\s+us)\s+try)\b|(?:(?:the\s+)?(?:final\s+)?answer\s+is\s+)?at\s+(?:most|least){_OPEN}"
    r"|(?:[^:]*\s)?(?:one\s+of|between)\s+[^a-z]*$"
    r"|(?:[^:]*\s)?(?:wrong|incorrect|false|placeholder|intermediate|previous\w*|initial\w*|format|example)\s*(?:answer|result|value|solution|guess|count)?(?:\s+(?:is|was|would\s+be))?\s*:\s*(?:[a-z]\s*=)?\W*$"
    r"|(?:[^:]*\s)?(?:answer|result|value)(?:\s+is\s+not|\s+isn't|\s+can(?:no|')t\s+be)\s*:\W*$"
    r"|(?:[^:]*\s)?(?:not\s+(?:this|that|it|the\s+answer)|(?:do\s+not|don't|never)\s+(?:answer|write|give|put|say|report))\s*:\W*$"
    r"|(?:mistaken|erroneous|rejected|discarded|obsolete|withdrawn)\s*(?:answer|result|value|solution|candidate)?\s*:\W*$"
    r"|(?:please\s+)?(?:ignore|disregard)\b[^:]*:\W*$)"
)
_MENDED = re.compile(r"\b(?:correct|fix|avoid|remov|repair|after)\w*\b")
_HEDGED = re.compile(
    _any(
        "might may could would says? claims? claimed students first glance without before bound were had thought approximately perhaps maybe like if attempt option draft version while although though"
    )
    + "|'d\\b"
)
"""What lets the text go on to another answer."""

# -- what is said of it at once ---------------------------------------------------------------------------------------

_DOUBTED = re.compile(
    r"[\s$)*\\\]},?:.…→–—|-]*(?:wait\b[\s,.!-]*)?(?:(?:no(?:\s+wait)?|nope|nah|oops|sorry|an?\s+(?:mistake|error|slip|typo))\b\s*(?:[,.!:|]|$)|wait[\s.!…]*$)|"
    + _SHUT
    + r"(?:\?(?!\s*(?:yes|yeah|yep|correct|indeed|right|sure|true|so)\b)|[✗✘❌×]|\(not?\b[^)\d]{0,3}\)|\s*(?:more|less|fewer)\s+than\s+[$\\(]*\d|n(?:e\s+|')\w+\s+pas\b|(?:(?:st|nd|rd|th)\s+(?:root|power)|squared|cubed|factorial|halves|remainder(?=\s+[$\\(]*\d)|or\s+so\s+more|and\s+(?:an?|\w+)\s+(?:hal(?:f|ves)|thirds?|quarters?))\b|[<>≠]\s*[\dA-Za-z]|!\$(?!\$)|\^\s*\{?\d|\\(?:neq?|lt|gt|cdot|times|div|cup|cap)(?![a-z]))"
)
# -- what the text behind it arrives at -------------------------------------------------------------------------------

_OPERATES = re.compile(
    _SHUT
    + r"(?:(?:plus|minus|times(?=\s+(?:the|[$\\(]*\d))|divided\s+by|or(?=\s+[$\\(]*-?\d)|make\s+that)\s|[\s,.…]*(?:or\s+)?(?:is\s+it|more\s+\w+ly|maybe|perhaps|possibly)\s|(?:,\s*[$\\(]*-?[\d.]+[$\\)]*){1,4},?\s+or\s|%\s*of\s|[+*]\s?\d|=(?=\s*-?[\d.,]+[\s$.]*(?:\n|$))|/\s?\d|-\s?\d|\\(?:cdot|times|to|rightarrow)(?![a-z])|[=-]>|[→⇒])"
)
_TURNS = re.compile(
    "(?P<unsays>"
    + _any(
        r"""wait w?h?oops hmm+ hold_on hang_on scratch_that on_(?:second_thoughts?|reflection) correction erratum alas sadly
        unfortunately except_that still_(?:need|have|must)(?:_to)?_(?:divide|multiply|subtract|add|double|halve)
        (?:let_(?:me|us)|let's|(?:need|have)_to|must)_re-?(?:do|try|think|work|count|comput|calculat|consider|examin|evaluat)*
        retract withdraw take_back (?:disregard|ignore|scratch|strike|replace)_(?:this|that|it|the_above|my) start_over my_bad
        please_disregard forget_(?:this|that|it)(?!_[a-z]) not_(?:done|finished)_yet (?:is|are)n't_done to_be_continued
        the_check_fails just_(?:a_)?(?:random_)?guess* take_(?:that|this|it)_back correct_myself never_mind
        but_(?:it_)?(?:isn't|is_not)(?=\s?[.!,;]|$) so_no(?=\s?[.!]|$) chang(?:ed|ing)_my_(?:answer|mind) pas_la_réponse"""
    )
    + r"|ではありません|不是(?!\s?[$\d])|不对|неверно|неправильно|は(?:間違|誤)|아니라|아닙니다)|"
    + _any(
        r"""sorry corrected edit update amendment actually scratch strike nope nah changed revised crossed slip ignore disregard
        (?:revis|chang|correct|updat|amend)*(?:_\w+){1,3}_to(?=[\s$]+-?\d) or_rather make_that(?!\W?$) i_meant i_mean (?:they|it|this|that)_(?:is|are|was|were|do|does|did)(?:n't|_not)(?=\s?[.!,;])
        just_kidding (?:let's|let_me)_fix (?<!common\s)(?<!no\s)mistake (?:no|nein|non|нет)(?=\s?[,.!:]|_wait|\s?$)
        the_(?:right|correct|actual|true)_(?:(?!option|choice)\w+_)?(?:is|(?:should|would)_be)(?!_\(?[a-e]\b)
        erreur perdón pardon espera warte aspetta desculpe en_fait de_hecho in_realtà na_verdade eigentlich
        (?:halt|moment)(?=\s?[,.!])"""
    )
    + r"|等等|等一下|其实|いや|待って|[\d)]\s*(?:≠|\\neq?(?![a-z]))\s*[1-9]"
)
"""A turn; one that unsays leaves no answer, unless the text comes back to it."""
_BUTS = re.compile(
    r"\b(?:but|however|though|although|yet|unless|instead|whereas|except|pero|aber|mais|però|mas|но|хотя|(?:that|it|this)\s+would\s+be|that(?:'s|\s+is|\s+was)\s+the)\b|但|しかし|하지만"
)
_STATES = re.compile(
    r"(?:\b(?:is|are|be|equals?|gives?|giving|get|obtain|find|leaves?|have|has|was|were|read|answer|need|requires?|candidate|hence|says|arrive\s+at|becomes?|leaving|end\s+up\s+with|expected|so|thus|therefore|es|est|ist|sind|sont|son|ergibt|donne|da|resulta|равен|равно|получается)\b|[èé]\s|=|:|'s\b|[是为為は])"
    r"\s*(?:[a-z]+ly|therefore|thus|then|a\s+total\s+of|now|the\s+next\s+candidate,|her|him|them|us|you|me)?[-\s$*\\({\[]*$"
)
"""A number behind this is stated."""
_AN_ASIDE = re.compile(
    r"(?!.*\b(?:answer|final|correct)\b)(?:\s*\(|\W*(?:note|notice|observe|here|check|in\s+fact|also|for\s+(?:example|instance)|alternative|remark|proof|let|suppose|if|with\s+(?:\w+\s+){1,3}(?:work|had)|"
    r"they|these|we\s+(?:can|could|used|also)|there\s+are|to\s+[a-z]+|key|fun|as\s+a|of\s+course|more\s+generally|summary|step|"
    r"common|students|people|pitfall|topic|level|difficulty|source|tags|"
    r"(?:the|an?|each|every)\s+(?!(?:[a-z]+\s+){0,3}(?:answer|fix|correction|value|result|solution|correct|right|true|final|exact|real|required)\b)))"
)
"""A sentence that begins so explains, checks or adds something, and states no other answer."""
_LABEL = re.compile(
    r"[^:]*\b(?:answer|ans|result|total|final|correct\w*|solution|now|better|true|real|proper|actual\w*|updated?|revis\w+|amended|fixed)\b[^:]*:"
)
_ALONE = re.compile(r"[-\s$*\\({\[#]*(?:[a-z]\s*=\s*)?")
_MEANT_OTHERWISE = re.compile(
    r"\b(?:if|would|could|might|had|mistake|wrong|incorrect|many|some|common|not|cannot|rather\s+than|instead\s+of|fails?|rejected?|invalid|"
    r"extraneous|unlike|as\s+opposed|remainder|confidence|seems|looks|appears|possible|impossible)\b|n't\b"
)
_LEAD = re.compile(
    r"\W*(?!(?:if|had|were|when|unless|otherwise|suppose|without|for|with)\b)(?:[^\W\d]+['’\s]+){0,2}[^\W\d]+[,:]\**\s+"
)
_LABELLED = re.compile(r"^\s*[A-Za-z]\s*=")
_ASKS = re.compile(r"answer|\b(?:asked|want(?:s|ed)?|looking\s+for|need(?:s|ed)?)\b")
_CONCLUDES = re.compile(r"\W*(?:so|thus|hence|therefore)\b(?!.*(?:\b(?:if|had|not|cannot)\b|n't))")
_AFFIRMS = re.compile(
    r"^\W*(?:yes|good|great|correct|right)\s*(?:[.!]|,(?!\s+so\b)|$)|(?<![\d$]\s)\b(?:(?:is|'s|looks)\s+(?:indeed\s+)?(?:correct|right)|matches|verifi\w+|(?<=\w\s)verify|confirm\w*|checks?\s+out|makes\s+sense|works|consistent)\b|✓"
)
_NOTHING = re.compile(r"\bno\s+(?:such\s+\w+|solutions?|answer)\b|\bno\s+\w+\s+exists?\b")
_NUMBER = re.compile(
    r"(?<![\w.^_{])(?:\\pm\s*)?-?(?:\\[dt]?frac\s*\{?\d+\}?\s*\{?\d+\}?|\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\w^_]|\.\d)(?:\s*\\?%|\s+percent)?",
    re.ASCII,
)
_OWN = re.compile(rf"\W*(?:(?:so|but|and|yet|thus|hence|therefore|now)\s+)?[$(\\]*({_NUMBER.pattern})")
"""The value of a mark as a subject: `So 12 fails`."""
_WHERE = re.compile(r"\b(?:for|when|if|with|at)\s+[$\\(]*[a-z]\s*=\s*$")
_WHAT_IT_COUNTS = re.compile(r"[\s$*\\)}\].!。！]*(?:[a-z]+[\s.!]*){0,4}")


def is_denied(mark: Mark) -> bool:
    """Whether the words around a mark say that it is not the answer."""
    before = mark.before[-BEFORE_CHARS:]
    sentence = _last_sentence(before).lower()
    is_denied_before = _is_denied_before(sentence)
    if _PART_OF.search(_TAGS.sub(" ", before[-60:])):
        return True
    if not mark.after.strip(" \n\t$.)}\\]*"):
        return is_denied_before
    plain = _MARKUP.sub(" ", mark.after[:AFTER_CHARS].replace(r"\!", ""))
    after = plain.lower()
    is_denied_before = is_denied_before and not _restates(mark.text, plain)
    if is_denied_before or _DOUBTED.match(after) or _is_cut_off_by_another(mark):
        return True
    value = literal(_clean(_LABELLED.sub("", mark.text)))
    sentences = re.split(r"(?<=[.!?;])\s+|\n+|(?<=[。！？；])", after)
    if any(_is_called_wrong(clause, value) for clause in _CLAUSE_BEHIND.split(sentences[0])):
        return True
    hedged = _HEDGED.search(sentence) is not None
    is_wrong = any(_is_called_wrong(part, value) for whole in sentences for part in re.split(r"\b(?=so\b)", whole))
    is_taken_back = is_wrong or _arrives_elsewhere(mark, value, sentences, hedged=hedged)
    return is_taken_back and not _restates(mark.text, mark.after[-AFTER_CHARS:])


def _last_sentence(text: str) -> str:
    """The words behind the last end of a sentence; a colon at the end of a line ends none."""
    return _SENTENCE.split(text.rstrip("\n ") + " " if text.rstrip("\n ").endswith(":") else text)[-1]


def calls_wrong(words: str) -> bool:
    """Whether words say that something is wrong, or not right."""
    judged = _JUDGED.search(words.lower())
    return judged is not None and _is_against(judged)


def _is_against(judged: re.Match[str]) -> bool:
    """Whether a judgement is a word for wrong, or "not" and a word for right."""
    return (judged["no"] is None) == (judged["right"] is None)


def _is_called_wrong(sentence: str, value: Literal | None) -> bool:
    """Whether a sentence about the mark says that it is wrong, or not right."""
    return any(_judges(part, value) for part in {sentence, _LEAD.sub("", sentence, count=1)})


def _judges(sentence: str, value: Literal | None) -> bool:
    if (own := _OWN.match(sentence)) and _is_same(value, own[1]):
        sentence = "it" + sentence[own.end() :]
    about = _ABOUT.match(sentence)
    if about is None:
        return False
    end, judged = _CLAUSE_END.search(sentence, about.end()), _JUDGED.search(sentence, about.end())
    if judged is None or (end and end.start() < judged.start()) or not _is_against(judged):
        return False
    return all(_is_same(value, number[0]) is not False for number in _NUMBER.finditer(sentence, 0, judged.start()))


def _is_cut_off_by_another(mark: Mark) -> bool:
    """Whether a box with another content was begun behind a mark."""
    *between, content = BOX.split(mark.after)
    is_listed = between and re.fullmatch(r"\W*(?:and|or)(?:\s+then)?\W*", between[0])
    return bool(between) and not is_listed and not mark.text.strip().startswith(content.strip("{ \n"))


def _restates(box: str, text: str) -> bool:
    """Whether a text states what a box holds, and no number behind it."""
    stated = rf"(?:=|\b(?:is|are|yields?|gives?|total\s+of))[\s$*(]*{re.escape(box)}(?![\w.]*\d)\D*\Z"
    return re.search(stated, text) is not None


@lru_cache(maxsize=10_000)
def _is_denied_before(sentence: str) -> bool:
    """Whether the sentence that leads to a mark denies it; cached, as leads such as `The answer is` are alike."""
    sentence = _MARKUP.sub(" ", sentence)
    last = re.split(r"[,:]\s", sentence)[-1]
    if _CONDITION.match(sentence) or (_UNSTATED.search(last) and not _MENDED.search(sentence)):
        return True
    return _DENIES.search(_CLAUSE.split(sentence)[-1]) is not None


def _arrives_elsewhere(mark: Mark, value: Literal | None, sentences: list[str], *, hedged: bool) -> bool:
    """Whether the text turns, or concludes, and then states another number than that of the box."""
    turned = 2 if value is not None and _OPERATES.match(mark.after.lower()) else int(hedged)  # 1: but, 2: wait
    unsaid = other = settled = False
    for number, sentence in enumerate(sentences):
        if _AFFIRMS.search(sentence) and not _MEANT_OTHERWISE.search(sentence):
            turned, unsaid = 0, False
            continue
        goes_on = mark.by != "stated" and (number > 0 or _ASKS.search(sentence))
        concludes, stop = goes_on and value is not None and _AN_ASIDE.match(sentence) is None, 0
        for clause in re.split(r"(?<=[,:])(?=\s)|(?=\sand\s)", sentence):
            start, stop = stop, stop + len(clause)
            turns = [*_TURNS.finditer(clause)]
            turn = 2 if turns else int(_BUTS.search(clause) is not None)
            turned = max(turned, turn)
            if turned and _NOTHING.search(clause):
                return True
            unsaid = unsaid or any(turn["unsays"] for turn in turns)
            is_meant = _CONCLUDES.match(sentence) or not _MEANT_OTHERWISE.search(clause)
            numbers = [] if not is_meant else [*_NUMBER.finditer(sentence, start, stop)]
            same = _is_same(value, numbers[-1][0]) if numbers else None
            if same and not turn:
                turned, unsaid, other, settled = 0, False, False, True
            elif same is False and (
                turned == 2
                or ((turned or (concludes and not settled)) and _is_stated(numbers[-1], stop, other_may_be=turned > 0))
            ):
                is_check = sentence[: numbers[-1].start()].rstrip(" $").endswith("=")
                unsaid, other = unsaid or is_check, other or not is_check
    if turned < 2 or value is not None or mark.text.strip() in mark.after:
        return unsaid or other
    is_formula = re.search(r"[\d=^]", mark.text) is not None
    return (
        unsaid
        or other
        or not is_formula
        or re.search(r"[\d=^$]", _TURNS.split(" ".join(sentences), maxsplit=1)[-1]) is not None
    )


def _is_stated(number: re.Match[str], stop: int, *, other_may_be: bool) -> bool:
    """Whether a number, in a clause that ends at `stop`, is stated by its sentence, or is all of it."""
    before, behind = number.string[: number.start()], number.string[stop:]
    if _WHERE.search(before) or not _WHAT_IT_COUNTS.fullmatch(number.string, number.end(), stop):
        return False
    if _ALONE.fullmatch(before.rpartition(", ")[2] if other_may_be else before) and not behind.strip():
        return True
    is_label = before.rstrip().endswith(":") and not other_may_be
    return (_LABEL.match(before) if is_label else _STATES.search(before)) is not None


def _is_same(value: Literal | None, text: str) -> bool | None:
    """Whether a number is that of the box, also rounded or as a percentage; None for one of another kind."""
    number = literal(_clean(text))
    if number is None or value is None:
        return None if number is None and "\\pm" not in text else False
    if number.value.denominator == value.value.denominator == 1 and number.percent == value.percent:
        return number.value == value.value
    if any(abs(number.value * scale - value.value) * 100 <= abs(value.value) for scale in (Fraction(1, 100), 1, 100)):
        return True
    return None if number.percent > value.percent else False


def _clean(text: str) -> str:
    """`clean`, which takes its time, where there is anything to clean."""
    return text if text.isascii() and text.isdigit() else clean(text)


def with_tail(content: str, after: str) -> str:
    """What a box holds, with what follows it at once and makes it another number."""
    if (tail := _TAIL.match(after)) and literal(clean(content)) is not None and not content.endswith("%"):
        content += tail[0].strip("$ ")
    return content
