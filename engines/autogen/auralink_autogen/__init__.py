"""The engine `autogen`: runs team definitions (data, checked by the service) as AutoGen agents and group chats.

Models are asked with the stock `OpenAIChatCompletionClient` at the run's `/v1`, tools are called over one MCP session at its `/mcp`,
both with the run's token. It knows nothing else of the service.
"""

from auralink_autogen.program import run, warm

__all__ = ["run", "warm"]
