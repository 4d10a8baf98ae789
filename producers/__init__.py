"""Samples trajectories of jobs with vLLM; weights are swapped in flight."""
