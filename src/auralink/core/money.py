"""Money on the wire: a decimal string in USD, without an exponent and without the zeros that a database column adds."""

from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer


def usd_text(amount: Decimal) -> str:
    """An amount as it is shown: `0.0012`, `3`, `0`."""
    return f"{amount.normalize():f}"


Usd = Annotated[Decimal, PlainSerializer(usd_text, return_type=str)]
"""An amount of USD in a body."""
