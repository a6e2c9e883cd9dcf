"""Harbour Prints, November 2026: one customer's month, with every number done by hand.

Harbour Prints of Cork is on the studio plan from 11 November: 30.00 a month in advance with 300
credits, further credits 50.00 per 1,000, one credit an image unit. Its seller is in Dublin, VAT is
23 %, terms are 14 days.

    11 Nov  starts; November has 30 days, 20 of them are served     30.00 × 20/30 = 20.00
    12 Nov  uses 180 units                                          300 − 180 = 120 left
    13 Nov  buys a pack: 250 credits for 10.00                      net 10.00, VAT 2.30, paid 12.30
    20 Nov  uses 270 units: the allowance ends first, it pays 120   the pack pays 150, 100 left
    25 Nov  work under way holds 40, fails, is released             100 left
    29 Nov  uses 700 units: the pack pays 100                       600 beyond the credits
    30 Nov  23:30 uses 11.5 units                                   611.5 beyond the credits
     1 Dec  00:10 uses 5 units: December's allowance pays           295 left
     1 Dec  the run of November:
              plan 11-30 November      20 days                      20.00
              plan December            30.00                        30.00
              611.5 credits at 50.00 per 1,000 = 30.575             30.58
              net 80.58, VAT 80.58 × 0.23 = 18.5334                 18.53
              due 15 December                                       99.11
    10 Dec  pays 60.00                                              39.11 due
    20 Dec  pays 50.00                                              settled, 10.89 its money
"""

from datetime import date
from decimal import Decimal

import pytest

from billing import credits, ledger, payments, runs, topups
from billing.metering import Stage
from billing.models import (
    CreditBalance,
    CreditGrant,
    Hold,
    Invoice,
    InvoiceBalance,
    Posting,
)
from billing.reconciliation import reconcile
from tests import factories as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def month():
    """Everything up to the run, in the order it happened."""
    entity = make.seller(time_zone="Europe/Dublin")
    who = make.customer(entity, time_zone="Europe/Dublin")
    plan = make.version(
        make.fee("30.00"),
        make.overage(),
        make.usage_price(),
        allowance_credits=Decimal(300),
        overage_policy="invoice",
    )
    subscription = make.subscribe(who, plan, date(2026, 11, 11))

    def renew(at):
        credits.ensure_allowances(
            [subscription.pk], at=make.instant(at), actor="clock", request_id="test"
        )

    def use(quantity, at, **fields):
        (result,) = make.record(make.use(subscription, quantity, make.instant(at), **fields))
        return result

    renew("2026-11-11T06:00")
    assert use("180", "2026-11-12T10:00").credits == 180
    topups.buy_packs(
        customer_id=who.pk,
        pack_id=make.pack("250", "10.00").pk,
        count=1,
        at=make.instant("2026-11-13T09:00"),
        method="card",
        reference="card 4242",
        key="pack-1",
        actor="test",
    )
    assert use("270", "2026-11-20T15:00").credits == 270
    assert use("40", "2026-11-25T09:00", stage=Stage.OPEN).outcome == "held"
    hold = Hold.objects.get(customer=who)
    ledger.release(
        who.pk,
        key="failed",
        hold_id=hold.pk,
        at=make.instant("2026-11-25T09:10"),
        actor="test",
        reason="the job failed",
        request_id="test",
    )
    assert (r := use("700", "2026-11-29T12:00")).credits == 100
    assert r.overage == 600
    assert use("11.5", "2026-11-30T23:30").overage == Decimal("11.5")
    renew("2026-12-01T00:00")
    assert use("5", "2026-12-01T00:10").credits == 5
    clerk, admin = make.person("Clerk"), make.person("Finance admin")
    run = make.plan_run(entity, clerk)
    runs.start(run.pk, at=make.NOW)
    make.work(run.pk)
    runs.approve(run.pk, by_id=admin.pk, at=make.NOW)
    runs.issue(run.pk, actor_id=admin.pk)
    make.work(run.pk)
    return who, Invoice.objects.get(customer=who, run=run)


