"""The engine `crewai`: runs team definitions as CrewAI crews, a crew built fresh for each run.

Models are asked with CrewAI's own client at the run's `/v1`, tools are called over one MCP session at its `/mcp`, both with the run's
token. CrewAI's memory, knowledge, planning, tracing, telemetry and events are off. It knows nothing else of the service.
"""

from auralink_crewai.home import borrowed_home

with borrowed_home():
    from auralink_crewai.program import run, warm

__all__ = ["run", "warm"]
