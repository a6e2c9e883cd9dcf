"""Billing periods: half-open `[start, end)` days counted from an anchor, and parts of them.

Boundary k is always the anchor plus k intervals, its day clipped to the month's end and restored
later (31 Jan, 28 Feb, 31 Mar); it is never derived from the boundary before it. Days are those of
the customer's zone; turning instants into days is the caller's.
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal

from billing.rules.money import Exact, Unit, quantize

Interval = Literal["day", "week", "month", "quarter", "year"]
Alignment = Literal["anniversary", "calendar", "fixed"]
DayCount = Literal["actual", "fixed_30"]

_DAYS: Final = {"day": 1, "week": 7}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open days `[start, end)`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"a span cannot end on {self.end}, before it starts on {self.start}")

    @property
    def days(self) -> int:
        """How many days the span holds."""
        return (self.end - self.start).days

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end

    def within(self, start: date, end: date | None) -> "Span":
        """The part that lies in `[start, end)`; empty (0 days) when there is none."""
        low = min(max(self.start, start), self.end)
        high = self.end if end is None else max(min(self.end, end), low)
        return Span(low, high)


@dataclass(frozen=True, slots=True)
class Period:
    """Period number `index` of an anchor: days `[start, end)`."""

    index: int
    start: date
    end: date

    @property
    def days(self) -> int:
        """How many days the period holds."""
        return (self.end - self.start).days

    @property
    def span(self) -> Span:
        """The days alone."""
        return Span(self.start, self.end)

    def __contains__(self, day: date) -> bool:
        return self.start <= day < self.end


def add_months(anchor: date, months: int) -> date:
    """The anchor moved by months, its day clipped to the month's end.

    >>> add_months(date(2024, 1, 31), 1)
    datetime.date(2024, 2, 29)
    """
    position = anchor.year * 12 + anchor.month - 1 + months
    year, month = position // 12, position % 12 + 1
    return date(year, month, min(anchor.day, monthrange(year, month)[1]))


def boundary(anchor: date, interval: Interval, count: int, k: int) -> date:
    """Boundary k of the periods of `count` intervals that start at the anchor; k may be negative.

    >>> [boundary(date(2026, 1, 31), "month", 1, k).isoformat() for k in range(3)]
    ['2026-01-31', '2026-02-28', '2026-03-31']
    """
    if count < 1:
        raise ValueError(f"a period has at least one {interval}, not {count}")
    if interval in _DAYS:
        return anchor + timedelta(days=_DAYS[interval] * count * k)
    return add_months(anchor, _MONTHS[interval] * count * k)


def period(anchor: date, interval: Interval, count: int, k: int) -> Period:
    """Period number k: from boundary k to boundary k + 1."""
    return Period(k, boundary(anchor, interval, count, k), boundary(anchor, interval, count, k + 1))


def period_at(anchor: date, interval: Interval, count: int, day: date) -> Period:
    """The period that holds `day`; days before the anchor have negative numbers.

    >>> period_at(date(2026, 1, 31), "month", 1, date(2026, 3, 30))
    Period(index=1, start=datetime.date(2026, 2, 28), end=datetime.date(2026, 3, 31))
    """
    if count < 1:
        raise ValueError(f"a period has at least one {interval}, not {count}")
    if interval in _DAYS:
        k = (day - anchor).days // (_DAYS[interval] * count)
        return period(anchor, interval, count, k)
    months = (day.year - anchor.year) * 12 + day.month - anchor.month
    k = months // (_MONTHS[interval] * count)
    if boundary(anchor, interval, count, k) > day:
        k -= 1
    elif boundary(anchor, interval, count, k + 1) <= day:
        k += 1
    return period(anchor, interval, count, k)


def periods(
    anchor: date, interval: Interval, count: int, start: date, end: date
) -> Iterator[Period]:
    """Every period that shares a day with `[start, end)`, whole and in order."""
    if start >= end:
        return
    current = period_at(anchor, interval, count, start)
    while current.start < end:
        yield current
        current = period(anchor, interval, count, current.index + 1)


def aligned_anchor(
    start: date,
    interval: Interval,
    count: int = 1,
    *,
    alignment: Alignment = "anniversary",
    fixed_day: int | None = None,
) -> date:
    """The anchor whose periods a subscription that starts on `start` follows.

    anniversary: the start day itself. calendar: the first of the month, quarter or year, or the
    Monday, that `start` lies in (several months that divide a year count from January). fixed: the
    latest real `fixed_day` of a month (for weeks 1 = Monday) on or before `start`.

    >>> aligned_anchor(date(2026, 2, 15), "month", alignment="fixed", fixed_day=31)
    datetime.date(2026, 1, 31)
    """
    if alignment == "anniversary" or interval == "day":
        return start
    if alignment == "calendar":
        return _calendar_anchor(start, interval, count)
    if fixed_day is None:
        raise ValueError("a fixed alignment names its day")
    if interval == "week":
        return start - timedelta(days=(start.isoweekday() - fixed_day) % 7)
    if not 1 <= fixed_day <= 31:
        raise ValueError(f"no month has a day {fixed_day}")
    anchor = start.replace(day=1)
    while monthrange(anchor.year, anchor.month)[1] < fixed_day or (
        anchor.replace(day=fixed_day) > start
    ):
        anchor = add_months(anchor, -1)
    return anchor.replace(day=fixed_day)


def fraction(
    served: Span,
    whole: Span | Period,
    *,
    day_count: DayCount = "actual",
    days_not_charged: int = 0,
) -> Fraction:
    """D / N: the days served of the whole anchored period around them, between 0 and 1.

    `days_not_charged` (trial, pause) leave D and stay in N. With `fixed_30` every month counts 30
    days and the last day of a month is its 30th.

    >>> february = Span(date(2026, 2, 1), date(2026, 3, 1))
    >>> fraction(Span(date(2026, 2, 15), date(2026, 3, 1)), february)
    Fraction(1, 2)
    """
    around = whole.span if isinstance(whole, Period) else whole
    inside = served.within(around.start, around.end)
    if day_count == "fixed_30":
        days, days_whole = days_30(inside), days_30(around)
    else:
        days, days_whole = inside.days, around.days
    if days_whole <= 0:
        raise ValueError(f"a period needs days: {around.start} to {around.end}")
    return min(Fraction(max(days - days_not_charged, 0), days_whole), Fraction(1))


def days_30(span: Span) -> int:
    """Days of a span when every month has 30 days."""
    start, end = span.start, span.end
    months = (end.year - start.year) * 12 + end.month - start.month
    return max(months * 30 + min(end.day, 30) - min(start.day, 30), 0)


def prorated(price: Exact, part: Fraction, unit: Unit) -> Decimal:
    """A price for part of a period, rounded once: `round(P · D / N)`.

    >>> prorated(Decimal("29.00"), Fraction(1, 31), "EUR")
    Decimal('0.94')
    """
    return quantize(Fraction(price) * part, unit)


def cumulative_part(
    price: Exact, part_so_far: Fraction, already_charged: Decimal, unit: Unit
) -> Decimal:
    """What a further part of one period costs, so that the parts sum to the whole price.

    part_so_far: D / N from the period's start through this part, this part included.
    already_charged: booked amounts of the earlier parts of the same price and period.

    >>> cumulative_part(Decimal("29.00"), Fraction(2, 31), Decimal("0.94"), "EUR")
    Decimal('0.93')
    """
    return quantize(Fraction(price) * part_so_far, unit) - already_charged


def _calendar_anchor(start: date, interval: Interval, count: int) -> date:
    if interval == "week":
        return start - timedelta(days=start.weekday())
    if interval == "year":
        return date(start.year, 1, 1)
    months = _MONTHS[interval] * count
    if 12 % months:
        months = _MONTHS[interval]
    return date(start.year, (start.month - 1) // months * months + 1, 1)
