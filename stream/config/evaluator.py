"""Says which sets of prompts are evaluated, how and how often."""

from typing import Annotated

from annotated_types import Ge
from pydantic import model_validator

from stream.config.table import NonNegative, Positive, PositiveFloat, RunName, Table


class EvaluatorTable(Table):
    """Accuracy on sets of prompts, sampled by the producers and graded by the verifiers as training is."""

    enabled: bool = True
    """Whether `rucksack up` starts it."""
    every: Positive = 20
    """Updates between evaluations of the held-out set (the base and the final policy are always evaluated)."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 is greedy."""
    samples: Positive = 1
    """Rollouts k of a prompt, for pass@k, avg@k and maj@k; more than 1 wants a temperature above 0."""
    sets: dict[RunName, str] = {}
    """More sets to evaluate with the held-out one: name = source, as in prompts.heldout_source."""
    pool: bool = True
    """Evaluate the pool as well, before and after."""
    base_samples: NonNegative = 8
    """Rollouts of a held-out prompt at temperature 1 from the base policy, for its success rate; 0 leaves it out."""
    await_base: bool = True
    """Withhold newer weights from the producers until the base policy has been evaluated on all its sets."""
    timeout_s: PositiveFloat = 300.0
    """An evaluation for which nothing has come for so long is published with what there is."""

    @model_validator(mode="after")
    def _samples_differ(self) -> "EvaluatorTable":
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples is {self.samples} with temperature 0, where all samples are alike; want a temperature above 0, or 1 sample"
            )
        return self

    @property
    def base_sets(self) -> tuple[str, ...]:
        """Names of the evaluations of the base policy."""
        return ("heldout", *self.sets, *(["pool"] if self.pool else []), *(["base"] if self.base_samples else []))

    @property
    def awaited(self) -> frozenset[str]:
        """Names of the evaluations that must be published before weights newer than the base's are sampled from."""
        return frozenset(self.base_sets if self.enabled and self.await_base else ())
