"""A pack: the money came, so invoice, payment and credits stand together, once."""

import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction

from billing import payments, topups
from billing.errors import IdempotencyConflict, MissingData
from billing.models import (
    CreditBalance,
    CreditGrant,
    Invoice,
    InvoiceBalance,
    JournalEntry,
    Payment,
)
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def buy(who, pack, count=1, **fields):
    values = {
        "customer_id": who.pk,
        "pack_id": pack.pk,
        "count": count,
        "at": NOW,
        "method": "card",
        "reference": "card 4242",
        "key": "sale-1",
        "actor": "test",
    }
    return topups.buy_packs(**values | fields)


@pytest.fixture
def who():
    return make.customer(make.seller())


def test_a_sale_is_invoiced_paid_and_granted(who):
    pack = make.pack()
    sale = buy(who, pack, 3)
    invoice = Invoice.objects.get(pk=sale.invoice_id)
    assert (invoice.state, invoice.net, invoice.tax) == ("issued", Decimal(30), Decimal("6.90"))
    assert invoice.issued_on == date(2026, 12, 1)
    assert InvoiceBalance.objects.get(invoice=invoice).due == 0
    payment = Payment.objects.get(pk=sale.payment_id)
    assert payment.amount == invoice.payable
    grant = CreditGrant.objects.get(pk=sale.grant_id)
    assert (grant.kind, grant.amount, grant.cost_total) == ("purchased", 750, Decimal(30))
    assert grant.sale_line_id == invoice.lines.get().pk
    assert grant.expires_at == datetime(2029, 12, 1, 9, 30, tzinfo=UTC)
    assert payments.customer_money(who.pk, "EUR") == 0
    make.assert_numbers_are_gapless(who.legal_entity)
    make.assert_books_balance(who.legal_entity)


def test_its_document_says_that_it_is_paid(who):
    snapshot = Invoice.objects.get(pk=buy(who, make.pack()).invoice_id).snapshot
    assert (snapshot["paid"], snapshot["payable"]) == ("12.30", "0.00")


def test_the_same_key_sells_once_whenever_it_is_repeated(who):
    pack = make.pack()
    first = buy(who, pack)
    assert buy(who, pack) == first
    assert buy(who, pack, at=NOW + timedelta(days=3)) == first
    assert Invoice.objects.filter(customer=who).count() == 1
    assert CreditBalance.objects.get(customer=who).available == 250


def test_the_same_key_for_another_sale_is_a_conflict(who):
    pack = make.pack()
    buy(who, pack)
    with pytest.raises(IdempotencyConflict):
        buy(who, pack, 2)
    with pytest.raises(IdempotencyConflict):
        buy(who, make.pack())


def test_two_customers_may_use_the_same_key(who):
    pack, other = make.pack(), make.customer(who.legal_entity)
    assert buy(who, pack).invoice_id != buy(other, pack).invoice_id


@pytest.mark.parametrize(
    ("fields", "count"),
    [({"currency": "CHF"}, 1), ({"is_active": False}, 1), ({}, 0), ({}, -1)],
)
def test_what_is_not_on_sale_is_refused(who, fields, count):
    with pytest.raises(MissingData, match="not on sale"):
        buy(who, make.pack(**fields), count)
    assert not Invoice.objects.filter(customer=who).exists()


def test_a_customer_without_an_address_gets_neither_invoice_nor_credits(who):
    who.street = ""
    who.save()
    with pytest.raises(MissingData), transaction.atomic():
        buy(who, make.pack())
    assert not Payment.objects.filter(customer=who).exists()
    assert not CreditGrant.objects.filter(customer=who).exists()
    assert not JournalEntry.objects.filter(customer=who).exists()


def test_the_money_of_a_pack_pays_no_other_invoice(who):
    pack = make.pack()
    first = buy(who, pack, key="one")
    buy(who, pack, key="two")
    assert Payment.objects.get(pk=first.payment_id).allocations.get().invoice_id == first.invoice_id


def test_a_later_price_changes_nothing_sold(who):
    pack = make.pack()
    sale = buy(who, pack)
    pack.price, pack.credits = Decimal(99), Decimal(1)
    pack.save()
    assert buy(who, pack) == sale
    assert CreditGrant.objects.get(pk=sale.grant_id).amount == 250


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_ten_clicks_at_once_sell_one_pack():
    who = make.customer(make.seller())
    pack, barrier, sales = make.pack(), threading.Barrier(10), []

    def click():
        barrier.wait()
        try:
            sales.append(buy(who, pack))
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sales) == 10
    assert len(set(sales)) == 1
    assert CreditBalance.objects.get(customer=who).available == 250
    make.assert_numbers_are_gapless(who.legal_entity)
