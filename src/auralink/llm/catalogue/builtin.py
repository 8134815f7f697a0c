"""The models that are part of this service. They cost nothing and need no key."""

from decimal import Decimal

from auralink.llm.catalogue.models import Capability, Model, Prices

PROVIDER = "auralink"
TITLE = "AuraLink (built in)"
_FREE = Prices(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
_ABLE: frozenset[Capability] = frozenset({"chat", "tools", "json_schema", "streaming"})

OFFLINE = Model(
    "auralink/offline", PROVIDER, "offline", "Offline (no language model)", "fast", _ABLE, context_window=1_000_000, prices=_FREE
)
"""What answers where no real model is configured."""
SCRIPTED = Model(
    "auralink/scripted", PROVIDER, "scripted", "Scripted (tests)", "fast", _ABLE, context_window=1_000_000, prices=_FREE
)
"""What answers from a script; there only where `AURALINK_SCRIPTED_MODEL` is set."""
