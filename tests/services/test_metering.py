"""Use becomes charges once, paid as the plan says, refused or recorded without touching others."""

import threading
import time
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction

from billing import credits, ledger, metering, runs
from billing.metering import Stage
from billing.models import (
    Charge,
    CreditBalance,
    Hold,
    InvoiceLine,
    LedgerEntry,
    UsageEvent,
)
from tests import factories as make

pytestmark = pytest.mark.django_db
AT = make.instant("2026-11-10T12:00")
START = date(2026, 11, 1)


def member(policy="block", allowance="100", *prices, **terms):
    """A subscribed customer with its allowance granted."""
    prices = prices or (make.usage_price(), make.overage())
    plan = make.version(
        *prices, overage_policy=policy, allowance_credits=Decimal(allowance), **terms
    )
    subscription = make.subscribe(make.customer(make.seller()), plan, START)
    credits.ensure_allowances([subscription.pk], at=AT, actor="test", request_id="test")
    return subscription


def available(subscription):
    return CreditBalance.objects.get(customer_id=subscription.customer_id).available


def outcomes(results):
    return [(r.outcome, r.is_new, r.credits, r.overage) for r in results]


def test_a_use_is_charged_to_the_allowance():
    who = member()
    (result,) = make.record(make.use(who, "30", AT))
    assert (result.outcome, result.credits, result.overage) == ("charged", 30, 0)
    charge = Charge.objects.get(subscription=who)
    assert (charge.credits, charge.quantity, charge.occurred_at) == (30, 30, AT)
    assert charge.entry.kind == "spend"
    assert charge.entry.amount == 30
    assert available(who) == 70
    assert charge.explanation["credits"] == "30"


def test_a_blocking_plan_refuses_what_is_too_much_and_nothing_after_it():
    who = member()
    results = make.record(*(make.use(who, q, AT) for q in ("60", "60", "40", "1")))
    assert [r.outcome for r in results] == ["charged", "refused", "charged", "refused"]
    assert available(who) == 0
    refused = UsageEvent.objects.filter(subscription=who, outcome="refused")
    assert refused.count() == 2
    assert all(event.reason for event in refused)
    assert not Charge.objects.filter(usage_event__in=refused).exists()


def test_an_invoiced_plan_covers_what_it_can_and_bills_the_rest():
    who = member("invoice")
    results = make.record(make.use(who, "60", AT), make.use(who, "60", AT), make.use(who, "5", AT))
    assert [(r.credits, r.overage) for r in results] == [(60, 0), (40, 20), (0, 5)]
    assert LedgerEntry.objects.filter(customer=who.customer, kind="spend").count() == 2


def test_a_debt_plan_owes_up_to_its_limit():
    who = member("debt", "100", make.usage_price(), debt_limit=Decimal(50))
    results = make.record(make.use(who, "140", AT), make.use(who, "20", AT))
    assert [r.outcome for r in results] == ["charged", "refused"]
    assert CreditBalance.objects.get(customer=who.customer).debt == 40


def test_failed_work_costs_nothing_but_is_recorded():
    who = member()
    (result,) = make.record(make.use(who, "30", AT, stage=Stage.FAILED))
    assert outcomes([result]) == [("free", True, 0, 0)]
    assert available(who) == 100


def test_a_price_of_zero_is_free():
    who = member("block", "100", make.usage_price("0"))
    assert make.record(make.use(who, "30", AT))[0].outcome == "free"
    assert make.record(make.use(who, "0", AT))[0].outcome == "free"


def test_use_without_a_size_or_a_price_is_recorded_unpriced():
    who = member()
    bare = member("invoice", "100", make.overage())
    (sizeless,) = make.record(make.use(who, None, AT))
    (priceless,) = make.record(make.use(bare, "1", AT))
    assert (sizeless.outcome, priceless.outcome) == ("unpriced", "unpriced")
    assert sizeless.reason != priceless.reason


def test_work_under_way_holds_its_credits():
    who = member()
    until = AT + timedelta(days=30)
    (result,) = make.record(make.use(who, "30", AT, stage=Stage.OPEN, hold_until=until))
    assert result.outcome == "held"
    balance = CreditBalance.objects.get(customer=who.customer)
    assert (balance.available, balance.held) == (70, 30)
    assert Hold.objects.get(customer=who.customer).expires_at == until
    assert not Charge.objects.filter(subscription=who).exists()


