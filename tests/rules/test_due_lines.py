"""What a subscription owes by a day: everything once, nothing early, and each line adds up."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.due_lines import PERIODS_MAX, UNIT_MAX, Item, Running, TooManyPeriods, due_lines
from billing.rules.periods import Span, periods
from billing.rules.pricing import Price, Tier
from billing.rules.totals import line_net

FEE = Item(1, "fee", "Plan", "plans", "month", "advance", Price("unit", Decimal("12.00")))
ARREARS = replace(FEE, price_id=2, billed="arrears")
OVERAGE = Item(
    3,
    "overage",
    "Credits",
    "overage",
    "credits",
    "arrears",
    Price("unit", Decimal("50.00"), Decimal(1000)),
)
NOVEMBER = date(2026, 11, 1)


def running(started=NOVEMBER, ended=None, **fields):
    values = {
        "subscription_id": 7,
        "interval": "month",
        "interval_count": 1,
        "anchor_on": started.replace(day=1),
        "started_on": started,
        "ended_on": ended,
        "quantity": 1,
    }
    return Running(**values | fields)


def owed(who, *items, through, billed=None, used=()):
    return due_lines(
        who,
        items,
        through=through,
        billed=billed or {},
        overage_by_day=used,
        currency="EUR",
    )


def spans(lines):
    return [(line.supply_from, line.supply_to) for line in lines]


# --- when ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("through", "in_advance", "in_arrears"),
    [
        (date(2026, 10, 31), 0, 0),
        (date(2026, 11, 1), 1, 0),
        (date(2026, 11, 30), 1, 0),
        (date(2026, 12, 1), 2, 1),
        (date(2027, 1, 1), 3, 2),
    ],
)
def test_a_fee_is_due_when_its_period_begins_or_is_over(through, in_advance, in_arrears):
    assert len(owed(running(), FEE, through=through)) == in_advance
    assert len(owed(running(), ARREARS, through=through)) == in_arrears


def test_use_is_due_when_its_period_is_over():
    used = [(date(2026, 11, 5), Decimal(1000)), (date(2026, 12, 1), Decimal(500))]
    assert owed(running(), OVERAGE, through=date(2026, 11, 30), used=used) == []
    (line,) = owed(running(), OVERAGE, through=date(2026, 12, 1), used=used)
    assert (line.net, line.quantity) == (Decimal("50.00"), Decimal(1000))


def test_the_last_day_of_a_period_is_inside_and_the_next_is_not():
    used = [(date(2026, 11, 30), Decimal(1000)), (date(2026, 12, 1), Decimal(9000))]
    (line,) = owed(running(), OVERAGE, through=date(2026, 12, 31), used=used)
    assert line.quantity == 1000


def test_the_first_and_the_last_period_are_cut_to_the_days_served():
    who = running(date(2026, 11, 16), date(2026, 12, 11), anchor_on=NOVEMBER)
    lines = owed(who, ARREARS, through=date(2027, 2, 1))
    assert spans(lines) == [
        (date(2026, 11, 16), date(2026, 12, 1)),
        (date(2026, 12, 1), date(2026, 12, 11)),
    ]
    assert [line.net for line in lines] == [Decimal("6.00"), Decimal("3.87")]
    assert [(line.quantity, line.base_quantity) for line in lines] == [(15, 30), (10, 31)]


def test_a_subscription_that_ended_on_its_first_day_owes_nothing():
    assert owed(running(ended=NOVEMBER), FEE, ARREARS, OVERAGE, through=date(2027, 1, 1)) == []


def test_ends_of_months_come_back_from_the_anchor():
    who = running(date(2026, 1, 31), anchor_on=date(2026, 1, 31))
    assert [line.supply_from for line in owed(who, FEE, through=date(2026, 4, 30))] == [
        date(2026, 1, 31),
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
    ]


def test_lines_stand_oldest_first():
    used = [(date(2026, 11, 5), Decimal(1000))]
    lines = owed(running(), OVERAGE, FEE, through=date(2026, 12, 1), used=used)
    assert [(line.supply_from.month, line.price_id) for line in lines] == [
        (11, 1),
        (11, 3),
        (12, 1),
    ]


# --- once ------------------------------------------------------------------------------------


def test_what_was_billed_is_left_out():
    billed = {1: [Span(date(2026, 11, 1), date(2026, 12, 1))]}
    lines = owed(running(), FEE, ARREARS, through=date(2026, 12, 1), billed=billed)
    assert [(line.price_id, line.supply_from.month) for line in lines] == [(2, 11), (1, 12)]


@given(
    started=st.dates(date(2026, 1, 1), date(2026, 6, 30)),
    length=st.none() | st.integers(0, 200),
    anchor=st.integers(0, 27),
    cuts=st.lists(st.dates(date(2026, 1, 1), date(2026, 12, 1)), min_size=1, max_size=6),
    use=st.dictionaries(st.integers(0, 300), st.integers(1, 5000), max_size=20),
)
def test_many_runs_bill_what_one_would(started, length, anchor, cuts, use):
    """However the year is cut into runs, every period and credit is billed exactly once."""
    ended = None if length is None else started + timedelta(days=length)
    who = running(started, ended, anchor_on=started - timedelta(days=anchor))
    items = (FEE, ARREARS, OVERAGE)
    used = sorted(
        (started + timedelta(days=day), Decimal(amount))
        for day, amount in use.items()
        if ended is None or started + timedelta(days=day) < ended
    )
    last = date(2026, 12, 1)
    whole = owed(who, *items, through=last, used=used)
    billed = {item.price_id: [] for item in items}
    pieces = []
    for cut in (*sorted(cuts), last):
        for line in owed(who, *items, through=cut, billed=billed, used=used):
            pieces.append(line)
            billed[line.price_id].append(Span(line.supply_from, line.supply_to))
    assert sorted(pieces, key=repr) == sorted(whole, key=repr)


# --- how much --------------------------------------------------------------------------------


@given(
    quantity=st.integers(1, 500),
    price=st.decimals(0, 1000, places=4),
    base=st.integers(1, 1000),
    started=st.dates(date(2026, 1, 1), date(2026, 12, 31)),
    used=st.decimals("0.000001", 10**7, places=6),
)
def test_every_line_is_round_quantity_times_price_over_base(quantity, price, base, started, used):
    terms = Price("unit", price, Decimal(base))
    who = running(started, quantity=quantity)
    lines = owed(
        who,
        replace(FEE, price=terms),
        replace(OVERAGE, price=terms),
        through=min(date(2027, 1, 31), started + timedelta(days=300)),
        used=[(started, used)],
    )
    for line in lines:
        assert line.net == line_net(
            line.quantity, line.unit_price, "EUR", base_quantity=line.base_quantity
        )


def test_seats_multiply_and_tiers_collapse_to_one_line():
    seats = owed(running(quantity=3), FEE, through=NOVEMBER)
    assert [line.net for line in seats] == [Decimal("36.00")]
    tiers = (Tier(Decimal(2), Decimal(10)), Tier(None, Decimal(5)))
    tiered = replace(FEE, price=Price("graduated", tiers=tiers))
    (line,) = owed(running(quantity=3), tiered, through=NOVEMBER)
    assert (line.quantity, line.unit_price, line.net) == (1, Decimal("25.00"), Decimal("25.00"))
    assert len(line.explanation["tiers"]) == 2


def test_nothing_used_and_nothing_charged_make_no_line():
    free = replace(FEE, price=Price("unit", Decimal(0)))
    assert owed(running(), free, OVERAGE, through=date(2027, 1, 1)) == []


@pytest.mark.parametrize("unit", ["month", "seat of the studio", "x" * UNIT_MAX])
def test_the_unit_of_a_part_fits_its_column(unit):
    (line,) = owed(running(date(2026, 11, 16)), replace(FEE, unit=unit), through=date(2026, 11, 30))
    assert len(line.unit) <= UNIT_MAX
    assert line.unit.endswith("days")


def test_the_explanation_tells_the_days():
    (line,) = owed(running(date(2026, 11, 16)), FEE, through=date(2026, 11, 30))
    assert line.explanation["days_served"] == 15
    assert line.explanation["days_in_period"] == 30
    assert Fraction(line.explanation["exact"]) == Fraction(6)


# --- too much --------------------------------------------------------------------------------


def test_the_safety_bound_counts_what_is_owed_and_not_what_is_quiet():
    old = running(date(2024, 1, 1))
    recent = [(date(2026, 11, 5), Decimal(1000))]
    assert len(owed(old, OVERAGE, through=date(2026, 12, 1), used=recent)) == 1
    with pytest.raises(TooManyPeriods):
        owed(old, FEE, through=date(2026, 12, 1))


def test_twelve_missed_periods_are_billed_and_thirteen_are_not():
    who = running(date(2026, 1, 1))
    assert len(owed(who, FEE, through=date(2026, 12, 31))) == PERIODS_MAX
    with pytest.raises(TooManyPeriods, match="13 periods of “Plan”"):
        owed(who, FEE, through=date(2027, 1, 1))


def test_the_periods_are_those_of_the_calendar_rule():
    who = running(date(2026, 1, 31), anchor_on=date(2026, 1, 31))
    whole = [
        p.span for p in periods(date(2026, 1, 31), "month", 1, date(2026, 1, 31), date(2026, 6, 1))
    ]
    lines = owed(who, FEE, through=date(2026, 5, 31))
    assert [Span(*span) for span in spans(lines)] == whole
