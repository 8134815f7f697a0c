"""The engine `agent_framework`: runs teams with Microsoft's Agent Framework, the successor of AutoGen.

Models are asked with its stock client for chat completions at the run's `/v1`, tools are called over one session of the MCP SDK at
its `/mcp`, both with the run's token. It knows nothing else of the service, and nothing of the other engines.
"""

from auralink_agent_framework.program import run, warm

__all__ = ["run", "warm"]
