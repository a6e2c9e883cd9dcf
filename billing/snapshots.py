"""What a document prints, copied once at issue; documents draw from this and nothing else."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.db import connection

from billing.models import Customer, Invoice, LegalEntity
from billing.rules import tax
from billing.rules.money import ZERO, plain, quantize
from billing.rules.periods import Span

SCHEMA: Final = 1
_SELLER: Final = (
    "code",
    "name",
    "legal_name",
    "street",
    "postal_code",
    "city",
    "region",
    "country",
    "vat_id",
    "registration",
    "directors",
    "email",
    "phone",
    "iban",
    "bic",
    "bank_name",
    "accent",
    "footer",
)
_BUYER: Final = (
    "code",
    "name",
    "attention",
    "street",
    "postal_code",
    "city",
    "region",
    "country",
    "vat_id",
    "purchase_order",
    "buyer_reference",
)


def build(
    invoice: Invoice,
    *,
    entity: LegalEntity,
    customer: Customer,
    lines: Sequence[Any],
    groups: Sequence[Any],
    issued_on: date,
    due_on: date,
    terms_days: int,
    credits: Mapping[str, Any] | None,
    paid: Decimal = ZERO,
) -> dict[str, Any]:
    """Everything printed, as JSON values: decimals and dates are text, spans half-open.

    lines, groups: rows with the fields of InvoiceLine and InvoiceTax.
    paid: what had come before the issue; the rest is payable.
    The number is missing: the issuing statement adds it when the series gives it.
    """

    def coins(amount: Decimal) -> str:
        return f"{quantize(amount, invoice.currency):f}"

    return {
        "schema": SCHEMA,
        "kind": invoice.kind,
        "number": "",
        "issued_on": issued_on.isoformat(),
        "due_on": due_on.isoformat(),
        "supply_from": invoice.supply_from.isoformat(),
        "supply_to": invoice.supply_to.isoformat(),
        "language": customer.language,
        "currency": invoice.currency,
        "is_demo": entity.is_demo,
        "corrects": None,
        "seller": {name: getattr(entity, name) for name in _SELLER},
        "buyer": {name: getattr(customer, name) for name in _BUYER} | {"contract": ""},
        "lines": [
            {
                "position": line.position,
                "description": line.description,
                "detail": line.detail,
                "period_from": line.supply_from.isoformat(),
                "period_to": line.supply_to.isoformat(),
                "quantity": plain(line.quantity),
                "unit": line.unit,
                "unit_price": plain(line.unit_price),
                "base_quantity": str(line.base_quantity),
                "tax_category": line.tax_category,
                "tax_rate": plain(line.tax_rate),
                "net": coins(line.net),
            }
            for line in lines
        ],
        "taxes": [
            {
                "category": group.category,
                "rate": plain(group.rate),
                "country": group.country,
                "taxable": coins(group.taxable),
                "tax": coins(group.tax),
                "reason_code": group.reason_code,
                "reason": tax.REASONS[group.reason],
                "reason_key": group.reason,
            }
            for group in groups
        ],
        "net": coins(invoice.net),
        "tax": coins(invoice.tax),
        "gross": coins(invoice.gross),
        "rounding": coins(invoice.rounding),
        "paid": coins(paid),
        "payable": coins(invoice.payable - paid),
        "terms_days": terms_days,
        "credits": credits,
        "notes": invoice.notes,
    }


def credits_applied(
    spans: Mapping[int, tuple[int, Span | None]],
) -> dict[int, dict[str, Any]]:
    """Per invoice, what each grant paid in its span of days, for the annex.

    spans: invoice id to (customer id, days whose use it covers). An invoice without use is absent.
    """
    wanted = [(pk, customer, span) for pk, (customer, span) in spans.items() if span is not None]
    if not wanted:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH wanted AS (
                SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::date[], %s::date[])
                    AS w (invoice_id, customer_id, from_on, to_on)
            ), used AS (
                -- What was given back counts against what was taken; what expired, was voided or
                -- repaid a debt is gone without having been used.
                SELECT w.invoice_id, part.grant_id,
                       sum(CASE WHEN entry.kind = 'reverse' THEN -part.amount ELSE part.amount END)
                         FILTER (
                           WHERE (entry.occurred_at AT TIME ZONE c.time_zone)::date < w.from_on
                       ) AS before,
                       sum(CASE WHEN entry.kind = 'reverse' THEN -part.amount ELSE part.amount END)
                         FILTER (
                           WHERE (entry.occurred_at AT TIME ZONE c.time_zone)::date >= w.from_on
                             AND entry.kind IN ('spend', 'settle', 'reverse')
                       ) AS taken,
                       coalesce(sum(part.amount) FILTER (
                           WHERE (entry.occurred_at AT TIME ZONE c.time_zone)::date >= w.from_on
                             AND entry.kind IN ('expire', 'void', 'repay')
                       ), 0) AS gone
                FROM wanted w
                JOIN billing_customer c ON c.id = w.customer_id
                JOIN billing_ledgerentry entry ON entry.customer_id = w.customer_id
                JOIN billing_ledgerpart part ON part.entry_id = entry.id
                WHERE entry.kind IN ('spend', 'settle', 'reverse', 'expire', 'void', 'repay')
                  AND part.grant_id IS NOT NULL
                  AND (entry.occurred_at AT TIME ZONE c.time_zone)::date < w.to_on
                GROUP BY 1, 2
            )
            SELECT used.invoice_id, g.id, g.kind, g.label,
                   (g.effective_at AT TIME ZONE c.time_zone)::date,
                   -- the last day it pays for, since it ends at an instant that is no more its own
                   ((g.expires_at - interval '1 microsecond') AT TIME ZONE c.time_zone)::date,
                   g.amount, coalesce(used.before, 0), used.taken, used.gone
            FROM used
            JOIN billing_creditgrant g ON g.id = used.grant_id
            JOIN billing_customer c ON c.id = g.customer_id
            WHERE used.taken > 0
            ORDER BY used.invoice_id, g.priority, g.expires_at NULLS LAST, g.id
            """,
            [
                [pk for pk, _, _ in wanted],
                [customer for _, customer, _ in wanted],
                [span.start for _, _, span in wanted],
                [span.end for _, _, span in wanted],
            ],
        )
        rows = cursor.fetchall()
        cursor.execute(
            """
            SELECT w.invoice_id, coalesce(sum(charge.overage), 0)
            FROM unnest(%s::bigint[], %s::bigint[], %s::date[], %s::date[])
                 AS w (invoice_id, customer_id, from_on, to_on)
            JOIN billing_customer c ON c.id = w.customer_id
            JOIN billing_charge charge ON charge.customer_id = w.customer_id
             AND (charge.occurred_at AT TIME ZONE c.time_zone)::date >= w.from_on
             AND (charge.occurred_at AT TIME ZONE c.time_zone)::date < w.to_on
            GROUP BY 1
            """,
            [
                [pk for pk, _, _ in wanted],
                [customer for _, customer, _ in wanted],
                [span.start for _, _, span in wanted],
                [span.end for _, _, span in wanted],
            ],
        )
        overage = dict(cursor.fetchall())
    return _annexes(wanted, rows, overage)


def _annexes(
    wanted: Iterable[tuple[int, int, Span]],
    rows: Iterable[tuple[Any, ...]],
    overage: Mapping[int, Decimal],
) -> dict[int, dict[str, Any]]:
    grants: dict[int, list[dict[str, Any]]] = defaultdict(list)
    covered: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for pk, grant_id, kind, label, granted_on, expires_on, amount, before, taken, gone in rows:
        covered[pk] += taken
        grants[pk].append(
            {
                "kind": kind,
                "label": label,
                "reference": f"G-{grant_id}",
                "granted_on": granted_on.isoformat(),
                "before": plain(amount - before),
                "taken": plain(taken),
                "left": plain(amount - before - taken - gone),
                "expires_on": expires_on.isoformat() if expires_on else None,
            }
        )
    return {
        pk: {
            "from": span.start.isoformat(),
            "to": span.end.isoformat(),
            "used": plain(covered[pk] + overage.get(pk, ZERO)),
            "covered": plain(covered[pk]),
            "overage": plain(overage.get(pk, ZERO)),
            "grants": grants[pk],
        }
        for pk, _, span in wanted
        if pk in grants or overage.get(pk)
    }
