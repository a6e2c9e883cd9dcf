"""Money is taken back whole and where it came from; charges name the entry that paid them."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from billing import invoicing, payments
from billing.models import Allocation, Charge, Invoice, Payment, PlanVersion
from tests import factories as make
from tests.factories import NOVEMBER, NOW

pytestmark = pytest.mark.django_db


def paid():
    """A payment of 100 with part of it on an invoice."""
    entity = make.seller()
    who = make.customer(entity)
    make.subscribe(who, make.version(), NOVEMBER[0])
    (outcome,) = invoicing.draft_many(
        [who.pk],
        legal_entity_id=entity.pk,
        through=NOVEMBER[1],
        issue_on=NOVEMBER[1],
        key_prefix=make.unique(),
    )
    invoicing.approve_many([outcome.invoice_id], approved_by_id=None)
    invoicing.issue_many([outcome.invoice_id], at=NOW)
    payment = payments.record(
        customer_id=who.pk,
        currency="EUR",
        amount=Decimal(100),
        method="transfer",
        reference="",
        received_on=date(2026, 12, 1),
        key=make.unique(),
        recorded_by_id=None,
    )
    return payment, Allocation.objects.get(payment=payment)


def again(row, **changes):
    """Write a copy of a row with some changes, and drop it again."""
    row = type(row).objects.get(pk=row.pk)
    row.pk = None
    row._state.adding = True
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()


def refused(row, says, **changes):
    with pytest.raises(DatabaseError, match=says), transaction.atomic():
        again(row, **changes)


def test_a_payment_is_reversed_whole_and_once():
    payment, _ = paid()
    other, _ = paid()
    back = {"reverses": payment, "amount": -payment.amount}
    refused(payment, "whole payment", key=make.unique(), **back | {"amount": Decimal(-1)})
    refused(payment, "whole payment", key=make.unique(), **back | {"currency": "CHF"})
    refused(
        payment,
        "whole payment",
        key=make.unique(),
        **back | {"customer": other.customer, "legal_entity": other.legal_entity},
    )
    again(payment, key=make.unique(), **back)
    refused(payment, "reverses_id", key=make.unique(), **back)
    reversal = Payment.objects.get(reverses=payment)
    refused(payment, "whole|sign", key=make.unique(), reverses=reversal, amount=Decimal(100))


def test_an_allocation_is_reversed_whole_and_where_it_was():
    _, allocation = paid()
    _, other = paid()
    back = {"reverses": allocation, "amount": -allocation.amount}
    refused(allocation, "whole allocation", **back | {"amount": Decimal(-1)})
    refused(other, "whole allocation", reverses=allocation, amount=-allocation.amount)
    again(allocation, **back)


def test_what_is_due_is_not_dropped():
    _, allocation = paid()
    balance = Invoice.objects.get(pk=allocation.invoice_id).balance
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        balance.delete()


def test_archived_terms_are_not_published_again():
    version = PlanVersion.objects.filter(pk=make.version().pk)
    version.update(state="archived")
    with pytest.raises(DatabaseError, match="is published"), transaction.atomic():
        version.update(state="published")


def test_credits_are_charged_by_an_entry_only():
    on_plan = make.subscribe(make.customer(make.seller()), make.version(), NOVEMBER[0])
    make.record(make.use(on_plan, "10", NOW))
    charge = Charge.objects.get(subscription=on_plan)
    refused(charge, "charge_credits_have_an_entry", credits=Decimal(1), entry=None)
