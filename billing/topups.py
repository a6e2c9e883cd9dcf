"""Credit packs: money first, then one transaction with invoice, payment and grant."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from django.db import transaction

from billing import audit, invoicing, ledger, payments
from billing.errors import IdempotencyConflict, MissingData
from billing.models import CreditGrant, CreditPack, Customer, Invoice, InvoiceLine, Payment
from billing.rules.due_lines import Line
from billing.rules.periods import add_months
from billing.rules.totals import line_net
from billing.rules.zones import begins, day_in


@dataclass(frozen=True, slots=True)
class Sale:
    """A pack sold: its invoice, the payment that settled it and the grant it bought."""

    invoice_id: int
    number: str
    payment_id: int
    grant_id: int
    credits: Decimal


@transaction.atomic
def buy_packs(
    *,
    customer_id: int,
    pack_id: int,
    count: int,
    at: datetime,
    method: str,
    reference: str,
    key: str,
    actor: str,
    actor_id: int | None = None,
    request_id: str = "",
    sold_on: date | None = None,
) -> Sale:
    """Sell `count` packs against money that has arrived, as books.md "pay first" says.

    The invoice is dated the day the money came, in the seller's zone, or `sold_on` where the
    series has moved on since; the credits count from `at` all the same. The grant's cost is the
    invoice line's net. The same `key` sells once, whenever it is repeated.
    Raises MissingData when the pack is not on sale in the customer's currency or the customer's
    particulars do not allow an invoice, IdempotencyConflict when the key sold something else.
    """
    # The customer's balance is locked before the number series, as everywhere.
    ledger.expire(customer_id, at=at, request_id=request_id or f"pack:{key}")
    sold = _sold(customer_id, key, pack_id, count)
    if sold is not None:
        return sold
    customer = Customer.objects.select_related("legal_entity").get(pk=customer_id)
    pack = CreditPack.objects.get(pk=pack_id)
    if pack.currency != customer.currency or not pack.is_active or count < 1:
        raise MissingData(f"{pack.name} is not on sale in {customer.currency}.")
    zone = customer.legal_entity.time_zone
    sold_on = sold_on or day_in(at, zone)
    invoice_id = invoicing.draft_sale(
        customer_id=customer_id,
        lines=[_line(pack, count, sold_on, customer.currency)],
        issue_on=sold_on,
        key=f"pack:{key}",
    )
    invoicing.approve_many([invoice_id], approved_by_id=None)
    invoicing.issue_many(
        [invoice_id],
        at=max(at, begins(sold_on, zone)),
        issue_on=sold_on,
        actor_id=actor_id,
        document_priority=200,
        is_paid=True,
    )
    invoice = Invoice.objects.get(pk=invoice_id)
    line = InvoiceLine.objects.get(invoice=invoice, position=1)
    payment = payments.record(
        customer_id=customer_id,
        currency=invoice.currency,
        amount=invoice.payable,
        received_on=sold_on,
        method=method,
        reference=reference,
        key=f"pack:{key}:{customer_id}",
        recorded_by_id=actor_id,
        payer=customer.name,
        allocate={invoice_id: invoice.payable},
    )
    granted = ledger.grant(
        customer_id=customer_id,
        kind="purchased",
        amount=pack.credits * count,
        at=at,
        effective_at=at,
        expires_at=_expiry(at, pack.valid_months),
        label=pack.name,
        cost_total=line.net,
        currency=invoice.currency,
        tax_treatment="single",
        sale_line_id=line.pk,
        key=f"pack:{key}",
        actor=actor,
        reason=f"bought on {invoice.number}",
        request_id=request_id or f"pack:{key}",
    )
    audit.record(
        "credit packs sold",
        subject=f"invoice:{invoice_id}",
        actor_id=actor_id,
        customer_id=customer_id,
        after={"pack": pack.code, "count": count, "credits": str(pack.credits * count)},
    )
    return Sale(
        invoice_id, invoice.number or "", payment.pk, granted.grant_id, pack.credits * count
    )


def _sold(customer_id: int, key: str, pack_id: int, count: int) -> Sale | None:
    """The sale a key made before, if any; asked under the customer's lock."""
    line = (
        InvoiceLine.objects.filter(invoice__key=f"pack:{key}:{customer_id}", position=1)
        .select_related("invoice")
        .first()
    )
    if line is None:
        return None
    pack = CreditPack.objects.get(pk=pack_id)
    if (line.explanation["pack"], line.explanation["count"]) != (pack.code, count):
        raise IdempotencyConflict(f"{key} was already used for another sale")
    return Sale(
        line.invoice_id,
        line.invoice.number or "",
        Payment.objects.get(key=line.invoice.key).pk,
        CreditGrant.objects.get(customer_id=customer_id, sale_line_id=line.pk).pk,
        Decimal(line.explanation["credits_each"]) * count,
    )


def _line(pack: CreditPack, count: int, sold_on: date, currency: str) -> Line:
    net = line_net(count, pack.price, currency)
    return Line(
        subscription_id=0,
        price_id=0,
        description=pack.name,
        product="credit-packs",
        quantity=Decimal(count),
        unit="pack",
        unit_price=pack.price,
        base_quantity=1,
        net=net,
        supply_from=sold_on,
        supply_to=date.fromordinal(sold_on.toordinal() + 1),
        in_advance=True,
        explanation={
            "role": "pack",
            "pack": pack.code,
            "credits_each": str(pack.credits),
            "count": count,
            "net": str(net),
            "currency": currency,
        },
    )


def _expiry(at: datetime, months: int) -> datetime:
    """The instant `months` later, its day clipped to the month's end."""
    return datetime.combine(add_months(at.date(), months), at.timetz())
