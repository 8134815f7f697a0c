"""AuraLink AI Core: agents that act, through two gateways and a journal."""

__version__ = "0.1.0"
