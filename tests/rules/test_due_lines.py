"""What a subscription owes: each period once, in order, however often one asks."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import due_lines as rule
from billing.rules.due_lines import Item, Running, due_lines
from billing.rules.periods import Span, add_months, aligned_anchor
from billing.rules.pricing import Price
from billing.rules.totals import line_net

D = Decimal
FEE = Item(1, "fee", "Plan fee", "plan", "month", "advance", Price("unit", D("29.00")))
USE = Item(
    2, "overage", "Credits", "credits", "credit", "arrears", Price("unit", D("0.5"), D(1000))
)


def running(start, end=None, quantity=1, interval="month"):
    anchor = aligned_anchor(start, interval, alignment="calendar")
    return Running(7, interval, 1, anchor, start, end, quantity)


def lines(subscription, through, billed=None, used=(), items=(FEE, USE)):
    return due_lines(
        subscription,
        items,
        through=through,
        billed=billed or {},
        overage_by_day=list(used),
        currency="EUR",
    )


def spans(found):
    billed = {}
    for line in found:
        billed.setdefault(line.price_id, []).append(Span(line.supply_from, line.supply_to))
    return billed


starts = st.dates(date(2024, 1, 1), date(2026, 12, 31))


@given(starts, st.integers(0, 300), st.integers(1, 9), st.lists(st.integers(0, 11), max_size=4))
def test_asking_step_by_step_gives_the_same_lines_as_asking_once(start, length, quantity, steps):
    subscription = running(start, start + timedelta(days=length), quantity)
    used = [(start + timedelta(days=n), D(100)) for n in range(0, length, 9)]
    last = add_months(start, 11).replace(day=1)
    billed, found = {}, []
    for months in [*sorted(steps), None]:
        through = last if months is None else min(add_months(start, months), last)
        found += lines(subscription, through, billed, used)
        billed = spans(found)
    at_once = lines(subscription, last, used=used)
    assert sorted(found, key=str) == sorted(at_once, key=str)
    assert not lines(subscription, last, billed, used)
    for price_spans in billed.values():
        in_order = sorted(price_spans, key=lambda span: span.start)
        assert all(one.end <= other.start for one, other in pairwise(in_order))


@given(starts, st.integers(1, 200), st.integers(1, 9))
def test_a_line_follows_from_its_own_quantity_and_price(start, length, quantity):
    subscription = running(start, start + timedelta(days=length), quantity)
    used = [(start, D("123.456"))]
    for line in lines(subscription, add_months(start, 8), used=used):
        net = line_net(line.quantity, line.unit_price, "EUR", base_quantity=line.base_quantity)
        assert net == line.net


@given(starts, st.lists(st.integers(0, 99), max_size=20))
def test_every_credit_beyond_the_grants_is_billed_once(start, days):
    subscription = running(start, start + timedelta(days=100))
    used = [(start + timedelta(days=n), D(1000)) for n in sorted(days)]
    found = lines(subscription, add_months(start, 8), used=used, items=(USE,))
    assert sum((line.quantity for line in found), D(0)) == sum((n for _, n in used), D(0))


def test_a_fee_is_owed_in_advance_and_use_once_its_month_is_over():
    subscription = running(date(2026, 11, 10))
    used = [(date(2026, 11, 20), D(2000))]
    during = lines(subscription, date(2026, 11, 30), used=used)
    assert [(line.price_id, line.net) for line in during] == [(1, D("20.30"))]
    after = lines(subscription, date(2026, 12, 1), spans(during), used)
    assert [(line.price_id, line.net) for line in after] == [(2, D("1.00")), (1, D("29.00"))]


def test_too_many_missed_periods_are_for_a_person():
    with pytest.raises(rule.TooManyPeriods, match="13 periods"):
        lines(running(date(2025, 1, 1)), date(2026, 1, 1), items=(FEE,))
