"""Agents: a model with instructions, tools and a memory, to talk to in threads. Each answer is a run of a small workflow."""
