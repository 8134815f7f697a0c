"""Cursors of lists: an opaque token for the place (time, id) after which the next page begins."""

import base64
import binascii
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query

from auralink.core.errors import InvalidRequest

Limit = Annotated[int, Query(ge=1, le=200)]
Position = tuple[datetime, UUID]


def encode_cursor(position: Position) -> str:
    """The cursor after `position`."""
    at, row_id = position
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Position | None:
    """The position in a cursor.

    Raises:
        InvalidRequest: it is not one that we gave.
    """
    if cursor is None:
        return None
    try:
        at, _, row_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        return datetime.fromisoformat(at), UUID(row_id)
    except (ValueError, binascii.Error):
        raise InvalidRequest("the cursor is not one that this list gave; begin again without it") from None
