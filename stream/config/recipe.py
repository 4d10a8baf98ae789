"""Puts the tables of a recipe together, and refuses those that contradict one another."""

from pydantic import model_validator

from stream.config.allocator import AllocatorTable
from stream.config.broker import BrokerTable
from stream.config.evaluator import EvaluatorTable
from stream.config.learner import LearnerTable
from stream.config.producer import ProducerTable
from stream.config.prompts import PromptsTable
from stream.config.run import RunTable
from stream.config.sampling import SamplingTable
from stream.config.table import Table
from stream.config.tracking import TrackingTable
from stream.config.up import UpTable
from stream.config.verifier import VerifierTable


class Config(Table):
    """A recipe."""

    run: RunTable = RunTable()
    broker: BrokerTable = BrokerTable()
    prompts: PromptsTable = PromptsTable()
    sampling: SamplingTable = SamplingTable()
    allocator: AllocatorTable = AllocatorTable()
    producer: ProducerTable = ProducerTable()
    verifier: VerifierTable = VerifierTable()
    learner: LearnerTable = LearnerTable()
    evaluator: EvaluatorTable = EvaluatorTable()
    tracking: TrackingTable = TrackingTable()
    up: UpTable = UpTable()

    @model_validator(mode="after")
    def _bounds_meet_the_budget(self) -> "Config":
        low, high = self.allocator.min_rollouts, self.allocator.max_rollouts
        if not low <= self.run.rollouts_per_prompt <= high:
            raise ValueError(
                f"run.rollouts_per_prompt is {self.run.rollouts_per_prompt}; want between allocator.min_rollouts "
                f"({low}) and allocator.max_rollouts ({high}), or no budget can meet the bounds"
            )
        tokens, needed = self.allocator.budget_tokens, low * self.run.prompts_per_update * self.sampling.max_tokens
        if 0 < tokens < needed:
            raise ValueError(
                f"allocator.budget_tokens is {tokens}; want 0, or at least {needed} = allocator.min_rollouts x "
                "run.prompts_per_update x sampling.max_tokens, which the lower bound may take"
            )
        if self.allocator.pacing == "stream" and (tokens or self.allocator.mode in ("uniform", "paper")):
            raise ValueError(
                f"allocator.pacing is stream, with allocator.mode {self.allocator.mode} and budget_tokens {tokens}; want "
                "a mode that has a price (bayes, p_nonzero, variance) and no budget_tokens, or pacing round"
            )
        return self
