"""Plots of what the learner measures."""

from types import SimpleNamespace

import numpy as np

from replay.optimisation import mismatch


def test_a_gap_that_only_some_updates_can_measure_is_seen():
    gap = np.array([np.nan, 1e-7, np.nan, 0.0, 2e-7])
    metrics = {"learner/logprob_gap/mean": gap, "learner/logprob_gap/max": 10 * gap}
    updates = SimpleNamespace(step=np.arange(1.0, 6.0), metrics=metrics)
    view = SimpleNamespace(name="r", colour="#000", updates=updates)
    mean, most = mismatch([view]).data  # type: ignore[list-item]
    assert (mean["x"], mean["y"], mean["mode"]) == ([2.0, 5.0], [1e-7, 2e-7], "lines+markers")
    assert most["y"] == [1e-6, 2e-6]
