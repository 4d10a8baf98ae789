"""Says where figures go besides the log."""

from typing import Literal

from stream.config.table import Table


class TrackingTable(Table):
    """Where the figures of updates and evaluations go besides the log."""

    to: tuple[Literal["jsonl", "tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers; with any, `rucksack up` starts one more worker that feeds them."""
    project: str = "rucksack"
    """Project of W&B and trackio; the run's name is run.name."""
