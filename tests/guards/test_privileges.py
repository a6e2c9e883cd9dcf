"""What the application role may do, table by table, and what the triggers refuse even the owner."""

from datetime import date

import psycopg
import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction

from billing.models.base import AppendOnly, DoorsOnly
from tests import factories as make

pytestmark = pytest.mark.django_db

DOORS_ONLY = {
    m._meta.db_table
    for m in apps.get_models()
    if issubclass(m, DoorsOnly) or m.__module__ == "billing.models.credits"
}
APPEND_ONLY = {
    m._meta.db_table for m in apps.get_models() if issubclass(m, AppendOnly)
} - DOORS_ONLY | {"accounts_loginevent"}
READ_ONLY = {"django_migrations"}
# Facts that may not be emptied at once, although their rows may change under a guard.
KEPT = {
    "billing_invoice",
    "billing_invoiceline",
    "billing_invoicetax",
    "billing_invoicedocument",
    "billing_invoicebalance",
    "billing_numberseries",
    "billing_billedperiod",
    "billing_approval",
}
CHANGES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def ask(sql, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def tables():
    return {
        name
        for (name,) in ask(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'public'::regnamespace"
        )
    }


def rights(table):
    return {
        right
        for (right,) in ask(
            "SELECT r FROM unnest(%s::text[]) r WHERE has_table_privilege(%s, r)",
            ["SELECT", *CHANGES],
            f'public."{table}"',
        )
    }


def test_every_table_has_exactly_the_rights_of_its_class():
    expected = {}
    for table in tables():
        if table in DOORS_ONLY | READ_ONLY:
            expected[table] = {"SELECT"}
        elif table in APPEND_ONLY:
            expected[table] = {"SELECT", "INSERT"}
        elif table == "billing_invoicebalance":
            expected[table] = {"SELECT", "INSERT", "UPDATE"}
        else:
            expected[table] = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert {table: rights(table) for table in tables()} == expected


def test_the_classes_name_the_tables_of_the_design():
    assert {
        "billing_creditbalance",
        "billing_creditgrant",
        "billing_ledgerentry",
        "billing_ledgerpart",
        "billing_hold",
        "billing_ledgerkey",
    } <= DOORS_ONLY
    assert {
        "billing_usageevent",
        "billing_charge",
        "billing_journalentry",
        "billing_posting",
        "billing_payment",
        "billing_allocation",
        "billing_documentaccess",
        "billing_approvaldecision",
        "billing_auditevent",
    } <= APPEND_ONLY


def test_no_column_or_public_right_gets_around_the_tables():
    assert not ask(
        "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges"
        " WHERE grantee = 'PUBLIC' AND table_schema = 'public'"
    )
    assert not ask(
        "SELECT relname FROM pg_class, aclexplode(relacl) a WHERE a.grantee = 0"
        " AND relnamespace = 'public'::regnamespace"
    )


def test_the_application_makes_nothing_and_owns_nothing():
    assert ask("SELECT has_schema_privilege('public', 'CREATE')") == [(False,)]
    assert ask("SELECT has_database_privilege(current_database(), 'CREATE')") == [(False,)]
    with pytest.raises(DatabaseError), transaction.atomic():
        ask("CREATE TABLE public.mine (x int)")


def test_no_sequence_can_be_set_back():
    held = ask(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'UPDATE') END"
    )
    assert held == []


def test_functions_that_run_as_the_owner_pin_their_path():
    loose = ask(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
        " AND NOT coalesce(array_to_string(proconfig, ','), '') LIKE 'search_path=pg_catalog,%%'"
    )
    assert loose == []


def test_no_function_looks_at_temporary_tables_first():
    """Where pg_temp is not named it comes first, and anybody may make a table there."""
    loose = ask(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND (prorettype = 'trigger'::regtype OR proconfig::text LIKE '%%search_path%%')"
        " AND NOT coalesce(array_to_string(proconfig, ','), '')"
        "     LIKE '%%search_path=pg_catalog, public, pg_temp%%'"
    )
    assert loose == []


