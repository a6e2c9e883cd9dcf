"""Do the books of one seller agree? Pairs of sums that must be equal to the last digit."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.db import connection


@dataclass(frozen=True, slots=True)
class Check:
    """Two sums that must agree."""

    name: str
    left: Decimal
    right: Decimal

    @property
    def holds(self) -> bool:
        """Whether both sides agree to the last digit."""
        return self.left == self.right


def reconcile(entity_id: int) -> list[Check]:
    """Charges, ledger parts, invoice lines and journal of one seller, pair by pair."""
    with connection.cursor() as cursor:
        cursor.execute(_PAIRS, {"entity": entity_id, "waiting": not_invoiced(entity_id)})
        return [Check(*row) for row in cursor.fetchall()]


def not_invoiced(entity_id: int) -> Decimal:
    """Credits beyond the grants whose period no issued invoice bills yet."""
    with connection.cursor() as cursor:
        cursor.execute(_NOT_INVOICED, {"entity": entity_id})
        return cursor.fetchone()[0]


def customer_rows(entity_id: int) -> Sequence[tuple[object, ...]]:
    """One row a customer: number, plan, requests, credits, overage, refused, invoices, total."""
    with connection.cursor() as cursor:
        cursor.execute(_CUSTOMER_ROWS, [entity_id])
        return cursor.fetchall()


_NOT_INVOICED: Final = """
        SELECT coalesce(sum(charge.overage), 0) AS overage
        FROM billing_charge charge
        JOIN billing_customer customer ON customer.id = charge.customer_id
        WHERE customer.legal_entity_id = %(entity)s AND charge.overage > 0 AND NOT EXISTS (
            SELECT 1 FROM billing_billedperiod billed
            JOIN billing_price price ON price.id = billed.price_id AND price.role = 'overage'
            JOIN billing_invoice invoice ON invoice.id = billed.invoice_id
            WHERE billed.subscription_id = charge.subscription_id AND NOT billed.voided
              AND invoice.state = 'issued'
              AND (charge.occurred_at AT TIME ZONE customer.time_zone)::date <@ billed.period)
