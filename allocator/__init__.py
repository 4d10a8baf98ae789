"""Decides how many rollouts each prompt gets. `allocate` does it for counts in numpy arrays, without a run."""

from allocator.modes import Allocation, allocate

__all__ = ["Allocation", "allocate"]