def test_only_the_doors_run_as_the_owner():
    open_doors = {
        name
        for (name,) in ask(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " AND has_function_privilege(oid, 'EXECUTE')"
        )
    }
    assert open_doors == {
        "billing_remove_demo",
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


@pytest.mark.parametrize("table", sorted(DOORS_ONLY | APPEND_ONLY | KEPT))
def test_history_is_neither_emptied_nor_switched_off(table):
    for attempt in (
        f'TRUNCATE "{table}" CASCADE',
        f'ALTER TABLE "{table}" DISABLE TRIGGER ALL',
        f'DROP TABLE "{table}" CASCADE',
        f'ALTER TABLE "{table}" OWNER TO CURRENT_USER',
        f'ALTER TABLE "{table}" ADD COLUMN mine int',
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            ask(attempt)
    with pytest.raises(DatabaseError), transaction.atomic():
        ask("SET session_replication_role = replica")


@pytest.mark.parametrize("table", sorted(DOORS_ONLY | APPEND_ONLY))
def test_history_is_not_rewritten_by_the_application(table):
    (column,) = ask(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 LIMIT 1",
        table,
    )[0]
    for attempt in (
        f'UPDATE "{table}" SET "{column}" = "{column}"',
        f'DELETE FROM "{table}"',
    ):
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            ask(attempt)


@pytest.mark.parametrize("table", sorted(DOORS_ONLY))
def test_credits_are_not_written_beside_the_doors(table):
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        ask(f'INSERT INTO "{table}" DEFAULT VALUES')


def test_every_guard_fires_also_in_replica_mode():
    sleeping = ask(
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger t"
        " JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE NOT tgisinternal AND p.proname ~ '^(billing|ledger)_' AND tgenabled <> 'A'"
    )
    assert sleeping == []


def test_every_protected_table_refuses_truncate_by_trigger():
    guarded = {
        name
        for (name,) in ask(
            "SELECT tgrelid::regclass::text FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgtype & 32 = 32 AND tgenabled = 'A'"
        )
    }
    assert guarded >= DOORS_ONLY | APPEND_ONLY | KEPT


@pytest.mark.owner
@pytest.mark.parametrize("table", sorted(DOORS_ONLY | APPEND_ONLY | KEPT))
def test_even_the_owner_is_stopped_by_the_triggers(owner_connection, table):
    with pytest.raises(psycopg.Error):
        owner_connection.execute(f'TRUNCATE "{table}" CASCADE')


@pytest.mark.owner
def test_the_owner_cannot_edit_history_by_mistake(owner_connection):
    columns = [
        field.column
        for field in apps.get_model("billing", "LegalEntity")._meta.local_fields
        if field.get_internal_type() in {"CharField", "EmailField"}
    ]
    entity = owner_connection.execute(
        f"INSERT INTO billing_legalentity ({', '.join(columns)}, payment_terms_days, draft_days,"
        f" is_demo) VALUES ({', '.join(['%s'] * len(columns))}, 14, 0, false) RETURNING id",
        [make.unique("O")[:12], *["x"] * (len(columns) - 1)],
    ).fetchone()
    with owner_connection.transaction():
        (entry,) = owner_connection.execute(
            "INSERT INTO billing_journalentry (legal_entity_id, key, recipe, currency, booked_on,"
            " fingerprint) VALUES (%s, %s, 'x', 'EUR', %s, 'x') RETURNING id",
            [*entity, make.unique("o"), date(2026, 1, 1)],
        ).fetchone()
        owner_connection.execute(
            "INSERT INTO billing_posting (entry_id, account, amount, source)"
            " VALUES (%s, 'bank', 1, ''), (%s, 'revenue', -1, '')",
            [entry, entry],
        )
    for attempt in (
        "UPDATE billing_posting SET amount = 2 WHERE entry_id = %s",
        "DELETE FROM billing_posting WHERE entry_id = %s",
        "DELETE FROM billing_journalentry WHERE id = %s",
        "UPDATE billing_journalentry SET booked_on = booked_on + 1 WHERE id = %s",
    ):
        with pytest.raises(psycopg.Error, match="append-only"):
            owner_connection.execute(attempt, [entry])
