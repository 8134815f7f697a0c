"""Teams: members with roles who work on one task together, in a mode of an engine. Each execution is a run, and a conversation."""
