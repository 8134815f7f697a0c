"""The engine `prefect`: runs flow definitions (data, checked by the service) as Prefect flows, each step a Prefect task.

Models are asked with the stock `openai` client at the run's `/v1`, tools are called with the stock `mcp` client at its `/mcp`, both
with the run's token. It knows nothing else of the service.
"""

from auralink_prefect.program import run, warm

__all__ = ["run", "warm"]
