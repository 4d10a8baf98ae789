"""Runs `rucksack up` as `benchmarks.chaos` needs it: other producers, and a clock for each worker that can be set.

What enters is a recipe with its overrides, and two variables of the environment; what leaves is the exit code. The rest is
the product's own.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from infra.placement import Placement, WorkerSpec
from infra.up import up
from stream.command import exit_code_of
from stream.console import make_console

TOKENS_VARIABLE = "CHAOS_TOKENS_PER_S"
"""Tokens a second of the stand-in for vLLM (benchmarks/stand_in.py); without it producers have vLLM."""
LIBRARY_VARIABLE = "CHAOS_CLOCK_LIBRARY"
"""The compiled benchmarks/clock.c; without it clocks stay as they are."""
CLOCKS_FOLDER = "clocks"
"""In the run's folder: by worker, a file with the seconds that its clock is off (`chaos_machine.set_clock`)."""


class Placed(Placement):
    """How workers are started here."""

    def spec(self, role: str, index: int) -> WorkerSpec:
        """One worker."""
        spec = super().spec(role, index)
        rate, library = os.environ.get(TOKENS_VARIABLE), os.environ.get(LIBRARY_VARIABLE)
        if rate and role == "producer":
            python, _, _, *arguments = spec.command
            spec = replace(spec, command=(python, "-m", "benchmarks.stand_in", f"--tokens-per-s={rate}", *arguments))
        if library:
            clock = self._config.run.path / CLOCKS_FOLDER / spec.name
            spec = replace(spec, environment=spec.environment | {"LD_PRELOAD": library, "CHAOS_CLOCK": str(clock)})
        return spec


if __name__ == "__main__":
    sys.exit(exit_code_of("up", lambda: up(Path(sys.argv[1]), sys.argv[2:], make_console(), placement=Placed)))
