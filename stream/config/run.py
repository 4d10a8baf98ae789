"""Names the run, its model and its size: what all roles must agree on."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from stream.config.table import NonNegative, Positive, RunName, Table


class RunTable(Table):
    """What all roles must agree on."""

    name: RunName = "demo"
    """Names the run: its folder and the prefix of its topics."""
    dir: Path = Path("runs")
    """Folder that holds the runs' folders."""
    model: str = "demo/base"
    """Model to train: a folder in transformers' format (config.json, safetensors, tokenizer), as `hf download` makes it."""
    seed: NonNegative = 0
    """Seed of everything that draws at random, except the sampling of tokens."""
    num_updates: Positive = 100
    """Updates after which the run ends."""
    prompts_per_update: Positive = 60
    """Groups (one per prompt) that end in one update; also the prompts of one round of the allocator."""
    rollouts_per_prompt: Annotated[float, Ge(1)] = 8.0
    """Mean number of rollouts of a prompt: a round's budget is this times prompts_per_update."""
    rollouts_per_update: NonNegative = 0
    """Rollouts of an update; 0 is prompts_per_update x rollouts_per_prompt. With learner.objective `belief`, which needs no
    groups, they are those that come first, whatever their prompts, as far as max_staleness lets them."""
    max_staleness: NonNegative = 2
    """Versions that the oldest token of what is trained may be behind the weights; 0 is synchronous, exactly on-policy. Half of
    them, rounded up, are rounds under way beyond the one being trained; by the others a long rollout may be overtaken, and
    then the learner waits for it. Higher where the longest answers take many updates' time."""

    @property
    def path(self) -> Path:
        """Folder of this run."""
        return self.dir / self.name

    @property
    def rounds_ahead(self) -> int:
        """Rounds that may be under way beyond the one being trained."""
        return -(-self.max_staleness // 2)

    @property
    def budget(self) -> int:
        """Rollouts of one round, which one update takes."""
        return self.rollouts_per_update or round(self.prompts_per_update * self.rollouts_per_prompt)
