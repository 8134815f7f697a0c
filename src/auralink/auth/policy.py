"""What a principal may do, by role and scope. Which rows it may see is Postgres's decision, not this file's."""

from auralink.auth.errors import InsufficientScope
from auralink.auth.principal import Principal
from auralink.core.errors import Forbidden


def require_admin(principal: Principal) -> None:
    """Lets admins pass.

    Raises:
        Forbidden: anyone else, and every run: a run acts with its user's rows, never with its user's role.
    """
    if principal.role != "admin":
        raise Forbidden("this needs the role admin; ask an administrator, or use a token whose role claim is admin")
    if principal.run is not None:
        raise Forbidden("a run may not administer; use a token of the administrator")


def require_scope(principal: Principal, scope: str) -> None:
    """Lets principals pass whose token carries `scope`. The role does not stand in for a scope.

    Raises:
        InsufficientScope: the message and the `WWW-Authenticate` header name the scope.
    """
    if scope not in principal.scopes:
        raise InsufficientScope(f"this needs the scope {scope}; use a token that carries it", scope)
