"""Launches the roles of a run, supervises and scales them, and holds the `rucksack` command."""
