"""Arguments and answers of the database tools, by the names of the hosted Supabase server (its `project_id` is ignored here)."""

from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from typing_extensions import TypedDict

from auralink.servers.serving import StorableText

MAX_SQL = 100_000
Sql = Annotated[StorableText, StringConstraints(min_length=1, max_length=MAX_SQL)]
Nullable = WithJsonSchema({"type": ["string", "null"]})
NullableText = Annotated[str | None, Nullable]


class Given(BaseModel):
    """Arguments; unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")


class ListSchemas(Given):
    pass


class ListTables(Given):
    schemas: Annotated[
        list[StorableText], Field(description="Schemas to include; an empty list is all of them", max_length=100)
    ] = ["public"]
    verbose: Annotated[bool, Field(description="Whether to include columns, primary keys and foreign keys")] = False


class ListExtensions(Given):
    pass


class ListMigrations(Given):
    pass


class ExecuteSql(Given):
    query: Annotated[Sql, Field(description="One SQL statement; values may stand as $1, $2, … and be given as parameters")]
    parameters: Annotated[
        list[Any], Field(description="Values for $1, $2, …: strings, numbers, booleans, null, lists (arrays), objects (JSON)")
    ] = []


class ApplyMigration(Given):
    name: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,99}$"), Field(description="The migration's name in snake_case")
    ]
    query: Annotated[Sql, Field(description="The SQL to apply: one or more statements, all or nothing")]


class SearchDocs(Given):
    query: Annotated[
        StorableText, StringConstraints(min_length=1, max_length=400), Field(description="Words, or the name of something")
    ]
    limit: Annotated[int, Field(description="How many results at most", ge=1, le=50)] = 10


class Schema(TypedDict):
    name: str
    owner: str
    tables: int
    comment: NullableText


class Schemas(TypedDict):
    schemas: list[Schema]


class Column(TypedDict):
    name: str
    data_type: str
    format: str
    options: list[str]
    default_value: NotRequired[str]
    identity_generation: NotRequired[str]
    enums: NotRequired[list[str]]
    check: NotRequired[str]
    comment: NotRequired[str]


class ForeignKey(TypedDict):
    name: str
    source: str
    target: str


class Table(TypedDict):
    name: str
    kind: str
    rls_enabled: bool
    rows: Annotated[int | None, WithJsonSchema({"type": ["integer", "null"]})]
    comment: NotRequired[str]
    columns: NotRequired[list[Column]]
    primary_keys: NotRequired[list[str]]
    foreign_key_constraints: NotRequired[list[ForeignKey]]


class Tables(TypedDict):
    tables: list[Table]
    truncated: bool


class Extension(TypedDict):
    name: str
    schema: NullableText
    default_version: NullableText
    installed_version: NullableText
    comment: NullableText


class Extensions(TypedDict):
    extensions: list[Extension]


class Migration(TypedDict):
    version: str
    name: NullableText


class Migrations(TypedDict):
    migrations: list[Migration]


class ResultColumn(TypedDict):
    name: str
    type: str


class QueryResult(TypedDict):
    columns: list[ResultColumn]
    rows: list[dict[str, Any]]
    row_count: int
    truncated: bool
    command: str


class Applied(TypedDict):
    success: bool
    version: str


class Document(TypedDict):
    kind: str
    title: str
    content: str


class Documents(TypedDict):
    results: list[Document]
