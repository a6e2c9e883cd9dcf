"""The application role reads the ledger and knocks at its doors; nothing else moves credits."""

from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from tests.ledger.desk import START, Desk, new_meter

TABLES = (
    "billing_creditbalance",
    "billing_creditgrant",
    "billing_hold",
    "billing_ledgerentry",
    "billing_ledgerpart",
    "billing_ledgerkey",
)
ATTEMPTS = (
    "UPDATE {table} SET customer_id = customer_id",
    "DELETE FROM {table}",
    "TRUNCATE {table} CASCADE",
    "INSERT INTO {table} SELECT * FROM {table}",
    "ALTER TABLE {table} ADD COLUMN extra integer",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    "DROP TABLE {table} CASCADE",
    "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    "COPY {table} FROM '/dev/null'",
    "SELECT 1 FROM {table} FOR UPDATE",
    "CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION billing_append_only()",
)
DOORS = {
    "ledger_grant",
    "ledger_spend",
    "ledger_spend_many",
    "ledger_hold",
    "ledger_settle",
    "ledger_release",
    "ledger_void",
    "ledger_reverse",
    "ledger_expire",
    "ledger_sweep",
}


@pytest.fixture
def filled(desk: Desk) -> Desk:
    desk.grant(10)
    held = desk.hold(4)
    desk.settle(held.hold_id, 2)
    desk.hold(1)
    return desk


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda text: " ".join(text.split()[:2]))
def test_the_application_role_cannot_write(filled: Desk, table: str, attempt: str):
    with (
        pytest.raises(DatabaseError, match=r"permission denied|must be owner"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(attempt.format(table=table))
    filled.check()


@pytest.mark.parametrize("table", TABLES)
def test_the_application_role_can_read(filled: Desk, table: str):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE customer_id = %s", [filled.customer.pk])
        assert cursor.fetchone()[0] > 0


def test_only_the_doors_may_be_called(db: None):
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT proname, prosecdef, proconfig, has_function_privilege(p.oid, 'EXECUTE')
               FROM pg_proc p
               WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'ledger\\_%%'"""
        )
        functions = cursor.fetchall()
    callable_ones = {name for name, _, _, may in functions if may}
    assert callable_ones == DOORS
    for name, is_definer, config, _ in functions:
        assert is_definer == (name in DOORS), name
        if is_definer:
            assert config[0] == "search_path=pg_catalog, public, pg_temp"


def test_a_function_of_the_callers_own_is_not_taken_for_the_ledgers(filled: Desk):
    # A temporary table or function of the same name must not be picked up inside a door.
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE billing_creditgrant (id bigint, customer_id bigint)")
        try:
            filled.spend(1)
        finally:
            cursor.execute("DROP TABLE pg_temp.billing_creditgrant")
    filled.check()


@pytest.mark.owner
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("mode", ["owner", "replica"])
def test_even_owner_and_superuser_meet_the_guards(
    filled: Desk,
    owner_connection: psycopg.Connection,
    database_cluster: Any,
    table: str,
    mode: str,
):
    """In replica mode ordinary triggers sleep; these are ENABLE ALWAYS."""
    from config.embedded.postgres import SUPERUSER

    name = owner_connection.info.dbname
    with database_cluster.connect(SUPERUSER, name) as superuser:
        superuser.execute("SET session_replication_role = replica")
        connection = owner_connection if mode == "owner" else superuser
        for attempt in (
            "UPDATE {} SET customer_id = customer_id",
            "DELETE FROM {}",
            "TRUNCATE {} CASCADE",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                connection.execute(attempt.format(table))
    filled.check()


@pytest.mark.owner
def test_the_terms_of_grants_and_holds_are_frozen(
    filled: Desk, owner_connection: psycopg.Connection
):
    for attempt in (
        "UPDATE billing_creditgrant SET amount = 1000000",
        "UPDATE billing_creditgrant SET expires_at = NULL",
        "UPDATE billing_creditgrant SET cost_total = 0",
        "UPDATE billing_hold SET expires_at = now()",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation):
            owner_connection.execute(attempt)


@pytest.mark.owner
@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("creditbalance", "available = -1"),
        ("creditbalance", "held = -1"),
        ("creditbalance", "debt = debt_limit + 1"),
        ("creditbalance", "available = 'NaN'"),
        ("creditgrant", "held = remaining + 1"),
        ("creditgrant", "remaining = -1"),
        ("creditgrant", "remaining = amount + 1"),
        ("creditgrant", "is_open = NOT is_open"),
        ("hold", "state = 'settled'"),
    ],
)
def test_what_must_never_be_false_is_a_constraint(
    filled: Desk, owner_connection: psycopg.Connection, table: str, change: str
):
    with pytest.raises(psycopg.errors.CheckViolation):
        owner_connection.execute(
            f"UPDATE billing_{table} SET {change} WHERE customer_id = %s", [filled.customer.pk]
        )


@pytest.mark.owner
@pytest.mark.parametrize(
    "entry",
    [
        "'spend', 'available', 'issued', 1, 'a', 'r'",
        "'spend', 'held', 'consumed', 1, 'a', 'r'",
        "'grant', 'issued', 'available', 0, 'a', 'r'",
        "'grant', 'issued', 'available', 'NaN', 'a', 'r'",
        "'grant', 'issued', 'available', 1, '', 'r'",
        "'grant', 'issued', 'available', 1, 'a', ''",
    ],
)
def test_an_entry_moves_a_real_amount_between_the_buckets_of_its_kind(
    filled: Desk, owner_connection: psycopg.Connection, entry: str
):
    with pytest.raises(psycopg.errors.CheckViolation):
        owner_connection.execute(
            f"""INSERT INTO billing_ledgerentry
                (customer_id, seq, occurred_at, recorded_at, booked_at, reason,
                 kind, source, target, amount, actor, request_id)
                VALUES (%s, 999, now(), now(), now(), '', {entry})""",
            [filled.customer.pk],
        )


@pytest.mark.owner
def test_a_meter_that_credits_were_used_for_is_kept(
    desk: Desk, owner_connection: psycopg.Connection
):
    used, unused = new_meter(), new_meter()
    desk.grant(10)
    desk.spend(1, meter_id=used.pk)
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner_connection.execute("DELETE FROM billing_meter WHERE id = %s", [used.pk])
    owner_connection.execute("DELETE FROM billing_meter WHERE id = %s", [unused.pk])


@pytest.mark.owner
def test_a_grant_expires_once_for_each_cause(desk: Desk, owner_connection: psycopg.Connection):
    lot = desk.grant(10, expires_at=START.replace(day=2))
    desk.expire(START.replace(day=3))
    with pytest.raises(psycopg.errors.UniqueViolation, match="entry_expires_once_per_cause"):
        owner_connection.execute(
            """INSERT INTO billing_ledgerentry
               (customer_id, seq, kind, source, target, amount, occurred_at, recorded_at, booked_at,
                grant_id, actor, reason, request_id)
               VALUES (%s, 999, 'expire', 'available', 'expired', 1, now(), now(), now(), %s, 'a',
                       '', 'r')""",
            [desk.customer.pk, lot.grant_id],
        )
