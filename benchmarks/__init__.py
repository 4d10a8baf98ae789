"""Measures: each module prints a table and writes JSON. Run from the repository: `python -m benchmarks.NAME`."""
