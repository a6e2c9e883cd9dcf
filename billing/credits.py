"""What customers hold and get: allowances, given credits, balances, and the sweep of what is over.

The ledger's doors do the writing. Periods and midnights are the customer's own zone's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Exists, Max, OuterRef, Q

from billing import ledger
from billing.models import (
    CreditBalance,
    CreditGrant,
    Hold,
    LedgerEntry,
    LedgerPart,
    Subscription,
)
from billing.rules import burndown
from billing.rules.periods import Period, periods

CHUNK = 500  # customers, or subscriptions, in one transaction
GIVEN = (
    CreditGrant.Kind.PROMOTIONAL,
    CreditGrant.Kind.GOODWILL,
    CreditGrant.Kind.ADJUSTMENT,
)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's credits at an instant.

    `available` can be spent at that instant (some of it perhaps for certain meters or projects
    only), `upcoming` is granted but not yet in effect.
    """

    customer_id: int
    at: datetime
    available: Decimal
    held: Decimal
    upcoming: Decimal
    debt: Decimal


@dataclass(frozen=True, slots=True)
class Standing:
    """A grant that could pay at an instant, and what it has."""

    grant: CreditGrant
    free: Decimal
    held: Decimal


# ── Getting credits ──────────────────────────────────────────────────────────────────────────


def ensure_allowances(
    subscription_ids: Iterable[int], *, at: datetime | None, actor: str, request_id: str
) -> int:
    """Grant the allowance of every period that has begun by `at`; returns how many were new.

    Each lives from the period's start (or the subscription's) to the period's end. Granted at the
    instant it starts, once per subscription and period: calling again adds nothing.
    """
    ids = set(subscription_ids)
    if at is None or not ids:
        return 0
    subscriptions = (
        Subscription.objects.filter(pk__in=ids, plan_version__allowance_credits__gt=0)
        .select_related("customer", "plan_version__plan")
        .order_by("customer_id", "pk")
    )
    granted = {
        row["subscription"]: row["latest"]
        for row in CreditGrant.objects.filter(subscription__in=ids, kind=CreditGrant.Kind.ALLOWANCE)
        .order_by()
        .values("subscription")
        .annotate(latest=Max("effective_at"))
    }
    new = [
        allowance
        for subscription in subscriptions
        for allowance in _allowances(subscription, after=granted.get(subscription.pk), at=at)
    ]
    done = 0
    for start in range(0, len(new), CHUNK):
        results = ledger.grant_many(
            new[start : start + CHUNK],
            actor=actor,
            reason="plan allowance",
            request_id=request_id,
        )
        done += sum(not result.replayed for result in results)
    return done


def renew_due(*, at: datetime, actor: str = "clock", request_id: str = "") -> int:
    """Grant the allowances of all running subscriptions that are due at `at`; returns how many."""
    served = CreditGrant.objects.filter(
        subscription=OuterRef("pk"),
        kind=CreditGrant.Kind.ALLOWANCE,
        effective_at__lte=at,
        expires_at__gt=at,
    )
    due = list(
        Subscription.objects.filter(
            ~Exists(served),
            Q(ended_on=None) | Q(ended_on__gt=at.date()),
            plan_version__allowance_credits__gt=0,
            started_on__lte=_latest_day(at),
        )
        .order_by("customer_id", "pk")
        .values_list("pk", flat=True)
    )
    return sum(
        ensure_allowances(
            due[start : start + CHUNK],
            at=at,
            actor=actor,
            request_id=request_id or f"renew:{at:%Y-%m-%dT%H:%M:%S}",
        )
        for start in range(0, len(due), CHUNK)
    )


