"""Runs a real Apache Kafka on this machine, from Python packages and locked jars alone."""
