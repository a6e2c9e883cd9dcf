"""Periods tile the calendar, and the parts of a period make the whole."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import periods
from billing.rules.money import quantize
from billing.rules.periods import Span, cumulative_part, fraction, prorated
from billing.rules.zones import begins, day_in

days = st.dates(date(1990, 1, 1), date(2090, 12, 31))
intervals = st.sampled_from(["day", "week", "month", "quarter", "year"])
counts = st.integers(1, 14)

ZONES = (
    "UTC", "Europe/Dublin", "Europe/Berlin", "Europe/Lisbon", "Africa/Cairo", "Africa/Casablanca",
    "Africa/Johannesburg", "America/New_York", "America/St_Johns", "America/Sao_Paulo",
    "America/Santiago", "America/Havana", "America/Asuncion", "Asia/Beirut", "Asia/Tehran",
    "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Australia/Lord_Howe", "Australia/Sydney",
    "Pacific/Auckland", "Pacific/Chatham", "Pacific/Apia", "Pacific/Kiritimati",
)  # fmt: skip
YEARS = range(2022, 2030)
ANCHOR_DAYS = range(28, 32)
SHAPES = (
    ("month", 1), ("month", 2), ("month", 6), ("quarter", 1), ("year", 1), ("week", 1), ("day", 30),
)  # fmt: skip


@given(days, intervals, counts, st.integers(-50, 50))
def test_boundaries_ascend_without_gap_or_overlap(anchor, interval, count, k):
    if not 1900 < anchor.year + k * count < 2900:
        return
    first = periods.period(anchor, interval, count, k)
    second = periods.period(anchor, interval, count, k + 1)
    assert first.start < first.end == second.start


@given(days, intervals, counts, days)
def test_every_day_lies_in_exactly_one_period(anchor, interval, count, day):
    found = periods.period_at(anchor, interval, count, day)
    assert day in found
    assert found == periods.period(anchor, interval, count, found.index)


@given(days, st.sampled_from(["month", "quarter", "year"]), counts, st.integers(0, 40))
def test_the_anchor_s_day_comes_back_in_longer_months(anchor, interval, count, k):
    found = periods.boundary(anchor, interval, count, k)
    month_end = (found + timedelta(days=1)).month != found.month
    assert found.day == anchor.day or (month_end and found.day < anchor.day)


@given(days, st.integers(1, 31), st.sampled_from(["month", "quarter", "year"]), counts)
def test_a_fixed_day_is_reached_in_whole_intervals(start, fixed_day, interval, count):
    if start.year + count * 4 > 2900:
        return
    anchor = periods.aligned_anchor(start, interval, count, alignment="fixed", fixed_day=fixed_day)
    found = periods.period_at(anchor, interval, count, start, day=fixed_day)
    assert start in found
    assert found.start == anchor
    first = periods.first_boundary(start, interval, count, fixed_day)
    assert first == (start if start == anchor else found.end)


@given(days, intervals, counts)
def test_a_calendar_period_holds_the_start(start, interval, count):
    anchor = periods.aligned_anchor(start, interval, count, alignment="calendar")
    assert anchor <= start
    if interval != "week" and interval != "day":
        assert anchor.day == 1


def test_a_quarter_starts_with_the_calendar_s():
    anchor = periods.aligned_anchor(date(2026, 5, 20), "quarter", alignment="calendar")
    assert anchor == date(2026, 4, 1)


@given(days, intervals, st.integers(1, 3), st.data())
def test_parts_billed_one_by_one_come_to_the_whole_price(anchor, interval, count, data):
    whole = periods.period(anchor, interval, count, 0)
    price = data.draw(st.decimals(0, 10_000, places=2))
    inner = st.dates(whole.start + timedelta(days=1), whole.end)
    ends = sorted({*data.draw(st.lists(inner, max_size=5)), whole.end})
    charged = Decimal(0)
    for end in ends:
        so_far = fraction(Span(whole.start, end), whole)
        part = cumulative_part(price, so_far, charged, "EUR")
        assert part >= 0
        charged += part
    assert charged == price


def test_single_days_of_a_month_come_to_the_price_only_in_the_cumulative_form():
    whole = periods.period(date(2026, 1, 1), "month", 1, 0)
    price, charged, naive = Decimal("29.00"), Decimal(0), Decimal(0)
    for n in range(31):
        start = whole.start + timedelta(days=n)
        naive += prorated(price, fraction(Span(start, start + timedelta(days=1)), whole), "EUR")
        so_far = fraction(Span(whole.start, start + timedelta(days=1)), whole)
        charged += cumulative_part(price, so_far, charged, "EUR")
    assert (charged, naive) == (price, Decimal("29.14"))


@given(days, st.integers(1, 400), st.integers(-100, 500), st.integers(0, 500), st.integers(0, 60))
def test_a_part_is_between_nothing_and_all(start, length, offset, size, trial):
    whole = Span(start, start + timedelta(days=length))
    low = start + timedelta(days=offset)
    part = fraction(Span(low, low + timedelta(days=size)), whole, days_not_charged=trial)
    assert 0 <= part <= 1


@given(days, st.data())
def test_a_partition_sums_to_one(start, data):
    whole = periods.period(start, "month", 1, 0).span
    cut = data.draw(st.dates(whole.start, whole.end))
    first, second = Span(whole.start, cut), Span(cut, whole.end)
    assert fraction(first, whole) + fraction(second, whole) == 1


def test_trial_days_leave_the_days_served_and_stay_in_the_period():
    march = Span(date(2022, 3, 1), date(2022, 4, 1))
    assert fraction(march, march, days_not_charged=3) == Fraction(28, 31)


def test_a_whole_month_of_thirty_days_is_one():
    for start in (date(2026, 2, 1), date(2026, 1, 31), date(2026, 3, 1)):
        whole = periods.period(start, "month", 1, 0).span
        assert fraction(whole, whole, day_count="fixed_30") == 1
    half = Span(date(2026, 2, 1), date(2026, 2, 16))
    february = Span(date(2026, 2, 1), date(2026, 3, 1))
    assert fraction(half, february, day_count="fixed_30") == Fraction(1, 2)


def test_advance_billing_owes_the_parts_that_have_begun():
    parts = list(
        periods.parts_begun(
            date(2026, 1, 1), "month", 1,
            start=date(2026, 1, 20), end=date(2026, 3, 10), through=date(2026, 3, 1),
        )
    )  # fmt: skip
    assert [(p.served.start, p.served.end) for p in parts] == [
        (date(2026, 1, 20), date(2026, 2, 1)),
        (date(2026, 2, 1), date(2026, 3, 1)),
        (date(2026, 3, 1), date(2026, 3, 10)),
    ]
    assert parts[0].fraction == Fraction(12, 31)


def test_nothing_is_owed_before_the_start():
    begun = periods.parts_begun(
        date(2026, 1, 1), "month", 1, start=date(2026, 2, 1), end=None, through=date(2026, 1, 31)
    )
    assert not list(begun)


@given(days, st.sampled_from(["month", "week", "year"]), st.integers(1, 5), st.integers(1, 700))
def test_cycles_follow_each_other(start, interval, count, trial):
    split_on = start + timedelta(days=trial)
    cycles = list(islice(periods.cycles(start, interval, count, split_on=split_on), 8))
    assert cycles[0].start == start
    assert all(one.end == other.start and one.days > 0 for one, other in pairwise(cycles))


def test_instants_keep_their_time_of_day():
    anchor = datetime(2025, 1, 30, 15, tzinfo=UTC)
    found = periods.period_at(anchor, "month", 1, datetime(2025, 2, 28, 14, tzinfo=UTC))
    assert found.end == datetime(2025, 2, 28, 15, tzinfo=UTC)


@pytest.mark.calendar
@pytest.mark.parametrize("zone", ZONES)
def test_periods_of_month_ends_are_contiguous_in_every_zone(zone):
    """24 zones × 8 years × anchors on the 28th to the 31st × 7 shapes: 5,376 sequences."""
    assert len(ZONES) * len(YEARS) * len(ANCHOR_DAYS) * len(SHAPES) == 5376
    for year in YEARS:
        for anchor_day in ANCHOR_DAYS:
            for interval, count in SHAPES:
                _check_sequence(date(year, 1, anchor_day), interval, count, zone)


def _check_sequence(anchor: date, interval: str, count: int, zone: str) -> None:
    end = date(anchor.year + 1, 2, 1)
    sequence = list(periods.periods(anchor, interval, count, anchor, end))
    assert sequence[0].start == anchor
    assert sequence[-1].end >= end
    total = 0
    for one, other in pairwise(sequence):
        assert one.end == other.start
        assert begins(one.start, zone) < begins(one.end, zone) == begins(other.start, zone)
    for one in sequence:
        total += one.days
        first = begins(one.start, zone)
        assert day_in(first, zone) == one.start
        assert day_in(first - timedelta(microseconds=1), zone) == one.start - timedelta(days=1)
    assert total == (sequence[-1].end - anchor).days
    if interval in {"month", "quarter", "year"}:
        assert all(p.start.day == anchor.day or _ends_month(p.start) for p in sequence)


def _ends_month(day: date) -> bool:
    return (day + timedelta(days=1)).month != day.month


def test_a_price_is_rounded_once():
    part = Fraction(1, 3)
    assert prorated(Decimal("0.01"), part, "EUR") == quantize(Fraction(1, 300), "EUR") == 0
