"""Usage becomes charges: priced in credits, paid from the grants, recorded once.

What came of a use is decided here, in one transaction for a batch: charged, held, free, refused
by a blocking plan, or recorded without a price. Nothing is ever edited; a repeat adds nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from billing import ledger
from billing.bulk import Jsonb, copy_rows, next_ids
from billing.errors import InsufficientCredit
from billing.models import CREDITS, BilledPeriod, Charge, Price, Subscription, UsageEvent
from billing.rules import pricing
from billing.rules.money import ZERO, plain, quantize_credits
from billing.rules.periods import Span
from billing.rules.zones import day_in
from billing.transactions import TRIES, retried

Outcome = UsageEvent.Outcome
LATE: Final = "Its period is invoiced already; bill it by hand."
REFUSED: Final = "The plan stops at its credits and too few were left."


class Stage(StrEnum):
    """How far the work that was used has come."""

    DONE = "done"
    OPEN = "open"  # under way: its credits are held
    FAILED = "failed"  # costs nothing, but is recorded


@dataclass(frozen=True, slots=True)
class Use:
    """One fact of use. `quantity` is in metered units; None when its size is not known.

    `key` names the fact for its customer, for good.
    """

    customer_id: int
    subscription_id: int
    meter_id: int
    key: str
    occurred_at: datetime
    quantity: Decimal | None
    stage: Stage = Stage.DONE
    dimensions: Mapping[str, Any] = field(default_factory=dict)
    explanation: Mapping[str, Any] = field(default_factory=dict)
    project_id: int | None = None
    hold_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of one use: credits the grants paid, and credits nobody covered."""

    outcome: str
    is_new: bool
    credits: Decimal = ZERO
    overage: Decimal = ZERO
    reason: str = ""


@dataclass(slots=True)
class _Work:
    """A new use on its way to a row."""

    use: Use
    price: Price | None
    booked_on: date
    is_late: bool = False  # its period is on an invoice, so nothing more is billed for it
    amount: Decimal | None = None  # credits
    rated: pricing.Rated | None = None
    policy: str = "block"
    debt_limit: Decimal = ZERO
    outcome: str = ""
    reason: str = ""
    entry_id: int | None = None
    covered: Decimal = ZERO
    overage: Decimal = ZERO


@retried
def record_many(
    uses: Sequence[Use],
    *,
    actor: str,
    request_id: str,
    usage_import_id: int | None = None,
) -> list[Recorded]:
    """Record uses in the order given and charge them; the answers stand in the same order.

    Uses of one customer must come in the order in which they happened. A key seen before is left
    as it is (`is_new` false). A plan without a price in credits for the meter records the use
    unpriced.
    """
    for _ in range(TRIES):
        try:
            return _record_many(uses, actor, request_id, usage_import_id)
        except IntegrityError as clash:
            # Somebody recorded one of the keys meanwhile; the next look finds it.
            if connection.in_atomic_block or "usage_key_once" not in str(clash):
                raise
    return _record_many(uses, actor, request_id, usage_import_id)


@transaction.atomic
def _record_many(
    uses: Sequence[Use], actor: str, request_id: str, usage_import_id: int | None
) -> list[Recorded]:
    known = known_keys((use.customer_id, use.key) for use in uses)
    prices = _prices(uses)
    hold_open({use.subscription_id for use in uses})
    subscriptions = Subscription.objects.filter(
        pk__in={use.subscription_id for use in uses}
    ).select_related("plan_version", "customer__legal_entity")
    terms = {s.pk: s.plan_version for s in subscriptions}
    zones = {s.pk: s.customer.time_zone for s in subscriptions}
    books = {s.pk: s.customer.legal_entity.time_zone for s in subscriptions}
    closed = closed_spans(terms)
    works: dict[int, _Work] = {}
    seen: set[tuple[int, str]] = set()
    for position, use in enumerate(uses):
        identity = (use.customer_id, use.key)
        if identity in known or identity in seen:
            continue
        seen.add(identity)
        version = terms[use.subscription_id]
        work = _Work(
            use,
            prices.get((version.pk, use.meter_id)),
            booked_on=day_in(use.occurred_at, books[use.subscription_id]),
            is_late=any(
                day_in(use.occurred_at, zones[use.subscription_id]) in span
                for span in closed.get(use.subscription_id, ())
            ),
            policy=version.overage_policy,
            debt_limit=version.debt_limit,
        )
        _price(work)
        works[position] = work
    _spend([w for w in works.values() if w.outcome == Outcome.CHARGED], actor, request_id)
    for work in works.values():
        if work.outcome == Outcome.HELD:
            _hold(work, actor, request_id)
    _write(list(works.values()), usage_import_id)
    return [
        Recorded(w.outcome, True, w.covered, w.overage, w.reason)
        if (w := works.get(position)) is not None
        else Recorded(known.get((use.customer_id, use.key), Outcome.CHARGED), False)
        for position, use in enumerate(uses)
    ]


