"""Allowances by period, balances at any instant, and the sweep."""

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing import credits
from billing.models import CreditGrant, Customer, Plan, PlanVersion, Subscription
from tests.ledger.desk import DAY, START, Desk, fresh, new_customer, new_meter

D = Decimal


def subscribe(customer: Customer, *, allowance: int = 100, **fields: Any) -> Subscription:
    plan = Plan.objects.create(code=fresh("plan"), name="Studio")
    version = PlanVersion.objects.create(plan=plan, number=1, allowance_credits=allowance)
    started_on = fields.pop("started_on", date(2026, 1, 1))
    anchor_on = fields.pop("anchor_on", started_on.replace(day=1))
    return Subscription.objects.create(
        customer=customer,
        plan_version=version,
        anchor_on=anchor_on,
        started_on=started_on,
        **fields,
    )


def ensure(subscription: Subscription, at: datetime) -> int:
    return credits.ensure_allowances([subscription.pk], at=at, actor="test", request_id="r1")


def lives(subscription: Subscription) -> list[tuple[datetime, datetime | None]]:
    return list(
        CreditGrant.objects.filter(subscription=subscription)
        .order_by("effective_at")
        .values_list("effective_at", "expires_at")
    )


def test_every_period_begun_has_its_allowance_once(desk: Desk):
    subscription = subscribe(desk.customer)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert ensure(subscription, at) == 3
    assert ensure(subscription, at) == 0
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4)]
    assert lives(subscription) == list(itertools.pairwise(months))
    # The allowances of January and February died at their periods' ends.
    assert credits.balance(desk.customer.pk, at).available == 100
    assert desk.kinds() == ["grant", "expire", "grant", "expire", "grant"]
    desk.check()


def test_the_first_allowance_begins_with_the_subscription_and_the_last_ends_with_it(desk: Desk):
    subscription = subscribe(
        desk.customer, started_on=date(2026, 1, 20), ended_on=date(2026, 2, 10)
    )
    assert ensure(subscription, datetime(2026, 6, 1, tzinfo=UTC)) == 2
    assert lives(subscription) == [
        (datetime(2026, 1, 20, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 10, tzinfo=UTC)),
    ]


def test_periods_turn_at_the_customers_own_midnight(desk: Desk):
    Customer.objects.filter(pk=desk.customer.pk).update(time_zone="America/New_York")
    subscription = subscribe(desk.customer)
    assert ensure(subscription, datetime(2026, 2, 1, 4, 59, tzinfo=UTC)) == 1
    assert ensure(subscription, datetime(2026, 2, 1, 5, tzinfo=UTC)) == 1
    assert lives(subscription)[1] == (
        datetime(2026, 2, 1, 5, tzinfo=UTC),
        datetime(2026, 3, 1, 5, tzinfo=UTC),
    )


def test_a_plan_without_allowance_grants_nothing(desk: Desk):
    assert ensure(subscribe(desk.customer, allowance=0), START) == 0
    assert credits.ensure_allowances([], at=START, actor="t", request_id="r") == 0


def test_the_clock_renews_whoever_is_due(desk: Desk):
    other = Desk(new_customer())
    running, ended = subscribe(desk.customer), subscribe(other.customer, ended_on=date(2026, 1, 5))
    at = datetime(2026, 2, 1, tzinfo=UTC)
    credits.renew_due(at=at)
    assert len(lives(running)) == 2
    assert lives(ended) == []
    assert credits.renew_due(at=at) == 0


def test_a_balance_at_any_instant(desk: Desk):
    desk.grant(10, expires_at=START + 5 * DAY)
    desk.grant(20, effective_at=START + 2 * DAY, at=START + DAY)
    held = desk.hold(4, at=START + DAY, expires_at=START + 3 * DAY)
    desk.spend(3, at=START + DAY)

    def at(days: int) -> tuple[Decimal, ...]:
        seen = credits.balance(desk.customer.pk, START + days * DAY)
        return seen.available, seen.held, seen.upcoming, seen.debt

    def check_all() -> None:
        assert at(-1) == (0, 0, 0, 0)
        assert at(0) == (10, 0, 0, 0)
        assert at(1) == (3, 4, 20, 0)
        assert at(2) == (23, 4, 0, 0)

    check_all()
    # To come: the hold lapses on day 3, the first grant expires on day 5.
    assert at(3) == (27, 0, 0, 0)
    assert at(5) == (20, 0, 0, 0)
    # Once it is past, the entries say the same.
    desk.expire(START + 9 * DAY)
    desk.spend(5, at=START + 9 * DAY, overage_policy="debt", debt_limit=D(10))
    desk.spend(17, at=START + 10 * DAY, overage_policy="debt", debt_limit=D(10))
    check_all()
    assert at(3) == (27, 0, 0, 0)
    assert at(5) == (20, 0, 0, 0)
    assert at(9) == (15, 0, 0, 0)
    assert at(10) == (0, 0, 0, 2)
    assert held.covered == 4


def test_grants_are_listed_in_the_order_they_are_used_up(desk: Desk):
    meter = new_meter()
    never = desk.grant(10)
    soon = desk.grant(10, expires_at=START + DAY)
    scoped = desk.grant(10, priority=1, meter_ids=[meter.pk])
    desk.hold(4)
    listed = credits.grants_in_burn_order(desk.customer.pk, START)
    assert [(s.grant.pk, s.free, s.held) for s in listed] == [
        (scoped.grant_id, 10, 0),
        (soon.grant_id, 6, 4),
        (never.grant_id, 10, 0),
    ]
    for_other = credits.grants_in_burn_order(desk.customer.pk, START, meter_id=new_meter().pk)
    assert [s.grant.pk for s in for_other] == [soon.grant_id, never.grant_id]
    assert credits.grants_in_burn_order(new_customer().pk, START) == []


def test_credits_are_given_with_a_kind_and_a_reason(desk: Desk):
    terms = {
        "key": "gift",
        "amount": D(5),
        "at": START,
        "actor": "test",
        "request_id": "r1",
    }
    with pytest.raises(ValueError, match="reason"):
        credits.give(desk.customer.pk, kind="goodwill", reason=" ", **terms)
    with pytest.raises(ValueError, match="given"):
        credits.give(desk.customer.pk, kind="purchased", reason="a sale", **terms)
    credits.give(desk.customer.pk, kind="goodwill", reason="late delivery", **terms)
    assert desk.balance.available == 5


def test_the_sweep_leaves_nobody_due(desk: Desk):
    desk.grant(10, expires_at=START + DAY)
    assert credits.sweep(at=START + 2 * DAY, limit=1) >= 1
    assert credits.sweep(at=START + 2 * DAY) == 0
    assert desk.balance.available == 0
