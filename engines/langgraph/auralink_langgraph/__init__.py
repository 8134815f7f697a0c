"""The engine `langgraph`: runs workflow definitions (data, checked by the service) as LangGraph graphs.

Models are asked with the stock `langchain-openai` client at the run's `/v1`, tools are called with the stock
`langchain-mcp-adapters` at its `/mcp`, both with the run's token. It knows nothing else of the service.
"""

from auralink_langgraph.program import run, warm

__all__ = ["run", "warm"]
