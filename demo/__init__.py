"""Holds the demo's base model and the script that makes it."""
