"""Measures accuracy on sets of prompts, through the same producers and verifiers as training."""
