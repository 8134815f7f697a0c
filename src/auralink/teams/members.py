"""Members as rows: of what a user describes, or of a template; their names, their order, their tools."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from auralink.auth.principal import Principal
from auralink.core.ids import uuid7
from auralink.core.warned import Warning  # noqa: A004  # what it is called on the wire
from auralink.teams.definition import RESERVED
from auralink.teams.schemas import MemberBody
from auralink.teams.templates import Template
from auralink.teams.tools import UsersTools
from auralink.workflows.checking import DefinitionInvalid

MAX_NAME = 60
Row = dict[str, Any]


def of_bodies(principal: Principal, team_id: UUID, bodies: Sequence[MemberBody], tools: UsersTools) -> list[Row]:
    """The rows of members that a user described together. Raises DefinitionInvalid for tools that are not there."""
    rows: list[Row] = []
    problems = []
    taken = {body.name for body in bodies if body.name is not None}
    for at, body in enumerate(bodies):
        names, wrong = tools.resolve(body.tools, f"/members/{at}/tools")
        problems += wrong
        rows.append(row_of(principal, team_id, body, names, taken, rows))
        taken.add(rows[-1]["name"])
    if problems:
        raise DefinitionInvalid(problems)
    return rows


def of_template(principal: Principal, team_id: UUID, template: Template, tools: UsersTools) -> tuple[list[Row], list[Warning]]:
    """The rows of a template's members, without the tools that the user has not, and a warning for each of these."""
    rows: list[Row] = []
    warnings = []
    for at, member in enumerate(template.members):
        kept = []
        for tool in member.tools:
            wrong = tools.resolve([tool])[1]
            if wrong:
                warnings.append(
                    Warning(pointer=f"/members/{at}/tools", message=f"{member.name} goes without {tool}: {wrong[0].message}")
                )
            else:
                kept.append(tool)
        body = MemberBody(**{**member.model_dump(), "tools": kept})
        rows.append(row_of(principal, team_id, body, tools.resolve(kept)[0], (), rows))
    return rows, warnings


def row_of(
    principal: Principal,
    team_id: UUID,
    body: MemberBody,
    tool_names: Sequence[str],
    taken: Collection[str],
    others: Sequence[Mapping[str, Any]],
) -> Row:
    """The row of one member beside others; without a name it gets one that is not taken, without an order it stands last."""
    row = {**body.model_dump(), "id": uuid7(), "user_id": principal.user_id, "team_id": team_id, "tool_names": list(tool_names)}
    row["name"] = body.name or name_from(body.role, taken)
    if body.execution_order is None:
        row["execution_order"] = 1 + max((other["execution_order"] for other in others), default=0)
    return row


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Members in the order in which they work; of equal ones who was there first."""
    return sorted(rows, key=lambda row: row["execution_order"])


def name_from(role: str, taken: Collection[str]) -> str:
    """An identifier made of a role that is not taken, e.g. `lead_researcher`, `lead_researcher_2`."""
    plain = unicodedata.normalize("NFKD", role).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:MAX_NAME].rstrip("_")
    if not name[:1].isalpha() or name in RESERVED:
        name = f"member_{name}".rstrip("_")[:MAX_NAME]
    number = 1
    while (candidate := name if number == 1 else f"{name[: MAX_NAME - 4]}_{number}") in taken:
        number += 1
    return candidate
