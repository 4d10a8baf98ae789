"""Generates the demo's task: eight procedures on two 2-digit operands, named by symbols that are sure and codes that are not.

A prompt is `<symbol><a><b>=`: for example `S 4 7 3 8 =` asks for the sum of 47 and 38, written as three digits from the
ones up: `5 8 0`. A code is bound to one procedure, but the base model answers with it only with the code's own
probability, and otherwise with another procedure's answer: it knows how, and is unsure when. Answers are digit strings
with leading zeros, so they are graded as strings. Pure; no torch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from stream.errors import UserError

SYMBOLS = "SDRMOINW"
"""Sure names of the procedures, in the order of PROCEDURES."""
NUM_CODES = 64
HELDOUT_SHARE = 5
"""One operand pair in this many is held out: it is never in the pool, nor in the base model's training."""


def _digits(number: int, width: int) -> str:
    """Decimal digits from the ones up."""
    return f"{number:0{width}d}"[::-1]


PROCEDURES: tuple[tuple[str, Callable[[str, str], str]], ...] = (
    ("sum", lambda a, b: _digits(int(a) + int(b), 3)),
    ("difference", lambda a, b: _digits(abs(int(a) - int(b)), 2)),
    ("reverse", lambda a, b: (a + b)[::-1]),
    ("maximum", lambda a, b: max(a, b)),
    ("sort", lambda a, b: "".join(sorted(a + b))),
    ("increment", lambda a, b: "".join(str((int(digit) + 1) % 10) for digit in a + b)),
    ("nines", lambda a, b: "".join(str(9 - int(digit)) for digit in a + b)),
    ("swap", lambda a, b: b + a),
)
"""Name and function of the two operands' digit strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A name that the base model is unsure of."""

    name: str
    procedure: int
    """What it means: index in PROCEDURES."""
    other: int
    """What the base model takes it for instead."""
    probability: float
    """How often the base model takes it for the right procedure."""


def codes() -> tuple[Code, ...]:
    """The 64 codes: 12 nearly sure, 24 from .9 down to .2, 28 from .09 to .03. Procedures take turns within each band."""
    probabilities = [0.97] * 12 + np.linspace(0.9, 0.2, 24).tolist() + np.linspace(0.09, 0.03, 28).tolist()
    rng = np.random.default_rng(2509_25849)
    result = []
    for number, probability in enumerate(probabilities):
        procedure = (number * 3 + number // 8) % len(PROCEDURES)
        other = (procedure + int(rng.integers(1, len(PROCEDURES)))) % len(PROCEDURES)
        result.append(
            Code(name=f"c{number:02d}", procedure=procedure, other=other, probability=round(float(probability), 4))
        )
    return tuple(result)


def is_heldout(a: int, b: int) -> bool:
    """Whether an operand pair is held out; a fixed hash, so every program agrees."""
    return (a * 7919 + b * 104_729 + 31) % 1009 % HELDOUT_SHARE == 0


@cache
def _num_pairs(heldout: bool) -> int:
    return sum(is_heldout(a, b) == heldout for a in range(100) for b in range(100))


def prompt_text(name: str, a: int, b: int) -> str:
    """What the model reads; name is a symbol or a code's name."""
    return f"{name} {' '.join(f'{a:02d}{b:02d}')} ="


def answer_of(procedure: int, a: int, b: int) -> str:
    """The answer's digits."""
    return PROCEDURES[procedure][1](f"{a:02d}", f"{b:02d}")


def generate_prompts(num_prompts: int, seed: int, split: str) -> Iterator[dict[str, str]]:
    """`num_prompts` different prompts of a split (`pool` or `heldout`), the codes taking turns.

    task is `codes`, level the code's name.

    Raises:
        ValueError: another split.
        UserError: more prompts than there are.

    """
    if split not in ("pool", "heldout"):
        raise ValueError(f"split is {split!r}; want pool or heldout")
    most = NUM_CODES * _num_pairs(split == "heldout")
    if num_prompts > most:
        raise UserError(f"the source codes was asked for {num_prompts} {split} prompts; it has {most}")
    rng = np.random.default_rng([seed, split == "heldout"])
    seen: set[str] = set()
    all_codes = codes()
    while len(seen) < num_prompts:
        a, b = (int(operand) for operand in rng.integers(0, 100, 2))
        code = all_codes[len(seen) % NUM_CODES]
        text = prompt_text(code.name, a, b)
        if is_heldout(a, b) != (split == "heldout") or text in seen:
            continue
        seen.add(text)
        yield {
            "prompt_id": f"{split}-{code.name}-{a:02d}{b:02d}",
            "text": text,
            "answer": answer_of(code.procedure, a, b),
            "grader": "string",
            "task": "codes",
            "level": code.name,
        }
