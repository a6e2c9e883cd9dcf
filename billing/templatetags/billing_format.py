"""How figures, days and states are written on the screen. Formats only; nothing is computed here.

Digits follow the language in use, the minus is a real one, and the ISO code of a currency has a
fixed slot behind the digits so that both line up in a column.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Final

from django import template
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.rules.money import exponent

register = template.Library()

MINUS: Final = "\u2212"
DASH: Final = "\u2013"
NOTHING: Final = "\u2014"
_CREDIT_PLACES_MAX: Final = 6


def digits(amount: Decimal, places: int) -> str:
    """An amount with grouped digits and at least `places` decimals; never hides a decimal."""
    exact = amount.normalize()
    _, _, scale = exact.as_tuple()
    shown = max(places, -scale if isinstance(scale, int) and scale < 0 else 0)
    text = number_format(abs(amount), decimal_pos=shown, use_l10n=True, force_grouping=True)
    return f"{MINUS}{text}" if amount < 0 else text


def money_places(currency: str) -> int:
    """Decimals of a currency; an unknown code shows two."""
    try:
        return exponent(currency)
    except ValueError:
        return 2


@register.filter
def amount(value: Decimal | None, currency: str) -> str:
    """Only the digits of money in `currency`, such as `4,180.00`."""
    return "" if value is None else digits(value, money_places(currency))


@register.filter
def money(value: Decimal | None, currency: str) -> str:
    """Money for a column: digits, then the quiet code. Nothing due stays a quiet 0.00."""
    if value is None:
        return format_html('<span class="quiet">{}</span>', NOTHING)
    text = digits(value, money_places(currency))
    quiet = "quiet" if value == 0 else ""
    return format_html(
        '<span class="{}">{}</span><span class="cur after">{}</span>', quiet, text, currency
    )


@register.filter
def money_text(value: Decimal | None, currency: str) -> str:
    """Money in a sentence, the code first: `EUR 873.97`."""
    return "" if value is None else f"{currency}\u00a0{digits(value, money_places(currency))}"


@register.filter
def figure(value: Decimal | None, currency: str) -> str:
    """Money as a key figure: a small quiet code, then the digits."""
    if value is None:
        return NOTHING
    return format_html(
        '<span class="cur">{}</span>{}', currency, digits(value, money_places(currency))
    )


@register.filter("credits")
def credit_amount(value: Decimal | int | None) -> str:
    """Credits without trailing zeros, such as `1,200` or `0.25`."""
    return "" if value is None else digits(Decimal(value), 0)


@register.filter
def signed_credits(value: Decimal | None) -> str:
    """Credits that moved, with the sign always written."""
    if value is None:
        return ""
    return digits(value, 0) if value < 0 else f"+{digits(value, 0)}"


@register.filter
def count(value: int | None) -> str:
    """A whole number with grouped digits."""
    return "" if value is None else number_format(value, decimal_pos=0, force_grouping=True)


@register.filter
def quantity(value: Decimal | None) -> str:
    """A quantity or unit price with as many decimals as it has, two at least when it has any."""
    if value is None:
        return ""
    whole = value == value.to_integral_value()
    return digits(value, 0 if whole else 2)


@register.filter
def rate(value: Decimal | None, currency: str) -> str:
    """A price in `currency`, with its coins at least and every further decimal it has."""
    return "" if value is None else digits(value, money_places(currency))


def units(value: Decimal, unit: str) -> str:
    """A quantity with its unit, in the plural where there is more or less than one."""
    is_plain = unit.isalpha() and not unit.endswith("s")
    return f"{quantity(value)} {unit}{'s' if is_plain and value != 1 else ''}"


@register.filter
def percent(value: Decimal | None) -> str:
    """A rate in percent: `23 %`."""
    return "" if value is None else f"{digits(value, 0)}\u00a0%"


@register.filter
def day(value: date | None) -> str:
    """A day, such as `2 Jun 2026`."""
    return "" if value is None else date_format(value, "j M Y")


@register.filter
def moment(value: datetime | None) -> str:
    """An instant in the reader's time zone, such as `2 Jun 2026, 14:03`."""
    if value is None:
        return ""
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return date_format(local, "j M Y, H:i")


def span_text(start: date | None, end: date | None) -> str:
    """The days of a half-open period as people say it: `1 – 31 May 2026`, last day included."""
    if start is None or end is None:
        return ""
    last = date.fromordinal(end.toordinal() - 1)
    if last <= start:
        return day(start)
    if (start.year, start.month) == (last.year, last.month):
        return f"{start.day} {DASH} {day(last)}"
    if start.year == last.year:
        return f"{date_format(start, 'j M')} {DASH} {day(last)}"
    return f"{day(start)} {DASH} {day(last)}"


def month_text(start: date | None, end: date | None) -> str:
    """A whole month by its name (`May 2026`), any other period by its days."""
    if start is None or end is None:
        return ""
    month_after = date(start.year + start.month // 12, start.month % 12 + 1, 1)
    if start.day == 1 and end == month_after:
        return date_format(start, "F Y")
    return span_text(start, end)


@register.simple_tag
def span(start: date | None, end: date | None) -> str:
    """The days of a half-open period, last day included."""
    return span_text(start, end)


@register.simple_tag
def badge(text: str, kind: str = "") -> SafeString:
    """A state in one to three words. The shape of its mark says the kind, not colour alone."""
    return format_html(
        '<span class="badge {}">{}</span>', kind, text[:1].upper() + text[1:] if text else text
    )
