"""Grades answers, each in a process that can be killed."""
