"""Reads a run back from its topics: report, tables, key figures, another grading."""