def test_a_refused_hold_leaves_the_rest_of_the_batch():
    who = member()
    results = make.record(
        make.use(who, "90", AT),
        make.use(who, "30", AT, stage=Stage.OPEN),
        make.use(who, "5", AT, stage=Stage.OPEN),
    )
    assert [r.outcome for r in results] == ["charged", "refused", "held"]


def test_a_key_is_recorded_once_in_a_batch_and_ever():
    who = member()
    use = make.use(who, "10", AT)
    first = make.record(use, use)
    assert [r.is_new for r in first] == [True, False]
    assert [r.is_new for r in make.record(use)] == [False]
    assert available(who) == 90
    assert UsageEvent.objects.filter(subscription=who).count() == 1


def test_two_customers_may_use_the_same_key():
    one, two = member(), member()
    key = make.unique("key-")
    results = make.record(make.use(one, "10", AT, key=key), make.use(two, "10", AT, key=key))
    assert [r.is_new for r in results] == [True, True]


def test_credits_are_rounded_once_to_six_places():
    who = member("block", "100", make.usage_price("0.3333333333"))
    make.record(make.use(who, "2", AT))
    assert Charge.objects.get(subscription=who).credits == Decimal("0.666667")


def test_tiers_price_each_use_and_are_explained():
    tiers = [{"up_to": "10", "unit": "1"}, {"up_to": None, "unit": "0.5"}]
    who = member("block", "100", make.usage_price(model="graduated", unit_price=None, tiers=tiers))
    make.record(make.use(who, "30", AT))
    charge = Charge.objects.get(subscription=who)
    assert charge.credits == 20
    assert len(charge.explanation["tiers"]) == 2


def test_use_of_another_customers_subscription_is_refused():
    one, two = member(), member()
    with pytest.raises(DatabaseError), transaction.atomic():
        make.record(make.use(one, "1", AT, customer_id=two.customer_id))
    assert not UsageEvent.objects.filter(customer=two.customer).exists()


def test_nothing_recorded_is_nothing_written():
    assert metering.record_many([], actor="test", request_id="test") == []


def test_credits_bought_meanwhile_do_not_change_what_was_recorded():
    who = member("invoice", "10")
    make.record(make.use(who, "30", AT))
    ledger.grant(
        who.customer_id,
        key="gift",
        kind="goodwill",
        amount=Decimal(100),
        at=AT,
        actor="test",
        reason="test",
        request_id="test",
    )
    charge = Charge.objects.get(subscription=who)
    assert (charge.credits, charge.overage) == (10, 20)


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("services")
def test_one_use_sent_by_many_at_once_is_charged_once():
    who = member()
    use = make.use(who, "10", AT)
    barrier, answers = threading.Barrier(6), []

    def send():
        barrier.wait()
        try:
            answers.append(make.record(use)[0].is_new)
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 5 + [True]
    assert available(who) == 90


def test_late_use_of_an_invoiced_period_is_recorded_and_listed_not_lost():
    who = member("invoice", "10")
    make.record(make.use(who, "40", AT))
    clerk, admin = make.person("Clerk"), make.person("Admin")
    make.bill(who.customer.legal_entity, clerk, admin)
    (late,) = make.record(make.use(who, "5", AT + timedelta(minutes=1)))
    assert (late.outcome, late.reason) == ("unpriced", metering.LATE)
    assert available(who) == 0
    (next_month,) = make.record(make.use(who, "5", AT + timedelta(days=30)))
    assert next_month.outcome == "charged"


@pytest.mark.django_db(transaction=True)
def test_use_booked_while_a_run_drafts_is_billed_or_told_that_it_is_late():
    who = member("invoice", "1")
    make.record(make.use(who, "11", AT))
    entity = who.customer.legal_entity
    run = make.plan_run(entity, make.person("Clerk"))
    runs.start(run.pk, at=make.NOW)
    booked, results = threading.Event(), []

    def book():
        try:
            with transaction.atomic():
                results.extend(make.record(make.use(who, "7", AT + timedelta(minutes=1))))
                booked.set()
                time.sleep(0.3)  # the run drafts meanwhile, and has to wait
        finally:
            booked.set()
            connection.close()

    thread = threading.Thread(target=book)
    thread.start()
    assert booked.wait(10)
    make.work(run.pk)
    thread.join()
    assert results[0].overage == 7
    line = InvoiceLine.objects.get(invoice__run=run, explanation__role="overage")
    assert line.quantity == 17
