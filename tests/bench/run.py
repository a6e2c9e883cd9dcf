"""How fast a month is billed: the product's runs beside an ORM loop and a bulk_create variant.

Every way bills customers of its own, five lines each, with uses recorded through metering, and
leaves the same rows behind: lines, VAT, number, snapshot with credits, balance, document to draw,
journal entry, audit. The two others bill 500 customers in all, the product 10,000 a turn.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from tests.bench.common import in_processes, line, machine, temporary_site

AT = datetime(2026, 12, 1, 6, tzinfo=UTC)
FROM, TO = date(2026, 11, 1), date(2026, 12, 1)
OTHERS = 500  # invoices of the other ways, over all rounds
USES = (55, 70, 90, 130)  # credits of one customer's month; 100 are free


def main(argv: list[str]) -> int:
    """Measure; exit 1 when an invoice is missing, doubled or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench run")
    parser.add_argument("--full", action="store_true", help="also 50,000 and 100,000 customers")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=10_000)
    options = parser.parse_args(argv)
    machine("run")
    with temporary_site() as cluster:
        bench = Bench(cluster)
        faults = bench.measure(rounds=options.rounds, size=options.size)
        if options.full:
            for size in (50_000, 100_000):
                faults += bench.scale(size)
    line("run", check="each billed once, to the cent; numbers gapless; books agree", faults=faults)
    return 1 if faults else 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one way did."""

    invoices: int
    seconds: float
    peak_mb: int


class Bench:
    """A plan, two people, and sellers made as they are needed."""

    def __init__(self, cluster: Any) -> None:
        from accounts.models import User
        from billing import catalog
        from billing.models import CREDITS, Meter, TaxRate

        TaxRate.objects.create(country="IE", rate=23, valid=(date(2020, 1, 1), None))
        self.author = User.objects.create(username="author")
        self.approver = User.objects.create(username="approver")
        self.meter = Meter.objects.create(code="images", name="Images", unit="units")
        fees = [
            {
                "code": code,
                "label": f"{code.title()} for a month",
                "role": "fee",
                "currency": "EUR",
                "unit_price": Decimal(amount),
                "unit_label": "month",
                "product": code,
            }
            for code, amount in (
                ("studio", "29.00"),
                ("seats", "12.50"),
                ("storage", "4.99"),
                ("support", "9.00"),
            )
        ]
        self.plan = catalog.draft_version(
            "bench",
            name="Bench",
            summary="",
            terms={"overage_policy": "invoice", "allowance_credits": Decimal(100)},
            prices=[
                *fees,
                {
                    "code": "overage",
                    "label": "Credits above the allowance",
                    "role": "overage",
                    "currency": "EUR",
                    "unit_price": Decimal("50.00"),
                    "base_quantity": 1000,
                    "unit_label": "credits",
                    "product": "overage",
                },
                {
                    "code": "image",
                    "label": "Image",
                    "role": "usage",
                    "meter": self.meter,
                    "currency": CREDITS,
                    "unit_price": Decimal(1),
                    "unit_label": "units",
                    "product": "images",
                },
            ],
        )
        catalog.publish(self.plan.pk, at=AT, actor_id=None)
        self.cluster, self.sellers = cluster, 0

    def seller(self, size: int) -> "Seller":
        """A seller whose customers have used what they will pay for."""
        self.sellers += 1
        return Seller(self, f"B{self.sellers}", size)

    def measure(self, *, rounds: int, size: int) -> int:
        """Let the ways take turns and print a line for each; returns the faults found."""
        from tests.bench import run_ways

        few = max(OTHERS // rounds, 1)
        names = ("product", "product again", "naive ORM loop", "bulk_create")
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        faults = 0
        for number in range(rounds):
            sellers = {name: self.seller(size if "product" in name else few) for name in names}
            settle(self.cluster)
            load = os.getloadavg()[0]
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                way: Callable[[Seller], int] = {
                    "naive ORM loop": lambda seller: seller.other(run_ways.naive),
                    "bulk_create": lambda seller: seller.other(run_ways.bulk),
                }.get(name, lambda seller: seller.run())
                turn = timed(way, sellers[name])
                turns[name].append(turn)
                rates[name].append(turn.invoices / turn.seconds)
            faults += sum(seller.faults() for seller in sellers.values())
        noise = ratios(rates["product again"], rates["product"])
        for name in ("product", "naive ORM loop", "bulk_create"):
            against = ratios(rates["product"], rates[name])
            line(
                "run",
                way=name,
                invoices=sum(turn.invoices for turn in turns[name]),
                per_second=round(statistics.median(rates[name]), 1),
                product_is_times=round(statistics.median(against), 1),
                times_range=[round(min(against), 1), round(max(against), 1)],
                aa_range=[round(min(noise), 3), round(max(noise), 3)],
                peak_mb=max(turn.peak_mb for turn in turns[name]),
                rounds=rounds,
                load_before=round(load, 2),
            )
        faults += self.steps(size)
        return faults

    def steps(self, size: int) -> int:
        """The product once more, step by step, and over the same period again."""
        seller = self.seller(size)
        settle(self.cluster)
        drafted = timed(Seller.draft, seller)
        issued = timed(Seller.issue, seller)
        again = timed(Seller.again, seller)
        for step, turn in (("draft", drafted), ("issue", issued), ("run again", again)):
            line(
                "run",
                step=step,
                customers=size,
                per_second=round(size / turn.seconds, 1),
                ms_per_invoice=round(turn.seconds / size * 1000, 3),
                peak_mb=turn.peak_mb,
            )
        shared = self.seller(size)
        settle(self.cluster)
        began = time.perf_counter()
        shared.run_with(2)
        line(
            "run",
            way="product, two workers",
            invoices=size,
            per_second=round(size / (time.perf_counter() - began), 1),
        )
        return seller.faults() + shared.faults()

    def scale(self, size: int) -> int:
        """One large run: is it flat per invoice, in time and in memory?"""
        seller = self.seller(size)
        settle(self.cluster)
        turn = timed(Seller.run, seller)
        line(
            "run",
            way="product",
            invoices=size,
            per_second=round(size / turn.seconds, 1),
            ms_per_invoice=round(turn.seconds / size * 1000, 3),
            peak_mb=turn.peak_mb,
            load_after=round(os.getloadavg()[0], 2),
        )
        return seller.faults()


class Seller:
    """A seller with `size` customers on the plan, their allowances and their uses."""

    def __init__(self, bench: Bench, code: str, size: int) -> None:
        from billing.models import Customer, LegalEntity, Subscription

        self.bench = bench
        self.entity = LegalEntity.objects.create(
            code=code,
            name="Bench",
            legal_name="Bench Limited",
            street="1 Quay",
            city="Dublin",
            country="IE",
            vat_id="IE1234567FA",
            currency="EUR",
        )
        people = Customer.objects.bulk_create(
            (
                Customer(
                    legal_entity=self.entity,
                    code=f"C-{n}",
                    name=f"Customer {n}",
                    street=f"{n} Mill Lane",
                    city="Cork",
                    country="IE",
                    currency="EUR",
                )
                for n in range(size)
            ),
            batch_size=2000,
        )
        self.ids = [who.pk for who in people]
        subscriptions = Subscription.objects.bulk_create(
            (
                Subscription(
                    customer_id=pk, plan_version=bench.plan, anchor_on=FROM, started_on=FROM
                )
                for pk in self.ids
            ),
            batch_size=2000,
        )
        self._use([(s.customer_id, s.pk) for s in subscriptions])

    def _use(self, pairs: Sequence[tuple[int, int]]) -> None:
        from billing import credits, metering

        began, chunk = time.perf_counter(), 500
        for first in range(0, len(pairs), chunk):
            some = pairs[first : first + chunk]
            credits.ensure_allowances(
                [subscription for _, subscription in some],
                at=datetime(2026, 11, 2, tzinfo=UTC),
                actor="bench",
                request_id="bench",
            )
            metering.record_many(
                [
                    metering.Use(
                        customer_id=customer,
                        subscription_id=subscription,
                        meter_id=self.bench.meter.pk,
                        key=f"use-{number}",
                        occurred_at=datetime(2026, 11, 3 + 7 * number, 12, tzinfo=UTC),
                        quantity=Decimal(amount) + Decimal(customer % 97) / 8,
                    )
                    for customer, subscription in some
                    for number, amount in enumerate(USES)
                ],
                actor="bench",
                request_id="bench",
            )
        if len(pairs) >= 5000:
            rate = len(pairs) * len(USES) / (time.perf_counter() - began)
            line(
                "run", step="uses recorded", uses=len(pairs) * len(USES), per_second=round(rate, 1)
            )

    # --- the ways ---------------------------------------------------------------------------

    def other(self, way: Callable[..., None]) -> int:
        """Bill everybody in one of the other ways."""
        from billing.rules.periods import Span

        way(self.ids, Span(FROM, TO), AT)
        return len(self.ids)

    def run(self) -> int:
        """Bill everybody by a run: planned, drafted, approved, issued."""
        self.draft()
        return self.issue()

    def run_with(self, workers: int) -> None:
        """The same run, its chunks shared by that many processes."""
        for step in (self._plan, self._approve):
            pk = step()
            in_processes(workers, lambda _, __, pk=pk: advance(pk), 0)

    def draft(self) -> int:
        """Plan the run and draft it."""
        return advance(self._plan()) + len(self.ids)

    def issue(self) -> int:
        """Approve the run and issue it."""
        return advance(self._approve()) + len(self.ids)

    def _plan(self) -> int:
        from billing import runs

        run = runs.plan(
            legal_entity_id=self.entity.pk,
            period_from=FROM,
            period_to=TO,
            author_id=self.bench.author.pk,
            issue_on=TO,
        )
        runs.start(run.pk, at=AT)
        return int(run.pk)

    def _approve(self) -> int:
        from billing import runs
        from billing.models import InvoiceRun

        run = InvoiceRun.objects.get(legal_entity=self.entity)
        runs.advance(run.pk, at=AT)  # where workers left at once, somebody says it is drafted
        runs.approve(run.pk, by_id=self.bench.approver.pk, at=AT)
        runs.issue(run.pk, actor_id=self.bench.approver.pk)
        return int(run.pk)

    def again(self) -> int:
        """Another run over the same days, which finds nothing."""
        from billing import runs

        run = runs.plan(
            legal_entity_id=self.entity.pk,
            period_from=FROM,
            period_to=TO,
            author_id=self.bench.author.pk,
            plan_id=self.bench.plan.plan_id,
        )
        runs.start(run.pk, at=AT)
        return advance(run.pk) + len(self.ids)

    # --- the check --------------------------------------------------------------------------

    def faults(self) -> int:
        """Invoices missing, doubled or wrong, gaps, and sums that disagree."""
        from django.db import connection

        from billing.reconciliation import reconcile

        with connection.cursor() as cursor:
            cursor.execute(_WRONG, {"entity": self.entity.pk})
            wrong, issued, first, last = cursor.fetchone()
        pairs = [check for check in reconcile(self.entity.pk) if not check.holds]
        for check in pairs:
            line("run", fault=check.name, left=str(check.left), right=str(check.right))
        gaps = 0 if (issued, first, last) == (len(self.ids), 1, len(self.ids)) else 1
        return int(wrong) + gaps + len(pairs)


# What each customer owes, computed by the database from the uses alone.
_WRONG = """
    WITH owed AS (
        SELECT customer.id,
               55.49 + round(sum(charge.overage) * 50 / 1000, 2) AS net
        FROM billing_customer customer
        JOIN billing_charge charge ON charge.customer_id = customer.id
        WHERE customer.legal_entity_id = %(entity)s GROUP BY customer.id
    ), billed AS (
        SELECT customer_id, count(*) AS invoices, sum(net) AS net, sum(tax) AS tax,
               sum((SELECT count(*) FROM billing_invoiceline l WHERE l.invoice_id = i.id)) AS lines
        FROM billing_invoice i WHERE legal_entity_id = %(entity)s AND state = 'issued' GROUP BY 1
    )
    SELECT count(*) FILTER (WHERE billed.invoices IS DISTINCT FROM 1
                               OR billed.lines IS DISTINCT FROM 5
                               OR billed.net IS DISTINCT FROM owed.net
                               OR billed.tax IS DISTINCT FROM round(owed.net * 0.23, 2)),
           max(numbers.given), max(numbers.low), max(numbers.high)
    FROM (
        SELECT count(DISTINCT sequence) AS given, min(sequence) AS low, max(sequence) AS high
        FROM billing_invoice WHERE legal_entity_id = %(entity)s
    ) numbers CROSS JOIN owed LEFT JOIN billed ON billed.customer_id = owed.id
"""


def advance(run_id: int) -> int:
    """Work on a run until it needs a person; what a worker does."""
    from billing import runs

    while runs.advance(run_id, at=AT):
        pass
    return 0


def timed(way: Callable[[Seller], int], seller: Seller) -> Turn:
    """Run in a process of its own, so that its peak memory is its own."""

    def work(_: int, __: float) -> int:
        way(seller)
        return peak_mb()

    megabytes, seconds = in_processes(1, work, 0)
    return Turn(len(seller.ids), seconds, megabytes)


def peak_mb() -> int:
    """The most memory this process has held, in MB."""
    with open("/proc/self/status") as status:
        for row in status:
            if row.startswith("VmHWM:"):
                return int(row.split()[1]) // 1024
    return 0


def settle(cluster: Any) -> None:
    """Give every way the same start: fresh statistics, nothing left to be written back."""
    from config.embedded.postgres import DATABASE, SUPERUSER

    with cluster.connect(SUPERUSER, DATABASE) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def ratios(rates: Sequence[float], references: Sequence[float]) -> list[Any]:
    """Paired within a round."""
    return [rate / reference for rate, reference in zip(rates, references, strict=True)]
