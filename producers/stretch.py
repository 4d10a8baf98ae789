"""Joins what vLLM's engine says of one sequence, step by step. Runs in the engine's process alone.

Enters: the outputs of single steps, each token with the log-probability of itself alone. Leaves: one output with all of them.
"""

import numpy as np
from vllm.v1.engine import EngineCoreOutput
from vllm.v1.metrics.stats import PrefillStats
from vllm.v1.outputs import LogprobsLists


class Stretch:
    """Tokens of one sequence that one version of the weights has sampled."""

    def __init__(self) -> None:
        # As numbers: an array for each token would take ten times the memory.
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._ranks: list[int] = []
        self._prefill_stats: PrefillStats | None = None
        self._last: EngineCoreOutput | None = None

    def add(self, output: EngineCoreOutput) -> None:
        """Take what a step says."""
        self._token_ids += output.new_token_ids
        if (logprobs := output.new_logprobs) is not None:
            self._logprobs += logprobs.logprobs[:, 0].tolist()
            self._ranks += logprobs.sampled_token_ranks.tolist()
        self._prefill_stats = self._prefill_stats or output.prefill_stats
        self._last = output

    def joined(self) -> EngineCoreOutput:
        """The last step's output, with the tokens of all steps."""
        output = self._last
        assert output is not None
        output.new_token_ids, output.prefill_stats = self._token_ids, self._prefill_stats
        if self._token_ids:
            output.new_logprobs = LogprobsLists(
                np.array(self._token_ids, np.int32)[:, None],
                np.array(self._logprobs, np.float32)[:, None],
                np.array(self._ranks, np.int32),
            )
        return output
