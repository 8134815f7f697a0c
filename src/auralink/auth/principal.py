"""Who acts: the principal that stands first in every signature.

A principal is made from a verified token and never changes. It carries no credential. What it may do is decided in
`auth/policy.py`; which rows it sees is decided by Postgres from `user_id`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid5

Role = Literal["user", "admin"]

USER_NAMESPACE = UUID("6f1b8f0a-5d0c-5c0e-9b7e-a7c1d9a1c0de")
"""Namespace of the UUIDv5 that stands for a subject that is not a UUID. Changing it would orphan such a user's rows."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, or a run that acts for a user (`run` and `attempt` are then set)."""

    user_id: UUID
    subject: str
    issuer: str
    email: str | None
    role: Role
    scopes: frozenset[str]
    run: UUID | None = None
    attempt: int | None = None


acting_principal: ContextVar[Principal] = ContextVar("acting_principal")
"""For whom the current task acts; an in-process server, which sees no HTTP request, reads it. Unset outside a call."""


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Makes `principal` the one that `current_principal()` returns within the block."""
    token = acting_principal.set(principal)
    try:
        yield principal
    finally:
        acting_principal.reset(token)


def current_principal() -> Principal:
    """The principal for whom the current task acts.

    Raises:
        LookupError: the code runs outside `acting_as`, which is a mistake of the program and not of a user.
    """
    return acting_principal.get()


def user_id_of(issuer: str, subject: str) -> UUID:
    """The stable id of a token's subject: `subject` itself if it is a UUID, else the UUIDv5 of issuer and subject.

    Only the hyphenated form (RFC 9562 §4, either case) counts as a UUID, not the braces and `urn:uuid:` that `UUID()`
    also takes. Issuer and subject are joined behind the issuer's length, so that no two pairs share a name.
    """
    if _UUID.fullmatch(subject):
        return UUID(subject)
    return uuid5(USER_NAMESPACE, f"{len(issuer)}:{issuer}{subject}")