def give(
    customer_id: int,
    *,
    key: str,
    kind: str,
    amount: Decimal,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    priority: int = ledger.PRIORITY,
    label: str = "",
    meter_ids: Iterable[int] = (),
    project_ids: Iterable[int] = (),
) -> ledger.Granted:
    """Give credits nobody pays for: promotional, goodwill or an adjustment; a reason is required.

    Raises ValueError for a kind that is sold or granted by a plan, or without a reason.
    """
    if kind not in GIVEN or not reason.strip():
        raise ValueError("credits are given as promotional, goodwill or adjustment, with a reason")
    return ledger.grant(
        customer_id,
        key=key,
        kind=kind,
        amount=amount,
        at=at,
        actor=actor,
        reason=reason,
        request_id=request_id,
        effective_at=effective_at,
        expires_at=expires_at,
        priority=priority,
        label=label,
        meter_ids=list(meter_ids),
        project_ids=list(project_ids),
    )


# ── Losing them in time ──────────────────────────────────────────────────────────────────────


def sweep(*, at: datetime, limit: int = CHUNK) -> int:
    """Expire grants and release holds whose time is over, `limit` customers a transaction.

    Customers somebody is working on are skipped; their own next door does the same. Returns how
    many customers were brought up to `at`.
    """
    request_id = f"sweep:{at:%Y-%m-%dT%H:%M:%S}"
    done = 0
    while swept := ledger.sweep(at=at, limit=limit, request_id=request_id):
        done += swept
    return done


# ── Reading ──────────────────────────────────────────────────────────────────────────────────


def balance(customer_id: int, at: datetime) -> Balance:
    """A customer's credits at `at`, past or to come.

    At a past instant it is what the entries up to then say; later ones count, if they happened
    before it. At a coming one, what today's grants and holds will be when nothing is used.
    """
    book = book_at(customer_id, at)
    available = book.spendable_in_all(at)
    return Balance(
        customer_id=customer_id,
        at=at,
        available=available,
        held=book.held,
        upcoming=sum((lot.free for lot in book.lots.values() if lot.effective_at > at), ZERO),
        debt=book.debt,
    )


def grants_in_burn_order(
    customer_id: int,
    at: datetime,
    *,
    meter_id: int | None = None,
    project_id: int | None = None,
) -> list[Standing]:
    """The grants that have credits at `at`, in the order they are used up.

    With a meter or project, only those that would pay for it.
    """
    book = book_at(customer_id, at)
    lots = [
        lot
        for lot in book.lots.values()
        if lot.rest
        and burndown.is_active(
            at,
            effective_at=lot.effective_at,
            expires_at=lot.expires_at,
            voided_at=lot.voided_at,
        )
        and (
            (meter_id is None and project_id is None)
            or burndown.pays_for(lot, at, meter=meter_id, project=project_id)
        )
    ]
    grants = CreditGrant.objects.in_bulk([lot.id for lot in lots])
    return [Standing(grants[int(lot.id)], lot.free, lot.held) for lot in burndown.burn_order(lots)]


def book_at(customer_id: int, at: datetime) -> burndown.Book:
    """A customer's credits at `at` as plain values: for quotes, previews and dry runs."""
    stored = CreditBalance.objects.filter(pk=customer_id).first()
    if stored is None:
        return burndown.Book()
    if stored.last_at is not None and stored.last_at > at:
        return _past_book(customer_id, at)
    book = burndown.Book(
        lots={
            grant.pk: _lot(grant, grant.remaining, grant.held)
            for grant in CreditGrant.objects.filter(customer=customer_id, is_open=True)
        },
        debt=stored.debt,
        swept_at=stored.swept_at,
    )
    pins: dict[int, list[burndown.Part]] = {}
    parts = (
        LedgerPart.objects.filter(entry__hold__is_open=True, entry__kind=LedgerEntry.Kind.HOLD)
        .filter(entry__customer=customer_id, entry__hold__customer=customer_id)
        .order_by("pk")
        .values_list("entry__hold", "grant", "amount")
    )
    for hold_id, grant_id, amount in parts:
        pins.setdefault(hold_id, []).append(burndown.Part(grant_id, amount))
    for hold in Hold.objects.filter(customer=customer_id, is_open=True):
        book.holds[hold.pk] = burndown.Reservation(
            id=hold.pk,
            amount=hold.amount,
            parts=tuple(pins.get(hold.pk, ())),
            expires_at=hold.expires_at,
            meter=hold.meter_id,
            project=hold.project_id,
            policy=hold.overage_policy,  # type: ignore[arg-type]
            debt_limit=hold.debt_limit,
        )
    book.catch_up(at)
    return book


