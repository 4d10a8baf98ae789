"""Says how completions are sampled."""

from typing import Annotated

from annotated_types import Ge, Gt, Le

from stream.config.table import NonNegative, Positive, Table


class SamplingTable(Table):
    """How completions are sampled."""

    temperature: Annotated[float, Ge(0)] = 1.0
    """0 is greedy (of no use for training)."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Anything but 1 makes behavior logprobs those of the truncated distribution."""
    top_k: NonNegative = 0
    """0 keeps the whole vocabulary."""
    max_tokens: Positive = 512
    """Most tokens of a completion."""
