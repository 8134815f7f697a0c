"""What is refused by its text alone: the corpus of tricks, and what must not be mistaken for one."""

import pytest

from auralink.servers.database.errors import ReadOnly, StatementRefused
from auralink.servers.database.statements import check_migration, check_query, split

TRICKS = [
    "SELECT 1; DROP TABLE customers",
    "COMMIT; DROP TABLE customers",
    "SELECT 1;;SELECT 2",
    "/* SELECT */ COMMIT",
    "-- SELECT 1\nROLLBACK",
    "BEGIN",
    "START TRANSACTION READ WRITE",
    "END",
    "ABORT",
    "SAVEPOINT a",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "SET statement_timeout = 0",
    "RESET ALL",
    "DISCARD ALL",
    "DO $$ BEGIN PERFORM 1; END $$",
    "CALL p()",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DECLARE c CURSOR FOR SELECT 1",
    "LOCK TABLE customers",
    "LISTEN x",
    "NOTIFY x",
    "LOAD 'x'",
    "VACUUM",
    "CHECKPOINT",
    "COPY customers TO '/tmp/x'",
    "COPY customers TO PROGRAM 'id'",
    "COPY (SELECT 1) TO STDOUT",
    "(COPY customers TO PROGRAM 'id')",
    "\tcOpY customers FROM PROGRAM 'id'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT \"pg_read_file\"('/etc/passwd')",
    "SELECT PG_READ_FILE('/etc/passwd')",
    "SELECT pg_catalog . pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('x')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT lo_create(0)",
    "SELECT dblink('host=evil', 'select 1')",
    "SELECT dblink_connect('host=evil')",
    "SELECT * FROM dblink_exec('x')",
    "SELECT pg_sleep(100)",
    "SELECT pg_sleep_for('1 day')",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_notify('a', 'b')",
    "SELECT query_to_xml('select pg_' || 'read_file(1)', true, true, '')",
    "SELECT * FROM ts_stat('select 1')",
    "SELECT U&\"pg\\005fread_file\"('x')",
    'SELECT u&"x" FROM y',
    "SELECT 'it''s' /* pg_sleep(1) */",
    "WITH x AS (SELECT lo_unlink(1)) SELECT 1",
    "EXPLAIN ANALYZE SELECT pg_sleep(5)",
    "VALUES (pg_read_file('x'))",
    "SELECT $x$ $x$ || pg_ls_waldir()",
    "",
    "   ",
    "-- nothing",
    "/* nothing /* at */ all */",
    ";;",
    "12",
    "'SELECT'",
    "$1",
]
WRITES = [
    "INSERT INTO customers DEFAULT VALUES",
    "UPDATE customers SET name = ''",
    "DELETE FROM customers",
    "MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE x ()",
    "DROP TABLE customers",
    "ALTER TABLE customers RENAME TO x",
    "TRUNCATE customers",
    "GRANT ALL ON customers TO PUBLIC",
    "COMMENT ON TABLE customers IS 'x'",
    "REFRESH MATERIALIZED VIEW x",
]
HARMLESS = [
    "SELECT 1",
    "select 1;",
    "  /* a */ -- b\n (SELECT 1) UNION (SELECT 2) ;  -- done",
    "WITH a AS (SELECT ';') SELECT * FROM a",
    "SELECT 'a;b', \"c;d\", $q$;$q$, E'\\';', U&'\\003b', B'1' FROM t",
    "SELECT $$ $a$ ; $$",
    "VALUES (1), (2)",
    "TABLE customers",
    "EXPLAIN (ANALYZE) SELECT 1",
    "SHOW server_version",
    "SELECT lo_orderkey, pg_size_pretty(1::bigint), my_set_config, http_status FROM lineorder",
    "SELECT a /* one /* two */ ; */ FROM b",
    "SELECT 1 AS größe",
]


@pytest.mark.parametrize("text", TRICKS)
def test_a_trick_is_refused_whatever_the_policy(text: str) -> None:
    for read_only in (True, False):
        with pytest.raises(StatementRefused):
            check_query(text, read_only=read_only)


@pytest.mark.parametrize("text", WRITES)
def test_writing_needs_a_policy_that_allows_it(text: str) -> None:
    with pytest.raises(ReadOnly, match="may only read"):
        check_query(text, read_only=True)
    assert check_query(text, read_only=False) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_trick_passes(text: str) -> None:
    assert check_query(text, read_only=True)


def test_statements_are_separated_as_postgres_does() -> None:
    text = """CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $body$ SELECT 1; SELECT 2; $body$;
              INSERT INTO t VALUES (';', E'a\\';b'); -- c;
              /* ; */ SELECT "a;b"; """
    assert [statement.keyword for statement in split(text)] == ["create", "insert", "select"]


@pytest.mark.parametrize(
    "text", ["SELECT 'open", 'SELECT "open', "SELECT $$ open", "SELECT /* open", "SELECT E'\\'", "SELECT $a$ $b$"]
)
def test_what_is_not_closed_is_one_statement_for_the_server_to_refuse(text: str) -> None:
    assert len(split(f"{text} ; DROP TABLE x")) == 1


@pytest.mark.parametrize(
    "text", ["COMMIT", "SELECT 1; ROLLBACK; DROP TABLE x", "COPY t FROM STDIN", "SELECT pg_read_file('x')", ";"]
)
def test_a_migration_cannot_leave_its_transaction(text: str) -> None:
    with pytest.raises(StatementRefused):
        check_migration(text)


def test_a_migration_may_hold_several_statements_and_blocks() -> None:
    assert check_migration("CREATE TABLE a (); DO $$ BEGIN NULL; END $$; SET LOCAL x.y = '1'") == [
        "CREATE TABLE a ()",
        "DO $$ BEGIN NULL; END $$",
        "SET LOCAL x.y = '1'",
    ]
