"""Trains the policy: groups of verdicts in, weights out."""
