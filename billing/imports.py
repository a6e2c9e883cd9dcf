"""Usage files: read as a stream, booked in time order, repeatable, with every refusal listed.

A batch is one transaction: customers that appear, their subscriptions and allowances, packs bought
on the way, uses and charges stand together or not at all. Reading the same file again adds
nothing, because each row carries its key. Rows that cannot be read go to a CSV with their reason.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from django.db import connection, transaction
from django.db.models.functions import Now

from billing import credits, invoicing, ledger, metering, subscriptions, topups
from billing.errors import BillingError, MissingData
from billing.models import (
    BilledPeriod,
    CreditBalance,
    CreditPack,
    Customer,
    Invoice,
    LegalEntity,
    Meter,
    Price,
    Subscription,
    UsageEvent,
    UsageImport,
)
from billing.rules.money import ZERO
from billing.rules.pricing import started
from billing.rules.usage_rows import MAPPINGS, Row, RowRefusedError
from billing.rules.zones import day_in
from billing.usage_files import Read, Rejects, read_rows, sha256

BATCH: Final = 2000
HOLD_DAYS: Final = 30
AGAIN: Final = "Mend that, then read the file again."


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """How a customer that a file names for the first time is entered."""

    particulars: Mapping[str, Any]  # fields of Customer
    plan_version_id: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What an import may do beside recording use.

    onboard: makes a customer from its number, or None where unknown customers are refused.
    packs: pack bought automatically, by plan version, when the credits do not suffice.
    """

    onboard: Callable[[str], NewCustomer] | None = None
    packs: Mapping[int, CreditPack] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Counts of an import: every row is in exactly one of known, rejected or an outcome."""

    usage_import_id: int
    rows: int = 0
    known: int = 0
    rejected: int = 0
    outside: int = 0  # outside the asked time span or customers
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    credits: Decimal = ZERO
    overage: Decimal = ZERO
    packs: int = 0


def import_usage(
    path: Path,
    *,
    mapping: str,
    legal_entity_id: int,
    as_of: datetime,
    actor: str,
    rules: Rules | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    customers: frozenset[str] | None = None,
    rejected_path: Path | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Read one file. Rows of one day are booked in the order they happened, days in file order.

    as_of: the instant the file describes; what is under way then is held 30 days longer.
    since, until: only rows in `[since, until)`. customers: only these customer numbers.
    Raises MissingData when the file or the mapping cannot be read at all; nothing is written then.
    """
    terms = MAPPINGS.get(mapping)
    if terms is None:
        raise MissingData(f"There is no mapping “{mapping}”. Use one of {', '.join(MAPPINGS)}.")
    if not path.is_file():
        raise MissingData(f"{path} is not a file.")
    entity = LegalEntity.objects.get(pk=legal_entity_id)
    meter, _ = Meter.objects.get_or_create(
        code=terms.meter, defaults={"name": "Image generation", "unit": "units"}
    )
    record = UsageImport.objects.create(
        legal_entity=entity, file_name=path.name, sha256=sha256(path), mapping=mapping
    )
    report = Report(record.pk)
    reader = _Importer(entity, meter, record, rules or Rules(), report, as_of, actor)
    with ExitStack() as stack:
        source = stack.enter_context(path.open(encoding="utf-8-sig", newline=""))
        rejects = Rejects(stack, rejected_path)
        batch: list[Read] = []

        def seen(rows: int) -> None:
            report.rows += rows
            progress(rows)

        try:
            for item in read_rows(source, terms, rejects, seen):
                if not _wanted(item.row, since, until, customers):
                    report.outside += 1
                    continue
                if batch and (
                    len(batch) >= BATCH
                    or item.row.occurred_at.date() != batch[-1].row.occurred_at.date()
                ):
                    reader.book(batch, rejects)
                    batch = []
                batch.append(item)
            if batch:
                reader.book(batch, rejects)
        except BaseException:
            _finish(record, report, UsageImport.State.STOPPED, rejects)
            raise
    _finish(record, report, UsageImport.State.DONE, rejects)
    return report


def _wanted(
    row: Row,
    since: datetime | None,
    until: datetime | None,
    customers: frozenset[str] | None,
) -> bool:
    return (
        (since is None or row.occurred_at >= since)
        and (until is None or row.occurred_at < until)
        and (customers is None or row.customer_code in customers)
    )


