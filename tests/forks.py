"""The one server that tests fork processes from: a Python process has only one, whichever test asks first."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "allocator.role",
        "allocator_victim",
        "learner.role",
        "stream.kafka",
        "transformers.models.llama.modeling_llama",
        "pytest",
    ]
)
"""What is imported once: a child that had to import torch by itself would take 5 s instead of .05."""
