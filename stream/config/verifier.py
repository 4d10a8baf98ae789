"""Sets up grading."""

from typing import Literal

from stream.config.table import Fraction, NonNegative, Positive, Table


class VerifierTable(Table):
    """Grading."""

    replicas: NonNegative = 1
    """Verifiers that `rucksack up` starts."""
    threads: Positive = 1
    """CPU threads of one verifier."""
    workers: Positive = 1
    """Worker processes of one verifier, each killable."""
    timeout_s: Positive = 2
    """Whole seconds one answer may take; the worker is killed one second later."""
    alarm_share: Fraction = 0.05
    """Warn when timeout, error or unparsable exceed this share of a task's verdicts."""
    echo: Literal["refuse", "evaluate"] = "refuse"
    """What an expression is where the gold answer is a number, `6 + 10` for 16 or `5!` for 120: `refuse` counts it as
    wrong, as a policy that may repeat the question learns to; `evaluate` counts its value."""
    max_timeout_share: Fraction = 1.0
    """While more of a task's newest answers than this share time out, a timeout counts as wrong; 1 lets all of them void
    their samples."""
