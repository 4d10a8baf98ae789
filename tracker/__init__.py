"""Sends the figures of updates and evaluations to W&B, TensorBoard, trackio or a JSONL file."""
