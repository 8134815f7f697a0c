"""Refusals of the teams domain."""

from auralink.core.errors import Conflict, NotFound


class TeamNotFound(NotFound):
    """The user has no such team."""

    code = "team_not_found"
    title = "Team not found"


class TeamNameTaken(Conflict):
    """The user has a team of that name."""

    code = "team_name_taken"
    title = "Team name taken"


class TeamHasNoMembers(Conflict):
    """The team has nobody who could work."""

    code = "team_has_no_members"
    title = "Team has no members"


class TeamTooSmall(Conflict):
    """The team has fewer members than its mode needs."""

    code = "team_too_small"
    title = "Team too small"


class MemberNotFound(NotFound):
    """The team has no such member."""

    code = "member_not_found"
    title = "Member not found"


class MemberNameTaken(Conflict):
    """The team has a member of that name."""

    code = "member_name_taken"
    title = "Member name taken"


class ConversationNotFound(NotFound):
    """The team has had no such conversation."""

    code = "conversation_not_found"
    title = "Conversation not found"


class ComparisonNotFound(NotFound):
    """The team was not compared under this id."""

    code = "comparison_not_found"
    title = "Comparison not found"


def team_not_found(reference: object) -> TeamNotFound:
    """The error for a team that is not there, or another user's, which looks the same."""
    return TeamNotFound(f"you have no team {str(reference)!r}; GET /api/v1/teams lists yours")


def member_not_found(member_id: object) -> MemberNotFound:
    """The error for a member that is not there."""
    return MemberNotFound(f"this team has no member {member_id}; GET …/members lists them")