LISTED_COLUMNS: Final = ("customer", "happened at", "quantity", "outcome", "reason", "key")


def listed(legal_entity_id: int) -> Iterator[tuple[Any, ...]]:
    """Every use of a seller's customers that was refused or not priced, oldest first."""
    yield from (
        UsageEvent.objects.filter(
            customer__legal_entity_id=legal_entity_id,
            outcome__in=(UsageEvent.Outcome.REFUSED, UsageEvent.Outcome.UNPRICED),
        )
        .order_by("occurred_at", "pk")
        .values_list("customer__code", "occurred_at", "quantity", "outcome", "reason", "key")
        .iterator(chunk_size=2000)
    )


class _Importer:
    """Books batches. One customer's trouble becomes refused rows and never stops the file."""

    def __init__(
        self,
        entity: LegalEntity,
        meter: Meter,
        record: UsageImport,
        rules: Rules,
        report: Report,
        as_of: datetime,
        actor: str,
    ) -> None:
        self.entity, self.meter, self.record = entity, meter, record
        self.rules, self.report, self.actor = rules, report, actor
        self.as_of = as_of
        self.hold_until = as_of + timedelta(days=HOLD_DAYS)
        # Of the customers of the batch at hand, by number:
        self.plans: dict[str, list[Subscription]] = {}
        self.declined: dict[str, str] = {}  # why one could not be entered

    def book(self, batch: Sequence[Read], rejects: Rejects) -> None:
        """Book one batch of one day, oldest first, in one transaction."""
        ordered = sorted(batch, key=lambda item: item.row.occurred_at)
        with transaction.atomic():
            self._meet(ordered)
            billed, known = self._billed(ordered), self._known(ordered)
            accepted = []
            for item in ordered:
                if self._identity(item) in known:
                    self.report.known += 1
                    continue
                try:
                    accepted.append((item, self._subscription(item, billed)))
                except RowRefusedError as refusal:
                    rejects.add(item.line, item.values, refusal)
            credits.ensure_allowances(
                {subscription.pk for _, subscription in accepted},
                at=max((item.row.occurred_at for item, _ in accepted), default=None),
                actor=self.actor,
                request_id=f"import:{self.record.pk}",
            )
            self._record([x for x in accepted if x[1].plan_version_id not in self.rules.packs])
            self._record_prepaid(
                [x for x in accepted if x[1].plan_version_id in self.rules.packs], rejects
            )

    def _subscription(self, item: Read, billed: "_Billed") -> Subscription:
        """The subscription a use belongs to; raises RowRefusedError when it cannot be booked."""
        code, at = item.row.customer_code, item.row.occurred_at
        if at > self.as_of:
            raise RowRefusedError("time", "It is yet to come.", "Read it when it has happened.")
        if code in self.declined:
            raise RowRefusedError("customer", self.declined[code], AGAIN)
        if code not in self.plans:
            raise RowRefusedError(
                "customer",
                f"{code} is not a customer with a plan.",
                "Enter the customer and start its subscription, then read the file again.",
            )
        day = day_in(at, self.plans[code][0].customer.time_zone)
        found = [
            subscription
            for subscription in self.plans[code]
            if subscription.started_on <= day
            and (subscription.ended_on is None or day < subscription.ended_on)
        ]
        if not found:
            raise RowRefusedError(
                "time",
                f"{code} had no plan on {day}.",
                "Start its subscription earlier, or leave the row out.",
            )
        if len(found) > 1:
            raise RowRefusedError(
                "customer",
                f"{code} had {len(found)} plans on {day}; the row does not say which it used.",
                "End all but one of them before that day, or leave the row out.",
            )
        for period, state in billed.get(found[0].pk, ()):
            if day in period:
                raise _closed(state)
        return found[0]

    def _identity(self, item: Read) -> tuple[int, str]:
        """Whose use a row is and its key; nobody's (0) while the customer has no plan."""
        own = self.plans.get(item.row.customer_code)
        return (own[0].customer_id if own else 0, item.key)

    def _known(self, batch: Sequence[Read]) -> Mapping[tuple[int, str], str]:
        """Rows of the batch recorded by an earlier reading."""
        return metering.known_keys(
            self._identity(item) for item in batch if item.row.customer_code in self.plans
        )

    def _meet(self, batch: Sequence[Read]) -> None:
        """Find the subscriptions of a batch's customers; enter those the rules let in.

        Whoever drafts invoices takes the same rows FOR UPDATE: a use is booked before the draft
        reads it, or finds its period closed.
        """
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT subscription.id FROM billing_subscription subscription
                JOIN billing_customer customer ON customer.id = subscription.customer_id
                WHERE customer.legal_entity_id = %s AND customer.code = ANY(%s)
                ORDER BY subscription.id FOR SHARE OF subscription
                """,
                [self.entity.pk, list({item.row.customer_code for item in batch})],
            )
            ids = [pk for (pk,) in cursor.fetchall()]
        self.plans, self.declined = {}, {}
        for subscription in Subscription.objects.filter(pk__in=ids).select_related("customer"):
            self.plans.setdefault(subscription.customer.code, []).append(subscription)
        if self.rules.onboard is None:
            return
        for item in batch:
            code = item.row.customer_code
            if code in self.plans or code in self.declined or item.row.occurred_at > self.as_of:
                continue
            try:
                with transaction.atomic():  # a refusal must not undo the rest of the batch
                    self.plans[code] = [self._enter(self.rules.onboard(code), item)]
            except BillingError as refusal:
                self.declined[code] = f"{code} cannot be put on its plan: {refusal}"

    def _enter(self, new: NewCustomer, item: Read) -> Subscription:
        """Put a customer without any subscription on its plan, from its first use."""
        customer, _ = Customer.objects.get_or_create(
            legal_entity=self.entity,
            code=item.row.customer_code,
            defaults={**new.particulars, "created_at": item.row.occurred_at},
        )
        return subscriptions.start(
            customer_id=customer.pk,
            plan_version_id=new.plan_version_id,
            started_on=day_in(item.row.occurred_at, customer.time_zone),
            actor_id=None,
        )

    def _billed(self, batch: Sequence[Read]) -> "_Billed":
        """Spans of days whose use is on an invoice, and its state, by subscription."""
        days = [item.row.occurred_at.date() for item in batch]
        found: _Billed = defaultdict(list)
        for pk, period, state in BilledPeriod.objects.filter(
            subscription_id__in=[s.pk for many in self.plans.values() for s in many],
            voided=False,
            price__role=Price.Role.OVERAGE,
            # A customer's day is the day before, the same or the day after in UTC.
            period__overlap=(min(days) - timedelta(days=1), max(days) + timedelta(days=2)),
        ).values_list("subscription_id", "period", "invoice__state"):
            found[pk].append((period, state))
        return found

    def _use(self, item: Read, subscription: Subscription) -> metering.Use:
        return metering.Use(
            customer_id=subscription.customer_id,
            subscription_id=subscription.pk,
            meter_id=self.meter.pk,
            key=item.key,
            occurred_at=item.row.occurred_at,
            quantity=item.row.quantity,
            stage=metering.Stage(item.row.stage),
            dimensions=item.row.dimensions,
            explanation=item.row.explanation,
            hold_until=self.hold_until,
        )

    def _record(self, items: Sequence[tuple[Read, Subscription]]) -> None:
        outcomes = metering.record_many(
            [self._use(item, subscription) for item, subscription in items],
            actor=self.actor,
            request_id=f"import:{self.record.pk}",
            usage_import_id=self.record.pk,
        )
        for outcome in outcomes:
            if not outcome.is_new:
                self.report.known += 1
                continue
            self.report.outcomes[outcome.outcome] += 1
            self.report.credits += outcome.credits
            self.report.overage += outcome.overage

    def _record_prepaid(self, items: Sequence[tuple[Read, Subscription]], rejects: Rejects) -> None:
        """Record uses of customers who buy packs when short, in rounds up to each purchase.

        Whom no pack can be sold to keeps the uses its credits pay; the others are refused rows.
        """
        queues: dict[int, list[tuple[Read, Subscription]]] = defaultdict(list)
        for item, subscription in items:
            queues[subscription.customer_id].append((item, subscription))
        prices = metering.usage_prices({s.pk for _, s in items}, self.meter.pk)
        batch_starts = min((item.row.occurred_at for item, _ in items), default=self.as_of)
        taken: set[tuple[int, str]] = set()  # a key named twice is paid once
        tried: set[tuple[int, str]] = set()  # uses a pack was bought for, or could not be
        unsold: dict[int, str] = {}  # why, by customer
        while queues:
            free = dict(
                CreditBalance.objects.filter(customer_id__in=queues).values_list(
                    "customer_id", "available"
                )
            )
            ready: list[tuple[Read, Subscription]] = []
            purchases: list[tuple[datetime, Subscription, Decimal, str]] = []
            for customer_id in list(queues):
                left = free.get(customer_id, ZERO)
                queue = queues.pop(customer_id)
                for position, (item, subscription) in enumerate(queue):
                    identity = (customer_id, item.key)
                    cost = ZERO if identity in taken else _cost(item, prices.get(subscription.pk))
                    if cost > left and customer_id in unsold:
                        refusal = RowRefusedError("customer", unsold[customer_id], AGAIN)
                        rejects.add(item.line, item.values, refusal)
                        continue
                    if cost > left and identity not in tried:
                        gap = cost - left
                        purchases.append((item.row.occurred_at, subscription, gap, item.key))
                        queues[customer_id] = queue[position:]
                        break
                    left = max(left - cost, ZERO)
                    taken.add(identity)
                    ready.append((item, subscription))
            self._record(ready)
            # Every buyer's balance is locked before the first sale locks the number series.
            for customer_id in sorted(
                subscription.customer_id for _, subscription, *_ in purchases
            ):
                ledger.expire(customer_id, at=batch_starts, request_id=f"import:{self.record.pk}")
            for at, subscription, gap, key in sorted(purchases, key=lambda p: (p[0], p[1].pk)):
                tried.add((subscription.customer_id, key))
                try:
                    with transaction.atomic():  # one customer's trouble must not stop the others
                        self._buy(at, subscription, gap, key)
                except BillingError as refusal:
                    unsold[subscription.customer_id] = f"No pack could be sold: {refusal}"

    def _buy(self, at: datetime, subscription: Subscription, gap: Decimal, key: str) -> None:
        pack = self.rules.packs[subscription.plan_version_id]
        count = started(gap, pack.credits)
        # Use read late is paid by a sale dated when the series allows one, never before.
        day = day_in(at, self.entity.time_zone)
        last = invoicing.last_issue(self.entity.pk, Invoice.Kind.INVOICE.value)
        topups.buy_packs(
            customer_id=subscription.customer_id,
            pack_id=pack.pk,
            count=count,
            at=at,
            sold_on=max(day, last or day),
            method="card",
            reference=f"automatic top-up {at:%Y-%m-%d %H:%M}",
            key=f"top-up:{key}",
            actor=self.actor,
            request_id=f"import:{self.record.pk}",
        )
        self.report.packs += count


_Billed = dict[int, list[tuple[Any, str]]]  # ranges of days, and the state of their invoice


def _closed(state: str) -> RowRefusedError:
    if state in (Invoice.State.ISSUED, Invoice.State.VOID):
        return RowRefusedError(
            "time", "Its period is invoiced already.", "Bill it by hand with a line of its own."
        )
    return RowRefusedError(
        "time",
        "Its period is on a draft invoice.",
        "A draft invoice holds this period: discard or issue it, then read the file again.",
    )


def _cost(item: Read, price: Price | None) -> Decimal:
    """Credits a use will take; zero when it takes none."""
    if price is None or item.row.quantity is None or item.row.stage == "failed":
        return ZERO
    return metering.credits_for(price, item.row.quantity)


def _finish(record: UsageImport, report: Report, state: str, rejects: Rejects) -> None:
    report.rejected = rejects.count
    UsageImport.objects.filter(pk=record.pk).update(
        state=state,
        rows_read=report.rows,
        rows_new=sum(report.outcomes.values()),
        rows_known=report.known,
        rows_rejected=report.rejected,
        rejected_file=str(rejects.path) if rejects.writer is not None else "",
        finished_at=Now(),
    )
