"""Built-in MCP server `toolbox`: web_search, fetch_page, calculator, code_analyzer.

This file imports nothing: the bounded child processes start as `python -m auralink.servers.toolbox.<name>` and pay for every
import made here. The server itself is `auralink.servers.toolbox.server.build_server`.
"""
