"""Figures and days as a reader of the document's language writes them. Computes nothing."""

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_interval, format_skeleton

from billing.paper.words import LANGUAGES
from billing.rules.money import exponent

_DAY_BEFORE: Final = timedelta(days=1)
_SEPA: Final = (
    "AD AL AT BE BG CH CY CZ DE DK EE ES FI FR GB GI GR HR HU IE IS IT LI LT LU LV MC MD ME MK MT "
    "NL NO PL PT RO RS SE SI SK SM VA"
)


@lru_cache(maxsize=256)
def locale_of(language: str) -> Locale:
    """The locale of a language code such as `de` or `fr-CH`; English as written in Europe else."""
    name, _, region = language.replace("-", "_").partition("_")
    if name.lower() not in LANGUAGES:
        name, region = "en", ""
    if name == "en" and not region:
        region = "GB"
    try:
        return Locale(name, region.upper() or None)
    except (UnknownLocaleError, ValueError):
        return Locale(name)


@lru_cache(maxsize=64)
def _signs(locale: Locale) -> dict[int, str]:
    """How the locale writes the thousands comma and the decimal point."""
    symbols = locale.number_symbols["latn"]
    # A no-break space, not the narrow one some readers of PDF take for no space at all.
    group = symbols["group"].replace("\u202f", "\u00a0")
    return {ord(","): group, ord("."): symbols["decimal"]}


def digits(value: Decimal, places: int, locale: Locale) -> str:
    """Grouped digits with at least `places` decimals; never hides one. A minus is a hyphen."""
    shown = max(places, scale(value))
    return f"{value:,.{shown}f}".translate(_signs(locale))


def scale(value: Decimal) -> int:
    """Decimals that say something: 2 for 0.25, 0 for 1200."""
    _, digits_of, exponent_of = value.as_tuple()
    if not isinstance(exponent_of, int) or not value:
        return 0
    # Not normalize(): that would round a number longer than the context.
    count = -exponent_of
    for digit in reversed(digits_of):
        if digit or count <= 0:
            break
        count -= 1
    return max(count, 0)


def places(values: Iterable[Decimal], least: int, most: int) -> int:
    """One count of decimals for a column, so that its points line up, unless one is very fine."""
    return max([least, *(count for value in values if (count := scale(value)) <= most)])


def money_places(currency: str) -> int:
    """Decimals of a currency; an unknown code has two."""
    try:
        return exponent(currency)
    except ValueError:
        return 2


def percent(rate: Decimal, locale: Locale) -> str:
    """A rate with its sign, such as `23%` or `19 %`."""
    gap = "" if locale.percent_formats[None].pattern.endswith("0%") else "\u00a0"
    return f"{digits(rate, 0, locale)}{gap}%"


@lru_cache(maxsize=4_096)
def long_day(day: date, locale: Locale) -> str:
    """A day in full: `1 December 2026`."""
    return format_date(day, "long", locale=locale)


@lru_cache(maxsize=4_096)
def day(value: date, locale: Locale) -> str:
    """A day in short: `1 Dec 2026`."""
    return format_skeleton("yMMMd", value, locale=locale)


@lru_cache(maxsize=4_096)
def span(start: date, end: date, locale: Locale) -> str:
    """The days of a half-open period, the last one named: `1-30 Nov 2026`."""
    last = end - _DAY_BEFORE
    return (
        day(start, locale)
        if last <= start
        else format_interval(start, last, "yMMMd", locale=locale)
    )


@lru_cache(maxsize=4_096)
def long_span(start: date, end: date, locale: Locale) -> str:
    """The same with the month written out when it is one month: `1-30 November 2026`."""
    last = end - _DAY_BEFORE
    if last <= start:
        return long_day(start, locale)
    skeleton = "yMMMMd" if (start.year, start.month) == (last.year, last.month) else "yMMMd"
    return format_interval(start, last, skeleton, locale=locale)


@lru_cache(maxsize=512)
def country(code: str, locale: Locale) -> str:
    """The name of a country; a code nobody knows is printed as it is."""
    return locale.territories.get(code.upper(), code) if code else ""


def takes_sepa(code: str) -> bool:
    """Whether a bank account of this country takes SEPA transfers."""
    return code in _SEPA.split()
