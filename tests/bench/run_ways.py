"""Two other ways to bill a month, into the same tables: as one writes it first, and in bulk.

Both make everything the product makes: lines, VAT, what was billed, number, snapshot with the
credits applied, balance, waiting document, journal entry and audit row. They bill full months of
plans with unit prices, which is all the benchmark needs.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateRange
from django.db.models import Sum

from billing.models import (
    AuditEvent,
    BilledPeriod,
    Charge,
    Customer,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceLine,
    InvoiceTax,
    JournalEntry,
    LegalEntity,
    NumberSeries,
    Posting,
    Price,
    Subscription,
    TaxRate,
)
from billing.rules import books, totals
from billing.rules.periods import Span
from billing.snapshots import build, credits_applied


def naive(customer_ids: Iterable[int], period: Span, at: datetime) -> None:
    """One invoice at a time, one row at a time."""
    for customer_id in customer_ids:
        with transaction.atomic():
            _bill(customer_id, period, at)


def _bill(customer_id: int, period: Span, at: datetime) -> None:
    customer = Customer.objects.select_related("legal_entity").get(pk=customer_id)
    entity = customer.legal_entity
    lines = []
    for subscription in Subscription.objects.filter(customer=customer):
        for price in Price.objects.filter(
            plan_version=subscription.plan_version, role__in=("fee", "overage")
        ):
            if BilledPeriod.objects.filter(
                subscription=subscription,
                price=price,
                voided=False,
                period__overlap=DateRange(period.start, period.end),
            ).exists():
                continue
            quantity: Decimal | None = Decimal(subscription.quantity)
            if price.role == "overage":
                quantity = Charge.objects.filter(
                    subscription=subscription,
                    occurred_at__date__gte=period.start,
                    occurred_at__date__lt=period.end,
                ).aggregate(total=Sum("overage"))["total"]
            if quantity:
                lines.append(_line(customer_id, subscription, price, quantity, period))
    rate = TaxRate.objects.get(country=entity.country, valid__contains=period.end).rate
    invoice, group = _invoice(customer, lines, rate, period)
    invoice.save()
    for line in lines:
        line.invoice, line.tax_rate = invoice, rate
        line.save()
        _billed(line, period).save()
    group.invoice = invoice
    group.save()
    for state in ("in_review", "approved"):
        invoice.state = state
        invoice.save()
    series, _ = NumberSeries.objects.select_for_update().get_or_create(
        legal_entity=entity, kind="invoice", year=period.end.year
    )
    applied = credits_applied({invoice.pk: (customer_id, period)})
    _issue(invoice, series, lines, group, applied.get(invoice.pk), period, at)
    series.save()
    InvoiceBalance.objects.create(
        invoice=invoice,
        customer=customer,
        currency=invoice.currency,
        due_on=invoice.due_on,
        due=invoice.payable,
    )
    InvoiceDocument.objects.create(invoice=invoice, customer=customer)
    entry, postings = _entry(invoice, lines, group)
    entry.save()
    Posting.objects.bulk_create(postings)  # the guard wants them in one statement
    AuditEvent.objects.create(
        customer=customer, action="invoice issued", subject=f"invoice:{invoice.pk}"
    )
    invoice.save()


@transaction.atomic
def bulk(customer_ids: Sequence[int], period: Span, at: datetime) -> None:
    """A batch with `bulk_create` and `bulk_update`, everything prefetched."""
    customers = Customer.objects.select_related("legal_entity").in_bulk(customer_ids)
    subscriptions: dict[int, list[Subscription]] = defaultdict(list)
    for subscription in Subscription.objects.filter(customer__in=customer_ids):
        subscriptions[subscription.customer_id].append(subscription)
    of_version: dict[int, list[Price]] = defaultdict(list)
    for price in Price.objects.filter(role__in=("fee", "overage")):
        of_version[price.plan_version_id].append(price)
    ids = [s.pk for many in subscriptions.values() for s in many]
    billed = set(
        BilledPeriod.objects.filter(
            subscription__in=ids,
            voided=False,
            period__overlap=DateRange(period.start, period.end),
        ).values_list("subscription_id", "price_id")
    )
    overage = dict(
        Charge.objects.filter(
            subscription__in=ids,
            occurred_at__date__gte=period.start,
            occurred_at__date__lt=period.end,
        )
        .values_list("subscription_id")
        .annotate(total=Sum("overage"))
        .order_by()
    )
    entity = LegalEntity.objects.get(customers=customer_ids[0])
    rate = TaxRate.objects.get(country=entity.country, valid__contains=period.end).rate
    lines = {
        customer_id: [
            _line(customer_id, subscription, price, quantity, period)
            for subscription in subscriptions[customer_id]
            for price in of_version[subscription.plan_version_id]
            if (subscription.pk, price.pk) not in billed
            and (
                quantity := Decimal(subscription.quantity)
                if price.role == "fee"
                else overage.get(subscription.pk, Decimal(0))
            )
        ]
        for customer_id in customers
    }
    made = [_invoice(who, lines[pk], rate, period) for pk, who in customers.items()]
    invoices = Invoice.objects.bulk_create([invoice for invoice, _ in made])
    for invoice, group in made:
        group.invoice = invoice
        for line in lines[invoice.customer_id]:
            line.invoice, line.tax_rate = invoice, rate
    flat = InvoiceLine.objects.bulk_create([x for many in lines.values() for x in many])
    BilledPeriod.objects.bulk_create([_billed(line, period) for line in flat])
    InvoiceTax.objects.bulk_create([group for _, group in made])
    for state in ("in_review", "approved"):
        Invoice.objects.filter(pk__in=[i.pk for i in invoices]).update(state=state)
    series, _ = NumberSeries.objects.select_for_update().get_or_create(
        legal_entity=entity, kind="invoice", year=period.end.year
    )
    applied = credits_applied({i.pk: (i.customer_id, period) for i in invoices})
    entries, postings = [], []
    for invoice, group in made:
        mine = lines[invoice.customer_id]
        _issue(invoice, series, mine, group, applied.get(invoice.pk), period, at)
        entry, parts = _entry(invoice, mine, group)
        entries.append(entry)
        postings.append(parts)
    series.save()
    InvoiceBalance.objects.bulk_create(
        InvoiceBalance(
            invoice=i,
            customer_id=i.customer_id,
            currency=i.currency,
            due_on=i.due_on,
            due=i.payable,
        )
        for i in invoices
    )
    InvoiceDocument.objects.bulk_create(
        InvoiceDocument(invoice=i, customer_id=i.customer_id) for i in invoices
    )
    JournalEntry.objects.bulk_create(entries)
    Posting.objects.bulk_create([posting for parts in postings for posting in parts])
    AuditEvent.objects.bulk_create(
        AuditEvent(customer_id=i.customer_id, action="invoice issued", subject=f"invoice:{i.pk}")
        for i in invoices
    )
    Invoice.objects.bulk_update(
        invoices,
        [
            "state",
            "series",
            "sequence",
            "number",
            "issued_on",
            "due_on",
            "issued_at",
            "tax_point_on",
            "snapshot",
        ],
    )


def _line(
    customer_id: int, subscription: Subscription, price: Price, quantity: Decimal, period: Span
) -> InvoiceLine:
    net = totals.line_net(
        quantity, price.unit_price or Decimal(0), "EUR", base_quantity=price.base_quantity
    )
    return InvoiceLine(
        customer_id=customer_id,
        description=price.label,
        quantity=quantity,
        unit=price.unit_label,
        unit_price=price.unit_price,
        base_quantity=price.base_quantity,
        net=net,
        tax_category="S",
        tax_point_on=period.end - timedelta(days=1),
        product=price.product,
        subscription=subscription,
        price=price,
        supply_from=period.start,
        supply_to=period.end,
        explanation={
            "role": price.role,
            "net": str(net),
            "price_id": price.pk,
            "credits_beyond_grants": str(quantity),
        },
    )


def _invoice(
    customer: Customer, lines: Sequence[InvoiceLine], rate: Decimal, period: Span
) -> tuple[Invoice, InvoiceTax]:
    for position, line in enumerate(lines, start=1):
        line.position = position
    figures = totals.totals([totals.Amount(line.net, "S", rate) for line in lines], "EUR")
    invoice = Invoice(
        legal_entity=customer.legal_entity,
        customer=customer,
        currency="EUR",
        supply_from=period.start,
        supply_to=period.end,
        net=figures.net,
        tax=figures.tax,
        gross=figures.gross,
        payable=figures.payable,
        key=f"way:{customer.pk}:{period.start}",
    )
    group = InvoiceTax(
        category="S",
        rate=rate,
        country=customer.country,
        taxable=figures.net,
        tax=figures.tax,
    )
    return invoice, group


def _billed(line: InvoiceLine, period: Span) -> BilledPeriod:
    return BilledPeriod(
        customer_id=line.customer_id,
        subscription_id=line.subscription_id,
        price_id=line.price_id,
        invoice=line.invoice,
        period=DateRange(period.start, period.end),
    )


def _issue(
    invoice: Invoice,
    series: NumberSeries,
    lines: Sequence[InvoiceLine],
    group: InvoiceTax,
    credits: dict[str, object] | None,
    period: Span,
    at: datetime,
) -> None:
    """Number and freeze in memory."""
    issued_on: date = period.end
    entity = invoice.legal_entity
    invoice.series, invoice.sequence = series, series.next_number
    series.next_number += 1
    series.last_issued_on = issued_on
    invoice.number = f"{entity.code}-{issued_on.year}-{invoice.sequence:06}"
    invoice.state, invoice.issued_on, invoice.issued_at = "issued", issued_on, at
    invoice.due_on = issued_on + timedelta(days=entity.payment_terms_days)
    invoice.tax_point_on = lines[0].tax_point_on
    invoice.snapshot = build(
        invoice,
        entity=entity,
        customer=invoice.customer,
        lines=lines,
        groups=[group],
        issued_on=issued_on,
        due_on=invoice.due_on,
        terms_days=entity.payment_terms_days,
        credits=credits,
    ) | {"number": invoice.number}


def _entry(
    invoice: Invoice, lines: Sequence[InvoiceLine], group: InvoiceTax
) -> tuple[JournalEntry, list[Posting]]:
    entry = JournalEntry(
        legal_entity=invoice.legal_entity,
        customer=invoice.customer,
        invoice=invoice,
        key=f"invoice:{invoice.pk}:issued",
        recipe="invoice_issued",
        currency="EUR",
        booked_on=invoice.issued_on,
        fingerprint="x",
    )
    legs = books.invoice_issued(
        payable=invoice.payable,
        lines=[(f"line:{line.pk}", line.net) for line in lines],
        taxes=[(f"S {group.rate}", group.tax)],
    )
    return entry, [
        Posting(entry=entry, account=leg.account, amount=leg.amount, source=leg.source)
        for leg in legs
    ]
