"""Producers: jobs and policies in, trajectories out. vLLM samples; weights are swapped in flight."""
