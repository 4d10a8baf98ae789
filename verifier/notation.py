"""Tells apart formulas whose difference the parser would lose: primes, partial derivatives, transposes and the like.

The LaTeX parser drops a prime, reads f^{-1}(t) as 1/f(t), A^T as A, and "or" as "and". Two answers that differ in such a
mark are different answers, whatever the parser makes of them.
"""

import re
from collections import Counter

_MARKS = {
    "primes": re.compile(r"[A-Za-z]\s*(?:\^\s*\{?\s*)?(?:'+|(?:\\prime\s*)+|″|′+)"),
    "derivative order": re.compile(r"[A-Za-z]\s*\^\s*\{\s*\(\s*\w+\s*\)\s*\}"),
    "inverse": re.compile(r"(?<![A-Za-z\\])[fghFGH]\s*\^\s*\{\s*-\s*1\s*\}\s*(?:\\left\s*)?\("),
    "partial": re.compile(r"\\partial\s*\{?\s*\\?[A-Za-z]+"),
    "logic": re.compile(r"\\(?:lor|land|vee|wedge|lnot|neg|oplus)(?![A-Za-z])|[∨∧¬⊕]"),
    "transpose": re.compile(
        r"(?:[A-Z]|\\(?:mathbf|vec|mathrm|bm|boldsymbol)\s*\{[^{}]*\})\s*\^\s*\{?\s*(?:T|\\top|\\intercal|\\mathsf\s*\{?T\}?)(?![a-z])"
    ),
    "nabla": re.compile(r"\\nabla\s*(?:\\cdot|\\times|\^)?"),
}
_SAME = {"lor": "vee", "∨": "vee", "land": "wedge", "∧": "wedge", "lnot": "neg", "¬": "neg", "⊕": "oplus"}


def marks_of(text: str) -> Counter[str]:
    """Every mark of a formula that the parser would lose, with what it is on, and how often it occurs."""
    found: Counter[str] = Counter()
    for kind, pattern in _MARKS.items():
        for match in pattern.findall(text):
            mark = re.sub(r"[\s{}\\^]", "", match.replace(r"\prime", "'").replace("″", "''").replace("′", "'"))
            found[f"{kind} {_SAME.get(mark, mark)}"] += 1
    return found


_NAME = re.compile(
    r"\s*[A-Za-z]\s*(?:'+|\^\s*\{[^{}=]{1,20}\}|\^\s*\w)?\s*(?:\(\s*[A-Za-z]\s*\))?\s*=(?!.*=)", re.DOTALL
)
"""`f'(x) =` before a value names it."""


def differ_in_marks(gold: str, answer: str) -> bool:
    """Whether one of two formulas has a mark, or has it on something, that the other has not.

    A name before the value, as in `f'(x) = 2x`, counts only where both have one.
    """
    if ("=" in gold) != ("=" in answer):
        gold, answer = _NAME.sub("", gold), _NAME.sub("", answer)
    return marks_of(gold) != marks_of(answer)
