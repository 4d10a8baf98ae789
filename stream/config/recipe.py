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

GROUP_MODES = ("uniform", "paper", "bayes", "p_nonzero", "variance", "sequential")
"""Modes that budget groups."""
GROUP_KEYS = {"prompts_per_update", "rollouts_per_prompt", "min_rollouts", "pacing"}
"""Keys that are about groups: a recipe that has one, and leaves the objective out, means one that needs groups."""
POOL_MODES = ("learnability", "uniform")
"""Modes that budget single rollouts; with `uniform` prompts come in turns."""


class Config(Table):
    """A recipe. Validated, it names its objective and its mode, also where they were left out."""

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

    @property
    def by_groups(self) -> bool:
        """Whether updates are of whole groups, which a reward is measured against; else they are of single rollouts."""
        return not self.learner.measures_by_belief

    @property
    def counts_rollouts(self) -> bool:
        """Whether an update is of so many rollouts, as groups have any number; else it is of so many groups."""
        return not self.by_groups or self.mode == "sequential"

    @property
    def mode(self) -> str:
        """How many rollouts each prompt gets."""
        assert self.allocator.mode is not None  # by _choose_what_is_left_out
        return self.allocator.mode

    @property
    def least_prompts(self) -> tuple[str, int]:
        """Prompts that one update is of at least: which keys say so, and how many."""
        if self.mode == "sequential":  # groups may be of two
            return "run.prompts_per_update x run.rollouts_per_prompt / 2", -(-self.run.budget // 2)
        if self.by_groups:
            return "run.prompts_per_update", self.run.prompts_per_update
        return "run.rollouts_per_update / allocator.max_rollouts", -(-self.run.budget // self.allocator.max_rollouts)

    @model_validator(mode="after")
    def _choose_what_is_left_out(self) -> "Config":
        """Put in the objective and the mode, of which each follows from the other."""
        learner, allocator = self.learner, self.allocator
        if learner.objective is None:
            of_groups = GROUP_KEYS & ({*self.run.model_fields_set} | {*allocator.model_fields_set})
            needs_groups = of_groups or allocator.mode in GROUP_MODES or learner.advantage not in (None, "belief")
            by_beliefs = allocator.mode == "learnability" or not needs_groups
            learner = learner.model_copy(update={"objective": "belief" if by_beliefs else "tis"})
        if allocator.mode is None:
            mode = "learnability" if learner.measures_by_belief else "bayes"
            allocator = allocator.model_copy(update={"mode": mode})
        self.__dict__.update(learner=learner, allocator=allocator)  # the model is frozen for everyone else
        return self

    @model_validator(mode="after")
    def _baseline_goes_with_the_budget(self) -> "Config":
        mode, low, per_update = self.allocator.mode, self.allocator.min_rollouts, self.run.rollouts_per_update
        if self.by_groups and low < 2:
            raise ValueError(
                f"allocator.min_rollouts is {low}; want at least 2, as a group of one does not differ from its own mean and "
                "has no advantage, or learner.advantage belief, which needs no group"
            )
        product = round(self.run.prompts_per_update * self.run.rollouts_per_prompt)
        shape_given = {"prompts_per_update", "rollouts_per_prompt"} & self.run.model_fields_set
        if per_update and not self.by_groups and shape_given and per_update != product:
            raise ValueError(
                f"run.rollouts_per_update is {per_update}, and run.prompts_per_update x run.rollouts_per_prompt is {product}; "
                "want one of the two, or the same number"
            )
        if mode == "sequential" and (self.allocator.budget_tokens or low != 2):
            raise ValueError(
                f"allocator.budget_tokens is {self.allocator.budget_tokens} and allocator.min_rollouts {low}; want 0 and 2 with "
                "allocator.mode sequential, whose groups begin with two rollouts and go on by their verdicts"
            )
        if per_update and self.by_groups and per_update != product:
            raise ValueError(
                f"run.rollouts_per_update is {per_update}, with an advantage that needs groups; want {product} = "
                "run.prompts_per_update x run.rollouts_per_prompt, or learner.objective belief"
            )
        fitting = GROUP_MODES if self.by_groups else POOL_MODES
        if mode not in fitting:
            baseline, other = ("groups' means", "belief") if self.by_groups else ("beliefs", "tis")
            raise ValueError(
                f"allocator.mode is {mode}, and the objective measures rewards against {baseline}; want one of "
                f"{', '.join(fitting)}, or another objective: learner.objective {other}"
            )
        if not self.by_groups and self.allocator.pacing == "stream":
            raise ValueError(
                "allocator.pacing is stream; want round with learner.advantage belief, with which rollouts are admitted as they "
                "come in any case"
            )
        if not self.by_groups and mode == "uniform" and self.allocator.budget_tokens:
            raise ValueError(
                f"allocator.budget_tokens is {self.allocator.budget_tokens}, with allocator.mode uniform; want 0, or mode "
                "learnability: turns are alike for all prompts, whatever they cost"
            )
        return self

    @model_validator(mode="after")
    def _there_is_an_adapter_to_publish(self) -> "Config":
        learner = self.learner
        if learner.lora_publish == "adapter" and not (learner.lora_rank and learner.weights == "log"):
            raise ValueError(
                f"learner.lora_publish is adapter, with learner.lora_rank {learner.lora_rank} and learner.weights "
                f"{learner.weights}; want a rank above 0 and weights log, or lora_publish merged"
            )
        return self

    @model_validator(mode="after")
    def _bounds_meet_the_budget(self) -> "Config":
        if not self.by_groups:
            return self
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
        if self.allocator.pacing == "stream" and (tokens or self.allocator.mode in ("uniform", "paper", "sequential")):
            raise ValueError(
                f"allocator.pacing is stream, with allocator.mode {self.allocator.mode} and budget_tokens {tokens}; want "
                "a mode that has a price (bayes, p_nonzero, variance) and no budget_tokens, or pacing round"
            )
        return self
