"""The contract between roles: messages, topics, codec, broker, worker loop, config, errors. Never imports torch."""
