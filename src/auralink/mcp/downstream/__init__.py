"""The `/mcp` endpoint: where any MCP client, of either era, finds a user's servers as one server."""
