"""Invoices: drafted in batches from what is due, approved, numbered and frozen at issue.

Every step is set-based: read in a few queries, decided by the rules on plain values, written by
COPY. A batch is one transaction; the caller decides how big it is and what happens to a customer
whose data is not good enough (a `Parked` outcome, never a broken batch).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import uuid4
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Max
from django.db.models.fields.json import KT

from billing import audit, journal
from billing.bulk import Jsonb, copy_rows, next_ids
from billing.errors import BillingError, IllegalTransition, InvariantBroken, MissingData
from billing.failpoints import failpoint
from billing.models import (
    AuditEvent,
    BilledPeriod,
    Customer,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceLine,
    InvoiceRun,
    InvoiceTax,
    LegalEntity,
    NumberSeries,
    Price,
    Subscription,
    TaxRate,
)
from billing.rules import books, pricing, tax, totals
from billing.rules.due_lines import Item, Line, Running, TooManyPeriods, due_lines
from billing.rules.money import ZERO
from billing.rules.periods import Span
from billing.snapshots import build as build_snapshot
from billing.snapshots import credits_applied


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one customer in a batch."""

    customer_id: int
    state: Literal["drafted", "nothing", "parked"]
    invoice_id: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Composed:
    """An invoice decided but not yet written."""

    customer_id: int
    currency: str
    lines: Sequence[Line]
    decision: tax.Decision
    rates: Sequence[Decimal]  # of each line
    figures: totals.Totals


class TreatmentChanged(BillingError):
    """The customer's tax treatment is no longer that of the draft."""

    code = "treatment_changed"


class Parked(Exception):
    """This customer cannot be billed; the text says why and where to mend it."""


@transaction.atomic
def draft_many(
    customer_ids: Sequence[int],
    *,
    legal_entity_id: int,
    through: date,
    issue_on: date,
    key_prefix: str,
    run_id: int | None = None,
    plan_id: int | None = None,
    created_by_id: int | None = None,
) -> list[Outcome]:
    """Draft one invoice for each customer that owes something by `through` (first day after).

    Nothing is billed twice: a period on any invoice is left out, and the database refuses
    overlaps. `key_prefix` with the customer's id names the draft; a draft that stands is returned.
    """
    standing = {
        customer_id: pk
        for pk, customer_id in Invoice.objects.filter(
            key__in=[f"{key_prefix}:{customer_id}" for customer_id in customer_ids]
        ).values_list("pk", "customer_id")
    }
    reader = _Reader(
        [c for c in customer_ids if c not in standing],
        legal_entity_id=legal_entity_id,
        through=through,
        plan_id=plan_id,
    )
    composed: dict[int, Composed] = {}
    outcomes: dict[int, Outcome] = {
        customer_id: Outcome(customer_id, "drafted", pk) for customer_id, pk in standing.items()
    }
    for customer_id in reader.customers:
        try:
            invoice = reader.compose(customer_id)
        except Parked as parked:
            outcomes[customer_id] = Outcome(customer_id, "parked", reason=str(parked)[:300])
            continue
        if invoice is None:
            outcomes[customer_id] = Outcome(customer_id, "nothing")
        else:
            composed[customer_id] = invoice
    ids = _write_drafts(
        list(composed.values()),
        legal_entity_id=legal_entity_id,
        issue_on=issue_on,
        key_prefix=key_prefix,
        run_id=run_id,
        created_by_id=created_by_id,
    )
    for customer_id, invoice_id in zip(composed, ids, strict=True):
        outcomes[customer_id] = Outcome(customer_id, "drafted", invoice_id)
    return [
        outcomes.get(customer_id, Outcome(customer_id, "nothing")) for customer_id in customer_ids
    ]