def test_the_credits(month):
    who, _ = month
    assert CreditBalance.objects.get(customer=who).available == 295
    grants = {
        (g.kind, g.effective_at.date()): (g.amount, g.remaining)
        for g in CreditGrant.objects.filter(customer=who)
    }
    assert grants == {
        ("allowance", date(2026, 11, 11)): (300, 0),
        ("purchased", date(2026, 11, 13)): (250, 0),
        ("allowance", date(2026, 12, 1)): (300, 295),
    }


def test_the_pack(month):
    who, _ = month
    invoice = Invoice.objects.get(customer=who, run=None)
    assert (invoice.net, invoice.tax, invoice.payable) == (
        Decimal("10.00"),
        Decimal("2.30"),
        Decimal("12.30"),
    )
    assert (invoice.issued_on, invoice.sequence) == (date(2026, 11, 13), 1)
    assert (invoice.snapshot["paid"], invoice.snapshot["payable"]) == ("12.30", "0.00")
    assert InvoiceBalance.objects.get(invoice=invoice).due == 0


def test_the_invoice(month):
    _, invoice = month
    assert [
        (x.supply_from, x.supply_to, x.quantity, x.unit_price, x.base_quantity, x.net)
        for x in invoice.lines.order_by("supply_from", "price__role")
    ] == [
        (date(2026, 11, 11), date(2026, 12, 1), 20, 30, 30, Decimal("20.00")),
        (date(2026, 11, 11), date(2026, 12, 1), Decimal("611.5"), 50, 1000, Decimal("30.58")),
        (date(2026, 12, 1), date(2027, 1, 1), 1, 30, 1, Decimal("30.00")),
    ]
    assert (invoice.net, invoice.tax, invoice.payable) == (
        Decimal("80.58"),
        Decimal("18.53"),
        Decimal("99.11"),
    )
    assert (invoice.issued_on, invoice.due_on) == (date(2026, 12, 1), date(2026, 12, 15))
    assert (invoice.supply_from, invoice.supply_to) == (date(2026, 11, 11), date(2027, 1, 1))
    assert invoice.number.endswith("-2026-000002")


def test_its_annex_tells_who_paid_for_november(month):
    _, invoice = month
    annex = invoice.snapshot["credits"]
    assert (annex["used"], annex["covered"], annex["overage"]) == ("1161.5", "550", "611.5")
    assert [(g["kind"], g["before"], g["taken"], g["left"]) for g in annex["grants"]] == [
        ("allowance", "300", "300", "0"),
        ("purchased", "250", "250", "0"),
    ]


def test_the_payments_and_the_books(month):
    who, invoice = month
    for amount, day in (("60.00", 10), ("50.00", 20)):
        payments.record(
            customer_id=who.pk,
            currency="EUR",
            amount=Decimal(amount),
            received_on=date(2026, 12, day),
            method="transfer",
            reference=invoice.number,
            key=make.unique("bank-"),
            recorded_by_id=None,
        )
        if day == 10:
            assert InvoiceBalance.objects.get(invoice=invoice).due == Decimal("39.11")
    assert InvoiceBalance.objects.get(invoice=invoice).due == 0
    assert payments.customer_money(who.pk, "EUR") == Decimal("10.89")
    sums: dict[str, Decimal] = {}
    for posting in Posting.objects.filter(entry__customer=who):
        sums[posting.account] = sums.get(posting.account, Decimal(0)) + posting.amount
    assert sums == {
        "bank": Decimal("110.00"),
        "gateway_clearing": Decimal("12.30"),
        "receivable": Decimal("0.00"),
        "customer_money": Decimal("-10.89"),
        "contract": Decimal("-90.58"),  # 80.58 and the pack's 10.00
        "tax_due": Decimal("-20.83"),  # 18.53 and 2.30
    }
    assert not [check for check in reconcile(who.legal_entity_id) if not check.holds]
