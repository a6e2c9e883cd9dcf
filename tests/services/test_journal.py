"""Entries balance, stand once, and are complete when their transaction commits."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from billing import journal
from billing.errors import IdempotencyConflict, InvariantBroken
from billing.models import JournalEntry, Posting
from billing.rules import books
from billing.rules.books import Leg
from tests import factories as make

pytestmark = pytest.mark.django_db


def entry(entity, key="k", *, legs=None, **fields):
    values = {
        "key": f"{entity.code}:{key}",
        "recipe": "payment_received",
        "legal_entity_id": entity.pk,
        "currency": "EUR",
        "booked_on": date(2026, 12, 1),
        "legs": legs or books.payment_received(amount=Decimal("10.00")),
    }
    return journal.Draft(**values | fields)


def test_a_balanced_entry_is_posted():
    entity = make.seller()
    pk = journal.post(entry(entity))
    assert {(p.account, p.amount) for p in Posting.objects.filter(entry=pk)} == {
        ("bank", Decimal(10)),
        ("customer_money", Decimal(-10)),
    }


def test_the_same_key_gives_back_the_same_entry():
    entity = make.seller()
    first = journal.post(entry(entity))
    assert journal.post_many([entry(entity), entry(entity, "other")])[0] == first
    assert JournalEntry.objects.filter(legal_entity=entity).count() == 2
    assert Posting.objects.filter(entry=first).count() == 2


def test_the_order_and_the_digits_of_legs_do_not_matter():
    entity = make.seller()
    legs = (Leg("bank", Decimal("10.0")), Leg("customer_money", Decimal("-10.000")))
    first = journal.post(entry(entity, legs=legs))
    assert journal.post(entry(entity, legs=legs[::-1])) == first


@pytest.mark.parametrize(
    "change",
    [
        {"legs": books.payment_received(amount=Decimal("10.01"))},
        {"currency": "CHF"},
        {"recipe": "chargeback"},
        {"booked_on": date(2026, 12, 2)},
    ],
)
def test_the_same_key_for_another_entry_is_a_conflict(change):
    entity = make.seller()
    journal.post(entry(entity))
    with pytest.raises(IdempotencyConflict):
        journal.post(entry(entity, **change))


def test_legs_that_do_not_add_up_never_reach_the_database():
    entity = make.seller()
    crooked = (Leg("bank", Decimal("10.00")), Leg("customer_money", Decimal("-9.99")))
    with pytest.raises(InvariantBroken):
        journal.post(entry(entity, legs=crooked))


def test_a_key_twice_in_one_batch_is_a_bug():
    entity = make.seller()
    with pytest.raises(InvariantBroken):
        journal.post_many([entry(entity), entry(entity)])


# --- what the database keeps by itself ---------------------------------------------------------


def raw_entry(entity):
    return JournalEntry.objects.create(
        legal_entity=entity,
        key=make.unique("raw-"),
        recipe="x",
        currency="EUR",
        booked_on=date(2026, 12, 1),
        fingerprint="x",
    )


@pytest.mark.parametrize("amounts", [["1.00"], ["1.00", "-0.99"], ["1", "1", "-1"]])
def test_postings_that_do_not_balance_are_refused(amounts):
    made = raw_entry(make.seller())
    crooked = [Posting(entry=made, account="bank", amount=Decimal(a)) for a in amounts]
    with pytest.raises(DatabaseError, match="does not balance"), transaction.atomic():
        Posting.objects.bulk_create(crooked)
    transaction.set_rollback(True)  # or the end of the test would miss the postings


def test_an_entry_without_postings_cannot_commit():
    raw_entry(make.seller())
    with pytest.raises(DatabaseError, match="does not balance"), transaction.atomic():
        connection.check_constraints()
    transaction.set_rollback(True)


def test_a_posting_of_nothing_is_refused():
    made = raw_entry(make.seller())
    with pytest.raises(DatabaseError, match="posting_not_zero"), transaction.atomic():
        Posting.objects.create(entry=made, account="bank", amount=0)
    transaction.set_rollback(True)


def test_a_complete_entry_gains_no_posting_even_if_it_still_balances():
    pk = journal.post(entry(make.seller()))
    late = [
        Posting(entry_id=pk, account="bank", amount=5),
        Posting(entry_id=pk, account="revenue", amount=-5),
    ]
    with pytest.raises(DatabaseError, match="gains no posting"), transaction.atomic():
        Posting.objects.bulk_create(late)
    assert Posting.objects.filter(entry=pk).count() == 2
