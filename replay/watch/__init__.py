"""Shows a run as a web page while it goes on: an index filled from the topics, and a small server that reads it."""
