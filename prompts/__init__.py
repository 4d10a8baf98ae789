"""Where problems come from; shared by the allocator and the evaluator."""