def _past_book(customer_id: int, at: datetime) -> burndown.Book:
    """What the entries that happened by `at` left, grant by grant."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT p.grant_id,
                      sum(CASE WHEN e.target = 'available' AND e.kind <> 'release' THEN p.amount
                               WHEN e.kind IN ('hold', 'release') THEN 0 ELSE -p.amount END),
                      sum(CASE e.kind WHEN 'hold' THEN p.amount WHEN 'settle' THEN -p.amount
                                      WHEN 'release' THEN -p.amount ELSE 0 END)
               FROM billing_ledgerentry e JOIN billing_ledgerpart p ON p.entry_id = e.id
               WHERE e.customer_id = %s AND e.occurred_at <= %s AND p.grant_id IS NOT NULL
               GROUP BY p.grant_id""",
            (customer_id, at),
        )
        left = {grant_id: (remaining, held) for grant_id, remaining, held in cursor.fetchall()}
        cursor.execute(
            """SELECT coalesce(sum(CASE WHEN source = 'debt' THEN amount ELSE -amount END), 0)
               FROM billing_ledgerentry
               WHERE customer_id = %s AND occurred_at <= %s AND 'debt' IN (source, target)""",
            (customer_id, at),
        )
        (debt,) = cursor.fetchone()
    return burndown.Book(
        lots={
            grant.pk: _lot(grant, *left[grant.pk])
            for grant in CreditGrant.objects.filter(pk__in=left)
        },
        debt=debt,
    )


def _lot(grant: CreditGrant, remaining: Decimal, held: Decimal) -> burndown.Lot:
    return burndown.Lot(
        id=grant.pk,
        amount=grant.amount,
        effective_at=grant.effective_at,
        expires_at=grant.expires_at,
        voided_at=grant.voided_at,
        priority=grant.priority,
        is_paid=grant.kind == CreditGrant.Kind.PURCHASED,
        created_at=grant.created_at,
        meters=None if grant.meter_ids is None else frozenset(grant.meter_ids),
        projects=None if grant.project_ids is None else frozenset(grant.project_ids),
        remaining=remaining,
        held=held,
    )


def _allowances(
    subscription: Subscription, *, after: datetime | None, at: datetime
) -> Iterator[ledger.NewGrant]:
    """The allowances of the periods that began after `after` and by `at`."""
    version = subscription.plan_version
    zone = ZoneInfo(subscription.customer.time_zone)
    for period in _periods_begun(subscription, at.astimezone(zone).date()):
        starts = _midnight(max(period.start, subscription.started_on), zone)
        if starts > at or (after is not None and starts <= after):
            continue
        ends = _midnight(min(period.end, subscription.ended_on or period.end), zone)
        yield ledger.NewGrant(
            customer_id=subscription.customer_id,
            key=f"allowance:{subscription.pk}:{period.start:%Y-%m-%d}",
            kind=CreditGrant.Kind.ALLOWANCE,
            amount=version.allowance_credits,
            at=starts,
            effective_at=starts,
            expires_at=ends,
            label=f"{version.plan.name}, {period.start:%B %Y}",
            subscription_id=subscription.pk,
        )


def _periods_begun(subscription: Subscription, today: date) -> Iterator[Period]:
    version = subscription.plan_version
    until = date.fromordinal(today.toordinal() + 1)
    return periods(
        subscription.anchor_on,
        version.interval,  # type: ignore[arg-type]
        version.interval_count,
        subscription.started_on,
        min(until, subscription.ended_on or until),
    )


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone)


def _latest_day(at: datetime) -> date:
    """The day it may already be somewhere on earth."""
    return date.fromordinal(at.date().toordinal() + 1)
