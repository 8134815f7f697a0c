"""What can go wrong between a user and their database. No message contains a DSN."""

from typing import ClassVar

from auralink.core.errors import AuralinkError, Forbidden, InvalidRequest


class NoDatabase(InvalidRequest):
    """The connection has no address of a database."""

    code: ClassVar[str] = "no_database"
    title: ClassVar[str] = "No database"


class StatementRefused(InvalidRequest):
    """The SQL is not sent, because of what it is or what it names."""

    code: ClassVar[str] = "statement_refused"
    title: ClassVar[str] = "Statement refused"


class ReadOnly(Forbidden):
    """The connection may only read."""

    code: ClassVar[str] = "read_only_connection"
    title: ClassVar[str] = "Read-only connection"


class StatementFailed(InvalidRequest):
    """The database answered with an error."""

    code: ClassVar[str] = "statement_failed"
    title: ClassVar[str] = "Statement failed"


class ResultTooLarge(InvalidRequest):
    """More came over the wire than one call may read."""

    code: ClassVar[str] = "result_too_large"
    title: ClassVar[str] = "Result too large"


class StatementTimedOut(AuralinkError):
    """The statement was cancelled at its deadline."""

    code: ClassVar[str] = "statement_timeout"
    status: ClassVar[int] = 504
    title: ClassVar[str] = "Statement timed out"


class DatabaseUnreachable(AuralinkError):
    """The user's database does not let us in."""

    code: ClassVar[str] = "user_database_unreachable"
    status: ClassVar[int] = 502
    title: ClassVar[str] = "Database unreachable"