class _Reader:
    """Everything a batch needs, read in a fixed number of queries, then composed in Python."""

    def __init__(
        self,
        customer_ids: Sequence[int],
        *,
        legal_entity_id: int,
        through: date,
        plan_id: int | None,
    ) -> None:
        self.through = through
        self.entity = LegalEntity.objects.get(pk=legal_entity_id)
        self.customers = Customer.objects.filter(legal_entity_id=legal_entity_id).in_bulk(
            customer_ids
        )
        subscriptions = Subscription.objects.filter(
            customer_id__in=list(self.customers), started_on__lte=through
        ).select_related("plan_version")
        if plan_id is not None:
            subscriptions = subscriptions.filter(plan_version__plan_id=plan_id)
        self.subscriptions: dict[int, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions.order_by("pk"):
            self.subscriptions[subscription.customer_id].append(subscription)
        ids = [s.pk for many in self.subscriptions.values() for s in many]
        _lock_subscriptions(ids)
        versions = {s.plan_version_id for many in self.subscriptions.values() for s in many}
        self.prices: dict[int, list[Price]] = defaultdict(list)
        self.items: dict[int, Item] = {}
        for price in Price.objects.filter(
            plan_version_id__in=versions, role__in=("fee", "overage")
        ):
            self.prices[price.plan_version_id].append(price)
        self.billed: dict[int, dict[int, list[Span]]] = defaultdict(lambda: defaultdict(list))
        for subscription_id, price_id, period in BilledPeriod.objects.filter(
            subscription_id__in=ids, voided=False
        ).values_list("subscription_id", "price_id", "period"):
            self.billed[subscription_id][price_id].append(Span(period.lower, period.upper))
        self.overage = _overage_by_day(ids, through)
        self.rates = _rates()

    def compose(self, customer_id: int) -> Composed | None:
        """The invoice a customer is owed, or None when there is nothing to bill.

        Raises Parked when its data or prices do not allow one.
        """
        customer = self.customers[customer_id]
        lines = [
            line
            for subscription in self.subscriptions.get(customer_id, ())
            for line in self._lines(customer, subscription)
        ]
        if not lines or not any(line.net for line in lines):
            return None
        return _composed(customer, self.entity, lines, rates=self.rates)

    def _lines(self, customer: Customer, subscription: Subscription) -> list[Line]:
        version = subscription.plan_version
        prices = self.prices[version.pk]
        in_currency = [price for price in prices if price.currency == customer.currency]
        if prices and not in_currency:
            raise Parked(
                f"“{version}” has no price in {customer.currency}. Publish a version with prices "
                "in that currency, or change the customer's currency, then retry."
            )
        used = self.overage.get(subscription.pk, ())
        if used and not any(price.role == Price.Role.OVERAGE for price in in_currency):
            raise Parked(
                f"There is use beyond the credits, but “{version}” has no price for it. "
                "Move the customer to a version that has one, then retry."
            )
        try:
            return due_lines(
                Running(
                    subscription_id=subscription.pk,
                    interval=version.interval,  # type: ignore[arg-type]
                    interval_count=version.interval_count,
                    anchor_on=subscription.anchor_on,
                    started_on=subscription.started_on,
                    ended_on=subscription.ended_on,
                    quantity=subscription.quantity,
                ),
                [self._item(price) for price in in_currency],
                through=self.through,
                billed=self.billed[subscription.pk],
                overage_by_day=used,
                currency=customer.currency,
            )
        except TooManyPeriods as refusal:
            raise Parked(f"{refusal} Look at the subscription, then retry.") from refusal

    def _item(self, price: Price) -> Item:
        if price.pk not in self.items:
            self.items[price.pk] = _item(price)
        return self.items[price.pk]


def _lock_subscriptions(ids: Sequence[int]) -> None:
    """Wait for whoever books use of these subscriptions, and keep others out until commit.

    Metering takes the same rows FOR SHARE before it looks what is billed, so a use is either read
    by this draft or told that its period is closed; it never falls between the two.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM billing_subscription WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
            [sorted(ids)],
        )


Rates = Mapping[str, Sequence[tax.Rate]]  # by country


def _rates() -> Rates:
    found: dict[str, list[tax.Rate]] = defaultdict(list)
    for row in TaxRate.objects.all():
        since = row.valid.lower or date.min
        found[row.country].append(
            tax.Rate(row.country, row.rate, since, row.valid.upper, row.label)
        )
    return found


def _composed(
    customer: Customer,
    entity: LegalEntity,
    lines: Sequence[Line],
    *,
    rates: Rates,
) -> Composed:
    """Decide the tax and the totals of some lines. Raises Parked when no rate is known."""
    decision = _decision(customer, entity)
    line_rates = [_line_rate(line, decision, rates) for line in lines]
    if decision.category == "S" and not any(line_rates):
        decision = replace(decision, category="Z")  # EN 16931: standard rated is above zero
    figures = totals.totals(
        [
            totals.Amount(line.net, decision.category, rate)
            for line, rate in zip(lines, line_rates, strict=True)
        ],
        customer.currency,
    )
    return Composed(customer.pk, customer.currency, lines, decision, line_rates, figures)


def _decision(customer: Customer, entity: LegalEntity) -> tax.Decision:
    """The tax treatment of a customer as its data stand now."""
    return tax.decide(
        tax.Seller(entity.country),
        tax.Buyer(
            customer.country,
            is_business=customer.kind == Customer.Kind.BUSINESS,
            vat_id_valid=bool(customer.vat_id and customer.vat_id_valid_on),
        ),
    )


def _line_rate(line: Line, decision: tax.Decision, rates: Rates) -> Decimal:
    """The rate in force on the last day of the line's supply, also when that is yet to come."""
    if decision.rate_country is None:
        return Decimal(0)
    day = line.supply_to - timedelta(days=1)
    found = tax.rate_on(rates.get(decision.rate_country, ()), decision.rate_country, day)
    if found is None:
        raise Parked(
            f"There is no VAT rate for {decision.rate_country} on {day}. "
            "Add it under Plans & prices, VAT rates, then retry."
        )
    return found


def _taxed_at_issue(line: Line, decision: tax.Decision) -> bool:
    """In advance: the day of issue. Arrears and reverse charge: the last day of service."""
    return line.in_advance and decision.category != "AE"


def _tax_point(line: Line, decision: tax.Decision, issue_on: date) -> date:
    return _point(issue_on, line.supply_to, at_issue=_taxed_at_issue(line, decision))


def _point(issued_on: date, supply_to: date, *, at_issue: bool) -> date:
    """The earlier of issue and the last day of service where issue counts, else the latter."""
    served = supply_to - timedelta(days=1)
    return min(issued_on, served) if at_issue else served


def _item(price: Price) -> Item:
    return Item(
        price_id=price.pk,
        role=price.role,  # type: ignore[arg-type]
        label=price.label,
        product=price.product,
        unit=price.unit_label,
        billed=price.billed,  # type: ignore[arg-type]
        price=pricing.price_from(
            price.model,  # type: ignore[arg-type]
            unit_price=price.unit_price,
            base_quantity=price.base_quantity,
            tiers=price.tiers,
        ),
    )


def _overage_by_day(
    subscription_ids: Sequence[int], through: date
) -> dict[int, list[tuple[date, Decimal]]]:
    """Credits nobody covered, per subscription and day in the customer's zone."""
    sums: dict[int, list[tuple[date, Decimal]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT charge.subscription_id,
                   (charge.occurred_at AT TIME ZONE customer.time_zone)::date AS day,
                   sum(charge.overage)
            FROM billing_charge charge
            JOIN billing_customer customer ON customer.id = charge.customer_id
            WHERE charge.subscription_id = ANY(%s) AND charge.overage > 0
              AND (charge.occurred_at AT TIME ZONE customer.time_zone)::date < %s
            GROUP BY 1, 2 ORDER BY 1, 2
            """,
            [list(subscription_ids), through],
        )
        for subscription_id, day, amount in cursor.fetchall():
            sums[subscription_id].append((day, amount))
    return sums


def _write_drafts(
    invoices: Sequence[Composed],
    *,
    legal_entity_id: int,
    issue_on: date,
    key_prefix: str,
    run_id: int | None,
    created_by_id: int | None,
) -> list[int]:
    ids = next_ids(Invoice, len(invoices)) if invoices else []
    copy_rows(
        Invoice,
        (
            "id",
            "public_id",
            "legal_entity_id",
            "customer_id",
            "kind",
            "state",
            "currency",
            "supply_from",
            "supply_to",
            "net",
            "tax",
            "gross",
            "rounding",
            "payable",
            "run_id",
            "key",
            "notes",
            "created_by_id",
        ),
        (
            (
                pk,
                uuid4(),
                legal_entity_id,
                invoice.customer_id,
                Invoice.Kind.INVOICE.value,
                Invoice.State.DRAFT.value,
                invoice.currency,
                min(line.supply_from for line in invoice.lines),
                max(line.supply_to for line in invoice.lines),
                invoice.figures.net,
                invoice.figures.tax,
                invoice.figures.gross,
                invoice.figures.rounding,
                invoice.figures.payable,
                run_id,
                f"{key_prefix}:{invoice.customer_id}",
                "",
                created_by_id,
            )
            for pk, invoice in zip(ids, invoices, strict=True)
        ),
    )
    copy_rows(
        InvoiceLine,
        (
            "invoice_id",
            "customer_id",
            "position",
            "description",
            "detail",
            "quantity",
            "unit",
            "unit_price",
            "base_quantity",
            "net",
            "tax_category",
            "tax_rate",
            "tax_point_on",
            "product",
            "subscription_id",
            "price_id",
            "supply_from",
            "supply_to",
            "explanation",
        ),
        (
            (
                pk,
                invoice.customer_id,
                position,
                line.description,
                line.detail,
                line.quantity,
                line.unit,
                line.unit_price,
                line.base_quantity,
                line.net,
                invoice.decision.category,
                rate,
                _tax_point(line, invoice.decision, issue_on),
                line.product,
                line.subscription_id or None,
                line.price_id or None,
                line.supply_from,
                line.supply_to,
                Jsonb(line.explanation | {"tax": _tax_explanation(line, invoice.decision, rate)}),
            )
            for pk, invoice in zip(ids, invoices, strict=True)
            for position, (line, rate) in enumerate(
                zip(invoice.lines, invoice.rates, strict=True), start=1
            )
        ),
    )
    copy_rows(
        InvoiceTax,
        (
            "invoice_id",
            "category",
            "rate",
            "country",
            "taxable",
            "tax",
            "reason_code",
            "reason",
        ),
        (
            (
                pk,
                group.category,
                group.rate,
                invoice.decision.rate_country or "",
                group.taxable,
                group.tax,
                invoice.decision.reason_code,
                invoice.decision.reason,
            )
            for pk, invoice in zip(ids, invoices, strict=True)
            for group in invoice.figures.groups
        ),
    )
    copy_rows(
        BilledPeriod,
        ("customer_id", "subscription_id", "price_id", "invoice_id", "period", "voided"),
        (
            (
                invoice.customer_id,
                line.subscription_id,
                line.price_id,
                pk,
                f"[{line.supply_from},{line.supply_to})",
                False,
            )
            for pk, invoice in zip(ids, invoices, strict=True)
            for line in invoice.lines
            if line.subscription_id
        ),
    )
    return ids


def _tax_explanation(line: Line, decision: tax.Decision, rate: Decimal) -> dict[str, str]:
    return {
        "category": decision.category,
        "rate": str(rate),
        "country": decision.rate_country or "",
        "reason": decision.reason_text,
        "reason_code": decision.reason_code,
        "point": "issue" if _taxed_at_issue(line, decision) else "service",
    }


@transaction.atomic
def draft_sale(
    *,
    customer_id: int,
    lines: Sequence[Line],
    issue_on: date,
    key: str,
    created_by_id: int | None = None,
) -> int:
    """Draft an invoice of one-off lines, such as credit packs; the same key gives back the same.

    Raises MissingData when no VAT rate is known.
    """
    customer = Customer.objects.select_related("legal_entity").get(pk=customer_id)
    standing = Invoice.objects.filter(key=f"{key}:{customer_id}").values_list("pk", flat=True)
    if standing:
        return standing[0]
    try:
        invoice = _composed(customer, customer.legal_entity, lines, rates=_rates())
    except Parked as parked:
        raise MissingData(str(parked)) from parked
    return _write_drafts(
        [invoice],
        legal_entity_id=customer.legal_entity_id,
        issue_on=issue_on,
        key_prefix=key,
        run_id=None,
        created_by_id=created_by_id,
    )[0]


@transaction.atomic
def submit_many(invoice_ids: Sequence[int]) -> int:
    """Hand drafts in for review; returns how many."""
    return Invoice.objects.filter(pk__in=invoice_ids, state=Invoice.State.DRAFT).update(
        state=Invoice.State.IN_REVIEW
    )


@transaction.atomic
def approve_many(invoice_ids: Sequence[int], *, approved_by_id: int | None) -> int:
    """Take drafts through review to approved; returns how many. The maker may not be the checker.

    The database refuses an approver who is the author. No approver means a standing policy:
    sales of credits that are paid first need no second person.
    """
    submit_many(invoice_ids)
    return Invoice.objects.filter(pk__in=invoice_ids, state=Invoice.State.IN_REVIEW).update(
        state=Invoice.State.APPROVED, approved_by_id=approved_by_id
    )


@transaction.atomic
def issue_many(
    invoice_ids: Sequence[int],
    *,
    at: datetime,
    issue_on: date | None = None,
    actor_id: int | None = None,
    document_priority: int = 100,
    is_paid: bool = False,
) -> dict[int, str]:
    """Number and freeze approved invoices of one seller; returns number by invoice id.

    In one transaction: snapshot, balance, document waiting to be drawn, journal entry and, last
    and shortest, the numbers from the series row. Already issued ids are passed over, so a repeat
    adds nothing. `issue_on` back-dates within what the series allows; without it the day is today
    in the seller's zone. `is_paid`: the money came first, and the document says so.
    Raises MissingData when a legal particular is missing, TreatmentChanged when the customer's
    tax treatment is no longer the drafted one (nothing is issued then, in both cases) and
    IllegalTransition when an invoice is not approved.
    """
    invoices = list(
        Invoice.objects.select_for_update(of=("self",))
        .filter(pk__in=invoice_ids)
        .exclude(state__in=(Invoice.State.ISSUED, Invoice.State.VOID))
        .select_related("customer")
        .order_by("pk")
    )
    if not invoices:
        return {}
    entity = LegalEntity.objects.get(pk=invoices[0].legal_entity_id)
    if len({(invoice.legal_entity_id, invoice.kind) for invoice in invoices}) != 1:
        raise InvariantBroken("one batch issues documents of one seller and one kind")
    for invoice in invoices:
        if invoice.state != Invoice.State.APPROVED:
            raise IllegalTransition(
                subject=f"Invoice draft {invoice.pk}", state=invoice.state, target="issued"
            )
        missing = missing_for_issue(invoice.customer, entity)
        if missing:
            raise MissingData(missing)
    issued_on = _day_of_issue(entity, at, issue_on)
    lines, groups = _lines_of(invoices), _groups_of(invoices)
    for invoice in invoices:
        changes = treatment_changes(invoice, entity, groups[invoice.pk])
        if changes:
            raise TreatmentChanged(changes)
    runs = InvoiceRun.objects.in_bulk({i.run_id for i in invoices if i.run_id})
    applied = credits_applied(
        {
            i.pk: (i.customer_id, _days_of_use(runs.get(i.run_id or 0), lines[i.pk]))
            for i in invoices
        }
    )
    terms = {
        invoice.pk: invoice.customer.payment_terms_days
        if invoice.customer.payment_terms_days is not None
        else entity.payment_terms_days
        for invoice in invoices
    }
    due_on = {pk: issued_on + timedelta(days=days) for pk, days in terms.items()}
    snapshots = [
        build_snapshot(
            invoice,
            entity=entity,
            customer=invoice.customer,
            lines=lines[invoice.pk],
            groups=groups[invoice.pk],
            issued_on=issued_on,
            due_on=due_on[invoice.pk],
            terms_days=terms[invoice.pk],
            credits=applied.get(invoice.pk),
            paid=invoice.payable if is_paid else ZERO,
        )
        for invoice in invoices
    ]
    copy_rows(
        InvoiceBalance,
        ("invoice_id", "customer_id", "currency", "due_on", "due"),
        ((i.pk, i.customer_id, i.currency, due_on[i.pk], i.payable) for i in invoices),
    )
    copy_rows(
        InvoiceDocument,
        (
            "invoice_id",
            "customer_id",
            "kind",
            "state",
            "priority",
            "attempts",
            "reason",
            "storage_name",
            "sha256",
            "template_version",
        ),
        (
            (i.pk, i.customer_id, "pdf", "waiting", document_priority, 0, "", "", "", "")
            for i in invoices
        ),
    )
    journal.post_many(
        [
            journal.Draft(
                key=f"invoice:{invoice.pk}:issued",
                recipe="invoice_issued",
                legal_entity_id=entity.pk,
                currency=invoice.currency,
                booked_on=issued_on,
                customer_id=invoice.customer_id,
                invoice_id=invoice.pk,
                legs=books.invoice_issued(
                    payable=invoice.payable,
                    lines=[(f"line:{line.pk}", line.net) for line in lines[invoice.pk]],
                    taxes=[(f"{g.category} {g.rate}", g.tax) for g in groups[invoice.pk]],
                    rounding=invoice.rounding,
                    tax_due_on=entity.vat_due,  # type: ignore[arg-type]
                ),
            )
            for invoice in invoices
            if invoice.payable or invoice.net
        ]
    )
    _audit_issue(invoices, actor_id)
    tax_points = _dated(lines, issued_on)
    failpoint("issue.before_numbers")
    numbers = _take_numbers(entity, invoices[0].kind, issued_on, len(invoices))
    failpoint("issue.after_number")
    # One JSON value: an array of a thousand snapshots would be escaped quote by quote.
    fresh = [
        {
            "id": invoice.pk,
            "sequence": sequence,
            "number": number,
            "due_on": due_on[invoice.pk].isoformat(),
            "tax_point_on": tax_points[invoice.pk].isoformat(),
            "snapshot": snapshot | {"number": number},
        }
        for invoice, sequence, number, snapshot in zip(
            invoices, numbers.sequences, numbers.texts, snapshots, strict=True
        )
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE billing_invoice AS invoice
            SET state = 'issued', series_id = %s, sequence = fresh.sequence,
                number = fresh.number, issued_on = %s, due_on = fresh.due_on, issued_at = %s,
                tax_point_on = fresh.tax_point_on,
                snapshot = fresh.snapshot
            FROM jsonb_to_recordset(%s::jsonb) AS fresh (
                id bigint, sequence int, number text, due_on date, tax_point_on date,
                snapshot jsonb)
            WHERE invoice.id = fresh.id
            """,
            [numbers.series_id, issued_on, at, json.dumps(fresh)],
        )
        if cursor.rowcount != len(invoices):
            raise InvariantBroken(f"{cursor.rowcount} of {len(invoices)} invoices took a number")
    return dict(zip([i.pk for i in invoices], numbers.texts, strict=True))


def _dated(lines: Mapping[int, list[Any]], issued_on: date) -> Mapping[int, date]:
    """The tax point of each invoice. What is billed in advance has its own on the day of issue,
    whatever the draft said."""
    points: dict[int, date] = {}
    moved: dict[date, list[int]] = defaultdict(list)
    for invoice_id, many in lines.items():
        for line in many:
            point = line.tax_point_on
            if line.taxed_at == "issue":
                point = _point(issued_on, line.supply_to, at_issue=True)
                if point != line.tax_point_on:
                    moved[point].append(line.pk)
            points[invoice_id] = max(point, points.get(invoice_id, point))
    for point, ids in moved.items():
        InvoiceLine.objects.filter(pk__in=ids).update(tax_point_on=point)
    return points


def treatment_changes(invoice: Invoice, entity: LegalEntity, groups: Sequence[InvoiceTax]) -> str:
    """How the customer's tax treatment differs from what the draft was made with; empty: not."""
    now = _decision(invoice.customer, entity)
    category = {"Z": "S"}
    drafted = {
        (category.get(group.category, group.category), group.country, group.reason)
        for group in groups
    }
    if drafted <= {(now.category, now.rate_country or "", now.reason)}:
        return ""
    was = ", ".join(sorted({group.category for group in groups}))
    return (
        f"Its tax treatment changed from {was} to {now.category} since it was drafted. "
        "Retry the run: it is drafted and reviewed again."
    )


@transaction.atomic
def discard_many(invoice_ids: Sequence[int], *, actor_id: int | None, reason: str) -> int:
    """Take back drafts that were never issued; their periods can be billed again.

    Returns how many. Issued invoices are passed over: they are corrected by a credit note.
    """
    drafts = list(
        Invoice.objects.select_for_update()
        .filter(pk__in=invoice_ids)
        .exclude(state__in=(Invoice.State.ISSUED, Invoice.State.VOID))
    )
    ids = [draft.pk for draft in drafts]
    Invoice.objects.filter(pk__in=ids).exclude(state=Invoice.State.DRAFT).update(
        state=Invoice.State.DRAFT, approved_by=None
    )
    BilledPeriod.objects.filter(invoice_id__in=ids).delete()
    InvoiceTax.objects.filter(invoice_id__in=ids).delete()
    InvoiceLine.objects.filter(invoice_id__in=ids).delete()
    Invoice.objects.filter(pk__in=ids).delete()
    for draft in drafts:
        audit.record(
            "draft discarded",
            subject=f"invoice:{draft.pk}",
            actor_id=actor_id,
            customer_id=draft.customer_id,
            reason=reason,
            before={"state": draft.state, "payable": str(draft.payable), "key": draft.key},
        )
    return len(drafts)


def missing_for_issue(customer: Customer, entity: LegalEntity) -> str:
    """What the law wants on the document and the data lacks, as a sentence; empty when complete."""
    wanted = (
        (customer.name, "the customer's name"),
        (customer.street, "the customer's street"),
        (customer.city, "the customer's town"),
        (customer.country, "the customer's country"),
        (entity.legal_name, "the seller's legal name"),
        (entity.street, "the seller's street"),
        (entity.city, "the seller's town"),
        (entity.country, "the seller's country"),
        (entity.vat_id, "the seller's VAT ID"),
    )
    missing = [name for value, name in wanted if not value.strip()]
    if not missing:
        return ""
    return f"Fill in {', '.join(missing)} first; an invoice must show it by law."


@dataclass(frozen=True, slots=True)
class _Numbers:
    series_id: int
    sequences: list[int]
    texts: list[str]


def _take_numbers(entity: LegalEntity, kind: str, issued_on: date, count: int) -> _Numbers:
    """Take `count` numbers from the series row, locked until commit: gapless, dates monotone."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_numberseries AS series
                (legal_entity_id, kind, year, pattern, next_number, last_issued_on)
            VALUES (%s, %s, %s, %s, 1 + %s, %s)
            ON CONFLICT (legal_entity_id, kind, year) DO UPDATE
            SET next_number = series.next_number + %s, last_issued_on = excluded.last_issued_on
            WHERE series.last_issued_on IS NULL
               OR series.last_issued_on <= excluded.last_issued_on
            RETURNING id, next_number - %s, pattern
            """,
            [
                entity.pk,
                kind,
                issued_on.year,
                NumberSeries._meta.get_field("pattern").get_default(),
                count,
                issued_on,
                count,
                count,
            ],
        )
        taken = cursor.fetchone()
    last_on = last_issue(entity.pk, kind)
    if taken is None or (last_on is not None and issued_on < last_on):
        raise MissingData(
            f"The last document of {entity.name} is dated {last_on}; none can be dated {issued_on}."
        )
    series_id, first, pattern = taken
    sequences = list(range(first, first + count))
    prefix = entity.code if kind == Invoice.Kind.INVOICE else f"{entity.code}-CN"
    return _Numbers(
        series_id,
        sequences,
        [pattern.format(prefix=prefix, year=issued_on.year, n=n) for n in sequences],
    )


def last_issue(legal_entity_id: int, kind: str) -> date | None:
    """The last date given: no document of its kind may be dated before it, in whatever year."""
    return NumberSeries.objects.filter(legal_entity_id=legal_entity_id, kind=kind).aggregate(
        last=Max("last_issued_on")
    )["last"]


def _day_of_issue(entity: LegalEntity, at: datetime, issue_on: date | None) -> date:
    today = at.astimezone(ZoneInfo(entity.time_zone)).date()
    if issue_on is None:
        return today
    if issue_on > today:
        raise MissingData(f"An invoice cannot be dated in the future ({issue_on}).")
    return issue_on


# What issuing reads of lines and VAT groups: plain rows, because models cost twice the time.
_LINE_FIELDS: Final = (
    "pk",
    "invoice_id",
    "position",
    "description",
    "detail",
    "quantity",
    "unit",
    "unit_price",
    "base_quantity",
    "net",
    "tax_category",
    "tax_rate",
    "tax_point_on",
    "supply_from",
    "supply_to",
)
_GROUP_FIELDS: Final = (
    "invoice_id",
    "category",
    "rate",
    "country",
    "taxable",
    "tax",
    "reason_code",
    "reason",
)


def _lines_of(invoices: Iterable[Invoice]) -> Mapping[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for line in (
        InvoiceLine.objects.filter(invoice_id__in=[i.pk for i in invoices])
        .order_by("invoice_id", "position")
        .annotate(role=KT("explanation__role"), taxed_at=KT("explanation__tax__point"))
        .values_list(*_LINE_FIELDS, "role", "taxed_at", named=True)
    ):
        found[line.invoice_id].append(line)
    return found


def _groups_of(invoices: Iterable[Invoice]) -> Mapping[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for group in (
        InvoiceTax.objects.filter(invoice_id__in=[i.pk for i in invoices])
        .order_by("invoice_id", "category", "-rate")
        .values_list(*_GROUP_FIELDS, named=True)
    ):
        found[group.invoice_id].append(group)
    return found


def _days_of_use(run: InvoiceRun | None, lines: Sequence[Any]) -> Span | None:
    """The days whose credits the annex shows: those of the use billed, else of the run."""
    used = [line for line in lines if line.role == "overage"]
    if used:
        return Span(min(x.supply_from for x in used), max(x.supply_to for x in used))
    return None if run is None else Span(run.period.lower, run.period.upper)


def _audit_issue(invoices: Sequence[Invoice], actor_id: int | None) -> None:
    copy_rows(
        AuditEvent,
        (
            "customer_id",
            "actor_id",
            "action",
            "subject",
            "reason",
            "request_id",
            "before",
            "after",
        ),
        (
            (
                invoice.customer_id,
                actor_id,
                "invoice issued",
                f"invoice:{invoice.pk}",
                "",
                "",
                Jsonb({"state": "approved"}),
                Jsonb({"state": "issued", "payable": str(invoice.payable)}),
            )
            for invoice in invoices
        ),
    )
