"""Money is recorded once, never more of it is used than came, and the books say the same."""

import threading
from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from billing import invoicing, payments
from billing.errors import IdempotencyConflict, MissingData
from billing.models import (
    Allocation,
    AuditEvent,
    Invoice,
    InvoiceBalance,
    JournalEntry,
    Payment,
    Posting,
)
from billing.payments import CannotAllocate
from tests import factories as make
from tests.factories import NOVEMBER, NOW

pytestmark = pytest.mark.django_db
DAY = date(2026, 12, 9)


def invoice(who, amount="100.00", *, terms=None):
    """An issued invoice of one fee; with 23 % VAT it is 1.23 times the amount."""
    if terms is not None:
        who.payment_terms_days = terms
        who.save()
    make.subscribe(who, make.version(make.fee(amount, billed="arrears")), NOVEMBER[0])
    (outcome,) = invoicing.draft_many(
        [who.pk],
        legal_entity_id=who.legal_entity_id,
        through=NOVEMBER[1],
        issue_on=NOVEMBER[1],
        key_prefix=make.unique(),
    )
    invoicing.approve_many([outcome.invoice_id], approved_by_id=None)
    invoicing.issue_many([outcome.invoice_id], at=NOW)
    return Invoice.objects.get(pk=outcome.invoice_id)


def pay(who, amount, **fields):
    values = {
        "customer_id": who.pk,
        "currency": "EUR",
        "amount": Decimal(amount),
        "received_on": DAY,
        "method": "transfer",
        "reference": "RF18",
        "key": make.unique("bank-"),
        "recorded_by_id": None,
    }
    return payments.record(**values | fields)


def due(bill):
    return InvoiceBalance.objects.get(invoice=bill).due


@pytest.fixture
def who():
    return make.customer(make.seller())


def test_a_payment_settles_the_oldest_due_invoice_first(who):
    later, sooner = invoice(who, terms=30), invoice(who, terms=14)
    pay(who, "150.00")
    assert (due(sooner), due(later)) == (Decimal("0.00"), Decimal("96.00"))
    assert payments.customer_money(who.pk, "EUR") == 0


def test_with_one_due_date_the_lower_number_comes_first(who):
    first, second = invoice(who), invoice(who)
    pay(who, "123.00")
    assert (due(first), due(second)) == (0, Decimal("123.00"))


def test_what_is_left_is_the_customers_money(who):
    bill = invoice(who)
    pay(who, "200.00")
    assert due(bill) == 0
    assert payments.customer_money(who.pk, "EUR") == Decimal("77.00")


def test_another_currency_pays_nothing(who):
    bill = invoice(who)
    pay(who, "500.00", currency="CHF")
    assert due(bill) == Decimal("123.00")
    assert payments.customer_money(who.pk, "CHF") == Decimal("500.00")
    with pytest.raises(CannotAllocate):
        pay(who, "1.00", currency="CHF", allocate={bill.pk: Decimal("1.00")})


def test_an_instruction_is_followed(who):
    first, second = invoice(who), invoice(who)
    pay(who, "150.00", allocate={second.pk: Decimal("100.00")})
    assert (due(first), due(second)) == (Decimal("123.00"), Decimal("23.00"))
    assert payments.customer_money(who.pk, "EUR") == Decimal("50.00")


def test_an_empty_instruction_keeps_it_as_customer_money(who):
    bill = invoice(who)
    pay(who, "123.00", allocate={})
    assert due(bill) == Decimal("123.00")


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity"])
def test_an_amount_that_is_not_money_is_refused(who, amount):
    with pytest.raises(MissingData):
        pay(who, amount)
    assert not Payment.objects.filter(customer=who).exists()


@pytest.mark.parametrize("part", ["0", "-1.00", "0.001", "123.01"])
def test_a_part_that_is_not_due_money_is_refused_and_nothing_stays(who, part):
    bill = invoice(who)
    with pytest.raises(CannotAllocate), transaction.atomic():
        pay(who, "200.00", allocate={bill.pk: Decimal(part)})
    assert not Payment.objects.filter(customer=who).exists()
    assert not JournalEntry.objects.filter(customer=who, recipe="payment_received").exists()
    assert due(bill) == Decimal("123.00")


def test_more_than_was_received_is_refused(who):
    first, second = invoice(who), invoice(who)
    with pytest.raises(CannotAllocate), transaction.atomic():
        pay(who, "150.00", allocate={first.pk: Decimal("123.00"), second.pk: Decimal("50.00")})
    assert not Payment.objects.filter(customer=who).exists()


def test_anothers_invoice_and_a_draft_cannot_be_paid(who):
    other = invoice(make.customer(who.legal_entity))
    with pytest.raises(CannotAllocate):
        pay(who, "10.00", allocate={other.pk: Decimal("10.00")})
    make.subscribe(who, make.version(make.fee("5.00")), NOVEMBER[0])
    (outcome,) = invoicing.draft_many(
        [who.pk],
        legal_entity_id=who.legal_entity_id,
        through=NOVEMBER[0],
        issue_on=NOVEMBER[0],
        key_prefix=make.unique(),
    )
    with pytest.raises(CannotAllocate):
        pay(who, "10.00", allocate={outcome.invoice_id: Decimal("1.00")})
    with pytest.raises(CannotAllocate):
        pay(who, "10.00", allocate={0: Decimal("1.00")})


