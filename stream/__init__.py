"""Holds the contract between roles: messages, topics, codec, broker, loop, config, errors. Never imports torch."""
