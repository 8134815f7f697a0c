"""The official MCP conformance suite against a server of the SDK, directly and through the gateway (`make conformance`)."""