# --- once ------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_payment(who):
    bill = invoice(who)
    first = pay(who, "50.00", key="stmt-1-" + who.code)
    again = pay(who, "50.00", key="stmt-1-" + who.code)
    assert first.pk == again.pk
    assert due(bill) == Decimal("73.00")
    assert AuditEvent.objects.filter(subject=f"payment:{first.pk}").count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Decimal("51.00")},
        {"currency": "CHF"},
        {"received_on": date(2026, 12, 10)},
        {"method": "cash"},
        {"reference": "another"},
    ],
)
def test_the_same_key_for_another_payment_is_a_conflict(who, change):
    pay(who, "50.00", key="stmt-2-" + who.code)
    with pytest.raises(IdempotencyConflict):
        pay(who, **{"amount": "50.00", "key": "stmt-2-" + who.code} | change)


def test_the_same_key_for_another_customer_is_a_conflict(who):
    key = make.unique("bank-")
    pay(who, "50.00", key=key)
    with pytest.raises(IdempotencyConflict):
        pay(make.customer(who.legal_entity), "50.00", key=key)


# --- books -----------------------------------------------------------------------------------


def legs(**filters):
    return sorted((p.account, p.amount) for p in Posting.objects.filter(**filters))


def test_receipt_and_allocation_are_posted(who):
    bill = invoice(who)
    payment = pay(who, "150.00")
    assert legs(entry__payment=payment, entry__recipe="payment_received") == [
        ("bank", Decimal("150.00")),
        ("customer_money", Decimal("-150.00")),
    ]
    assert legs(entry__payment=payment, entry__recipe="allocation") == [
        ("customer_money", Decimal("123.00")),
        ("receivable", Decimal("-123.00")),
    ]
    assert JournalEntry.objects.get(payment=payment, recipe="allocation").invoice_id == bill.pk
    make.assert_books_balance(who.legal_entity)


def test_a_card_payment_waits_at_the_gateway(who):
    payment = pay(who, "10.00", method="card")
    assert legs(entry__payment=payment)[1][0] == "gateway_clearing"


def test_vat_falls_due_with_each_payment_and_the_last_takes_the_rest():
    who = make.customer(make.seller(vat_due="payment"))
    bill = invoice(who, "100.01")  # VAT 23.00, payable 123.01
    for part in ("41.00", "41.00", "41.01"):
        pay(who, part)
    pending = Posting.objects.filter(entry__customer=who, account="tax_pending")
    due_now = Posting.objects.filter(entry__customer=who, account="tax_due")
    assert sum(p.amount for p in pending) == 0
    assert -sum(p.amount for p in due_now) == bill.tax
    assert due_now.count() == 3
    assert due(bill) == 0


# --- what the database keeps by itself ---------------------------------------------------------


def test_the_database_never_lets_a_payment_pay_twice(who):
    first, second = invoice(who), invoice(who)
    payment = pay(who, "123.00", allocate={first.pk: Decimal("100.00")})
    with pytest.raises(DatabaseError, match="already used"), transaction.atomic():
        Allocation.objects.create(
            customer=who, payment=payment, invoice=second, amount=Decimal("23.01"), booked_on=DAY
        )


def test_the_database_never_lets_an_invoice_be_paid_over(who):
    bill = invoice(who)
    pay(who, "123.00")
    extra = pay(who, "50.00")
    with pytest.raises(DatabaseError, match="already paid"), transaction.atomic():
        Allocation.objects.create(
            customer=who, payment=extra, invoice=bill, amount=Decimal("0.01"), booked_on=DAY
        )


def test_the_database_never_crosses_currencies_or_customers(who):
    bill = invoice(who)
    francs = pay(who, "10.00", currency="CHF")
    with pytest.raises(DatabaseError, match="cannot pay"), transaction.atomic():
        Allocation.objects.create(
            customer=who, payment=francs, invoice=bill, amount=Decimal(1), booked_on=DAY
        )
    stranger = make.customer(who.legal_entity)
    theirs = pay(stranger, "10.00")
    for owner in (who, stranger):
        with pytest.raises(DatabaseError), transaction.atomic():
            Allocation.objects.create(
                customer=owner, payment=theirs, invoice=bill, amount=Decimal(1), booked_on=DAY
            )


# --- two at once -----------------------------------------------------------------------------


def race(*calls):
    barrier, failures = threading.Barrier(len(calls)), []

    def body(call):
        barrier.wait()
        try:
            call()
        except Exception as failure:  # noqa: BLE001 - handed to the test
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=body, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_two_rows_for_one_payment_at_once_stay_within_it():
    who = make.customer(make.seller())
    bills = [invoice(who), invoice(who)]
    payment = pay(who, "123.00", allocate={})

    def allocate(bill):
        with transaction.atomic():
            Allocation.objects.create(
                customer=who, payment=payment, invoice=bill, amount=Decimal(100), booked_on=DAY
            )

    failures = race(*(lambda bill=bill: allocate(bill) for bill in bills))
    assert len(failures) == 1
    assert "already used" in str(failures[0])


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_ten_copies_of_one_payment_at_once_are_one():
    who = make.customer(make.seller())
    bill = invoice(who)
    key = make.unique("bank-")
    assert not race(*[lambda: pay(who, "23.00", key=key)] * 10)
    assert Payment.objects.filter(customer=who).count() == 1
    assert due(bill) == Decimal("100.00")
    make.assert_books_balance(who.legal_entity)


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_two_payments_at_once_never_pay_an_invoice_over():
    who = make.customer(make.seller())
    bill = invoice(who)
    assert not race(*[lambda: pay(who, "100.00")] * 4)
    assert due(bill) == 0
    assert payments.customer_money(who.pk, "EUR") == Decimal("277.00")


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_two_customers_with_one_key_at_once_get_a_conflict_in_words():
    entity = make.seller()
    people = [make.customer(entity) for _ in range(3)]
    key = make.unique("bank-")
    failures = race(*(lambda who=who: pay(who, "5.00", key=key) for who in people))
    assert [type(f) for f in failures] == [IdempotencyConflict] * 2
