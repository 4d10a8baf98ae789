"""Reads and makes prompts; shared by the allocator and the evaluator."""