"""
_PAIRS: Final = """
    WITH customers AS (
        SELECT id FROM billing_customer WHERE legal_entity_id = %(entity)s
    ), charges AS (
        SELECT sum(credits) AS credits, sum(overage) AS overage
        FROM billing_charge WHERE customer_id IN (SELECT id FROM customers)
    ), entries AS (
        SELECT sum(amount) FILTER (WHERE kind IN ('spend', 'debt')) AS spent,
               sum(amount) FILTER (WHERE kind IN ('spend', 'settle', 'expire', 'void', 'repay'))
                 - coalesce(sum(amount) FILTER (
                       WHERE kind = 'reverse' AND source IN ('consumed', 'expired')), 0) AS gone
        FROM billing_ledgerentry WHERE customer_id IN (SELECT id FROM customers)
    ), parts AS (
        SELECT sum(part.amount) AS spent
        FROM billing_ledgerpart part JOIN billing_ledgerentry entry ON entry.id = part.entry_id
        WHERE entry.customer_id IN (SELECT id FROM customers) AND entry.kind IN ('spend', 'debt')
    ), grants AS (
        SELECT sum(amount) AS granted, sum(amount) FILTER (WHERE kind = 'purchased') AS bought
        FROM billing_creditgrant WHERE customer_id IN (SELECT id FROM customers)
    ), balances AS (
        SELECT sum(available + held) AS standing
        FROM billing_creditbalance WHERE customer_id IN (SELECT id FROM customers)
    ), invoices AS (
        SELECT count(*)::numeric AS issued, sum(net) AS net, sum(payable) AS payable
        FROM billing_invoice
        WHERE customer_id IN (SELECT id FROM customers) AND state = 'issued'
    ), lines AS (
        SELECT sum(line.net) AS net,
               sum((line.explanation->>'credits_beyond_grants')::numeric)
                   FILTER (WHERE line.explanation->>'role' = 'overage') AS overage,
               sum(line.quantity * (line.explanation->>'credits_each')::numeric)
                   FILTER (WHERE line.explanation->>'role' = 'pack') AS packs
        FROM billing_invoiceline line JOIN billing_invoice invoice ON invoice.id = line.invoice_id
        WHERE line.customer_id IN (SELECT id FROM customers) AND invoice.state = 'issued'
    ), postings AS (
        SELECT sum(posting.amount) AS balance,
               sum(posting.amount) FILTER (WHERE entry.recipe = 'invoice_issued'
                                             AND posting.account = 'receivable') AS receivable,
               -sum(posting.amount) FILTER (WHERE entry.recipe = 'invoice_issued'
                                              AND posting.account = 'contract') AS contract
        FROM billing_posting posting JOIN billing_journalentry entry ON entry.id = posting.entry_id
        WHERE entry.legal_entity_id = %(entity)s
    ), series AS (
        SELECT sum(next_number - 1)::numeric AS given
        FROM billing_numberseries WHERE legal_entity_id = %(entity)s
    )
    SELECT name, coalesce(one, 0), coalesce(other, 0)
    FROM charges, entries, parts, grants, balances, invoices, lines, postings, series,
    LATERAL (VALUES
        (1, 'credits charged = ledger entries', charges.credits, entries.spent),
        (2, 'ledger entries = parts per grant', entries.spent, parts.spent),
        (3, 'credits beyond grants = on invoice lines + not invoiced yet', charges.overage,
            coalesce(lines.overage, 0) + %(waiting)s::numeric),
        (4, 'credits granted = standing + used + ended', grants.granted,
            balances.standing + coalesce(entries.gone, 0)),
        (5, 'credits on pack lines = purchased grants', lines.packs, grants.bought),
        (6, 'line nets = invoice nets', lines.net, invoices.net),
        (7, 'invoice nets = contract postings', invoices.net, postings.contract),
        (8, 'invoice totals = receivable postings', invoices.payable, postings.receivable),
        (9, 'journal balance = 0', postings.balance, 0),
        (10, 'invoices issued = numbers given', invoices.issued, series.given)
    ) AS pairs (place, name, one, other)
    ORDER BY place
"""
CUSTOMER_COLUMNS: Final = (
    "customer",
    "plan",
    "requests",
    "credits used",
    "credits beyond grants",
    "refused",
    "pack invoices",
    "run invoices",
    "total",
    "run outcome",
)
_CUSTOMER_ROWS: Final = """
    SELECT c.code, p.name,
           (SELECT count(*) FROM billing_usageevent u WHERE u.customer_id = c.id),
           (SELECT coalesce(sum(h.credits), 0) FROM billing_charge h WHERE h.customer_id = c.id),
           (SELECT coalesce(sum(h.overage), 0) FROM billing_charge h WHERE h.customer_id = c.id),
           (SELECT count(*) FROM billing_usageevent u
             WHERE u.customer_id = c.id AND u.outcome = 'refused'),
           (SELECT string_agg(i.number, ' ' ORDER BY i.id) FROM billing_invoice i
             WHERE i.customer_id = c.id AND i.run_id IS NULL),
           (SELECT string_agg(i.number, ' ' ORDER BY i.id) FROM billing_invoice i
             WHERE i.customer_id = c.id AND i.run_id IS NOT NULL),
           (SELECT coalesce(sum(i.payable), 0) FROM billing_invoice i WHERE i.customer_id = c.id),
           (SELECT string_agg(DISTINCT t.state, ' ') FROM billing_runitem t
             WHERE t.customer_id = c.id)
    FROM billing_customer c
    JOIN billing_subscription s ON s.customer_id = c.id
    JOIN billing_planversion v ON v.id = s.plan_version_id
    JOIN billing_plan p ON p.id = v.plan_id
    WHERE c.legal_entity_id = %s
    ORDER BY c.code
"""