def credits_for(price: Price, quantity: Decimal) -> Decimal:
    """What a quantity costs in credits at a price in credits."""
    return quantize_credits(pricing.rate(_terms(price), quantity).amount)


def usage_prices(subscription_ids: Iterable[int], meter_id: int) -> dict[int, Price]:
    """The price in credits of one meter, by subscription."""
    found = Subscription.objects.filter(pk__in=list(subscription_ids)).values_list(
        "pk", "plan_version_id"
    )
    by_version = {
        price.plan_version_id: price
        for price in Price.objects.filter(
            role=Price.Role.USAGE,
            currency=CREDITS,
            meter_id=meter_id,
            plan_version_id__in={version for _, version in found},
        )
    }
    return {pk: by_version[version] for pk, version in found if version in by_version}


def known_keys(identities: Iterable[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """The (customer id, key) pairs recorded already, with their outcome."""
    keys: dict[int, list[str]] = defaultdict(list)
    for customer_id, key in identities:
        keys[customer_id].append(key)
    found = UsageEvent.objects.filter(
        customer_id__in=list(keys), key__in=[key for many in keys.values() for key in many]
    ).values_list("customer_id", "key", "outcome")
    return {(customer_id, key): outcome for customer_id, key, outcome in found}


def _prices(uses: Iterable[Use]) -> dict[tuple[int, int], Price]:
    found = Price.objects.filter(
        role=Price.Role.USAGE,
        currency=CREDITS,
        meter_id__in={use.meter_id for use in uses},
        plan_version__subscriptions__in={use.subscription_id for use in uses},
    ).distinct()
    return {(price.plan_version_id, price.meter_id): price for price in found if price.meter_id}


def hold_open(subscription_ids: Iterable[int]) -> None:
    """Keep these subscriptions' periods from being billed until this transaction ends.

    The other side of `invoicing`: a run drafts under the same rows' lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM billing_subscription WHERE id = ANY(%s) ORDER BY id FOR SHARE",
            [sorted(set(subscription_ids))],
        )


def closed_spans(subscription_ids: Iterable[int]) -> dict[int, list[Span]]:
    """The days whose use beyond the credits is on an invoice already, by subscription."""
    spans: dict[int, list[Span]] = defaultdict(list)
    for pk, period in BilledPeriod.objects.filter(
        subscription_id__in=list(subscription_ids), voided=False, price__role=Price.Role.OVERAGE
    ).values_list("subscription_id", "period"):
        spans[pk].append(Span(period.lower, period.upper))
    return spans


def _price(work: _Work) -> None:
    """Decide what the use costs, before any credit moves."""
    use = work.use
    if use.stage == Stage.FAILED:
        work.outcome, work.reason = Outcome.FREE, "It failed."
    elif use.quantity is None:
        work.outcome, work.reason = Outcome.UNPRICED, "Its size is not known."
    elif work.is_late:
        work.outcome, work.reason = Outcome.UNPRICED, LATE
    elif work.price is None:
        work.outcome, work.reason = Outcome.UNPRICED, "The plan has no price for it."
    else:
        work.rated = pricing.rate(_terms(work.price), use.quantity)
        work.amount = quantize_credits(work.rated.amount)
        if not work.amount:
            work.outcome, work.reason = Outcome.FREE, "Its price is zero."
        else:
            work.outcome = Outcome.HELD if use.stage == Stage.OPEN else Outcome.CHARGED


def _terms(price: Price) -> pricing.Price:
    return pricing.price_from(
        price.model,  # type: ignore[arg-type]
        unit_price=price.unit_price,
        base_quantity=price.base_quantity,
        tiers=price.tiers,
    )


def _spend(works: Sequence[_Work], actor: str, request_id: str) -> None:
    if not works:
        return
    spent = ledger.spend_many(
        [
            ledger.Use(
                customer_id=work.use.customer_id,
                key=f"usage:{work.use.key}",
                amount=work.amount or ZERO,
                at=work.use.occurred_at,
                meter_id=work.use.meter_id,
                project_id=work.use.project_id,
                subscription_id=work.use.subscription_id,
                overage_policy=work.policy,
                debt_limit=work.debt_limit,
            )
            for work in works
        ],
        actor=actor,
        reason="use",
        request_id=request_id,
    )
    for work, result in zip(works, spent, strict=True):
        if result.refused:
            work.outcome, work.reason = Outcome.REFUSED, REFUSED
        else:
            work.entry_id, work.covered = result.entry_id, result.covered + result.owed
            work.overage = result.overage


def _hold(work: _Work, actor: str, request_id: str) -> None:
    use = work.use
    try:
        with transaction.atomic():  # a refusal must not undo the rest of the batch
            ledger.hold(
                use.customer_id,
                key=f"usage:{use.key}",
                amount=work.amount or ZERO,
                at=use.occurred_at,
                expires_at=use.hold_until,
                meter_id=use.meter_id,
                project_id=use.project_id,
                subscription_id=use.subscription_id,
                overage_policy=work.policy,
                debt_limit=work.debt_limit,
                actor=actor,
                reason="use under way",
                request_id=request_id,
            )
    except InsufficientCredit:
        work.outcome, work.reason = Outcome.REFUSED, REFUSED


def _write(works: Sequence[_Work], usage_import_id: int | None) -> None:
    if not works:
        return
    ids = next_ids(UsageEvent, len(works))
    copy_rows(
        UsageEvent,
        (
            "id",
            "customer_id",
            "subscription_id",
            "project_id",
            "meter_id",
            "usage_import_id",
            "key",
            "occurred_at",
            "quantity",
            "dimensions",
            "outcome",
            "reason",
        ),
        (
            (
                pk,
                work.use.customer_id,
                work.use.subscription_id,
                work.use.project_id,
                work.use.meter_id,
                usage_import_id,
                work.use.key,
                work.use.occurred_at,
                work.use.quantity,
                Jsonb(dict(work.use.dimensions)),
                str(work.outcome),
                work.reason,
            )
            for pk, work in zip(ids, works, strict=True)
        ),
    )
    copy_rows(
        Charge,
        (
            "customer_id",
            "usage_event_id",
            "subscription_id",
            "price_id",
            "entry_id",
            "quantity",
            "credits",
            "overage",
            "occurred_at",
            "booked_on",
            "explanation",
        ),
        (
            (
                work.use.customer_id,
                pk,
                work.use.subscription_id,
                work.price.pk,
                work.entry_id,
                work.use.quantity,
                work.covered,
                work.overage,
                work.use.occurred_at,
                work.booked_on,
                Jsonb(_explanation(work)),
            )
            for pk, work in zip(ids, works, strict=True)
            if work.outcome == Outcome.CHARGED and work.price is not None
        ),
    )


def _explanation(work: _Work) -> dict[str, Any]:
    return {
        "model": work.price.model if work.price else "",
        "quantity": plain(work.use.quantity or ZERO),
        "tiers": work.rated.explanation() if work.rated else [],
        "credits": plain(work.amount or ZERO),
        **work.use.explanation,
    }
