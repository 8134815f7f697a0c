"""Flows: pipelines of tools, models, agents, teams and workflows as data: checked, drawn, and started; the engine `prefect` runs them."""
