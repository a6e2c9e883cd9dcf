"""One customer, one seller per family of rows: read from the schema, and tried (L22)."""

import pytest
from django.apps import apps
from django.db import connection

pytestmark = pytest.mark.django_db

# Parents whose rows belong to one customer, or to one seller.
OWNER_COLUMNS = ("customer_id", "legal_entity_id")
# Pairs that need no composite key, each with its reason.
EXEMPT = {
    # The run of a seller lists that seller's customers; `start` reads them from the seller.
    ("billing_runitem", "run_id"),
    ("billing_invoice", "run_id"),
    # A note names the invoice it corrects; issue of notes comes with its own guard.
    ("billing_invoice", "corrects_id"),
    # Reversals name a row of their own table under the same payment.
    ("billing_payment", "reverses_id"),
    ("billing_allocation", "reverses_id"),
    # Lines carry no unique key over customer and id; a sale takes both from one row.
    ("billing_creditgrant", "sale_line_id"),
}


def columns(table):
    with connection.cursor() as cursor:
        return {
            column.name for column in connection.introspection.get_table_description(cursor, table)
        }


def foreign_keys():
    """(table, its columns, parent table) of every foreign key in the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT conrelid::regclass::text, confrelid::regclass::text,
                   array(SELECT attname::text FROM unnest(conkey) k
                         JOIN pg_attribute ON attrelid = conrelid AND attnum = k)
            FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace
            """
        )
        return [(table, frozenset(keys), parent) for table, parent, keys in cursor.fetchall()]


def test_a_child_names_its_parents_customer():
    known = foreign_keys()
    lacking = []
    for model in apps.get_app_config("billing").get_models():
        table = model._meta.db_table
        own = columns(table)
        for field in model._meta.local_fields:
            parent = field.remote_field and field.related_model._meta.db_table
            if not parent or parent in {"billing_customer", "billing_legalentity"}:
                continue
            for owner in OWNER_COLUMNS:
                if owner not in own or owner not in columns(parent):
                    continue
                if owner == "legal_entity_id" and "customer_id" in own & columns(parent):
                    continue  # the customer's key says it already
                held = any(
                    child == table and keys == {owner, field.column} for child, keys, _ in known
                )
                if not held and (table, field.column) not in EXEMPT:
                    lacking.append(f"{table}.{field.column} with {owner}")
    assert not lacking, "\n".join(lacking)


def test_a_row_of_a_customer_and_a_seller_agrees_on_both():
    known = foreign_keys()
    lacking = [
        model._meta.db_table
        for model in apps.get_app_config("billing").get_models()
        if set(OWNER_COLUMNS) <= columns(model._meta.db_table)
        and not any(
            child == model._meta.db_table and keys == set(OWNER_COLUMNS) for child, keys, _ in known
        )
    ]
    assert not lacking, "\n".join(lacking)


def test_every_reference_is_kept_by_some_foreign_key():
    """`db_constraint=False` is for references that a key over more columns keeps."""
    known = foreign_keys()
    # A meter is kept by a trigger: all spends would share the lock of its row.
    by_trigger = {("billing_hold", "meter_id"), ("billing_ledgerentry", "meter_id")}
    loose = [
        f"{model._meta.db_table}.{field.column}"
        for model in apps.get_app_config("billing").get_models()
        for field in model._meta.local_fields
        if field.remote_field
        and (model._meta.db_table, field.column) not in by_trigger
        and not any(
            child == model._meta.db_table and field.column in keys for child, keys, _ in known
        )
    ]
    assert not loose, "\n".join(loose)
