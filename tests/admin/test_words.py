"""Figures, days and reasons as they are written on the screen, and what the search box reads."""

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from billing.admin import charts, explain
from billing.admin.search import AmountAsked, parse_amount
from billing.models import InvoiceLine, Price
from billing.templatetags import billing_format as written

if TYPE_CHECKING:
    from tests.admin.house import House

D = Decimal


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [
        ("4180", "CHF", "4,180.00"),
        ("873.970", "EUR", "873.97"),
        ("-15", "EUR", "−15.00"),
        ("1234567", "JPY", "1,234,567"),
        ("1.5", "KWD", "1.500"),
        ("0.005", "EUR", "0.005"),  # a decimal is never hidden
        ("0", "EUR", "0.00"),
    ],
)
def test_money_has_the_coins_of_its_currency(value: str, currency: str, expected: str) -> None:
    assert written.amount(D(value), currency) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1200.000000", "1,200"), ("0.250000", "0.25"), ("0", "0"), ("1E+3", "1,000")],
)
def test_credits_have_no_idle_zeros(value: str, expected: str) -> None:
    assert written.credit_amount(D(value)) == expected


def test_movements_carry_their_sign() -> None:
    assert written.signed_credits(D(20000)) == "+20,000"
    assert written.signed_credits(D(-1200)) == "−1,200"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (date(2026, 5, 1), date(2026, 6, 1), "1 – 31 May 2026"),
        (date(2026, 5, 18), date(2026, 5, 19), "18 May 2026"),
        (date(2026, 9, 1), date(2026, 11, 1), "1 Sep – 31 Oct 2026"),
        (date(2026, 12, 15), date(2027, 1, 15), "15 Dec 2026 – 14 Jan 2027"),
    ],
)
def test_a_half_open_period_names_its_last_day(start: date, end: date, expected: str) -> None:
    assert written.span_text(start, end) == expected


def test_a_whole_month_goes_by_its_name() -> None:
    assert written.month_text(date(2026, 12, 1), date(2027, 1, 1)) == "December 2026"
    assert written.month_text(date(2026, 12, 2), date(2027, 1, 1)) == "2 – 31 Dec 2026"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234.56", AmountAsked("exact", D("1234.56"))),
        ("1,234.56", AmountAsked("exact", D("1234.56"))),
        (">1000", AmountAsked("gt", D(1000))),
        ("<= 20", AmountAsked("lte", D(20))),
        ("AN-2026-1", None),
        ("1e9", None),
        ("９", None),
        (">", None),
        ("99999999999999999999", None),
    ],
)
def test_the_search_reads_amounts(text: str, expected: AmountAsked | None) -> None:
    assert parse_amount(text) == expected


def test_a_bar_hides_nothing_that_exists_and_fills_its_width() -> None:
    parts = charts.bar([("a", "", 1_000_000, ""), ("b", "", 1, ""), ("c", "", 0, "")])
    assert [part.css for part in parts] == ["a", "b"]
    assert D(parts[1].width) > 2
    assert D(parts[-1].x) + D(parts[-1].width) <= 1000


@pytest.mark.parametrize("highest", ["0", "0.5", "1", "61", "8999", "246890.12"])
def test_a_chart_has_room_for_its_highest_month(highest: str) -> None:
    chart = charts.columns(
        name="x", title="", unit="EUR", months=[("Jan", D(0)), ("Feb", D(highest))], places=2
    )
    assert D(chart.columns[-1].top) >= 0
    assert chart.rows[-1] == ("Feb", written.digits(D(highest), 2))


@pytest.mark.django_db
def test_a_line_says_why(furnished: "House") -> None:
    invoice = furnished.invoices(furnished.customers[0])[0]
    line = invoice.lines.select_related("price__plan_version__plan").get(
        price__role=Price.Role.OVERAGE
    )
    reasons = {reason.term: reason.text for reason in explain.because(line, "EUR")}
    assert reasons["Price"] == "0.01 EUR for one credit, from Studio, version 1"
    assert reasons["Use"].startswith("80 credits that no grant covered")
    assert reasons["Sum"] == "80 × 0.01 = 0.80 EUR"
    assert reasons["VAT"].startswith("19\u00a0% of DE")


def test_a_tiered_line_shows_each_tier() -> None:
    line = InvoiceLine(
        quantity=D(1), unit_price=D("12.50"), base_quantity=1, net=D("12.50"), unit="call",
        tax_category="S", tax_rate=D(23), tax_point_on=date(2026, 5, 31),
        supply_from=date(2026, 5, 1), supply_to=date(2026, 6, 1),
        explanation={
            "model": "graduated", "exact": "12.5",
            "tiers": [
                {"quantity": "100", "unit_price": "0.1", "amount": "10", "up_to": "100"},
                {"quantity": "50", "unit_price": "0.05", "flat": "0", "amount": "2.5", "up_to": ""},
            ],
        },
    )  # fmt: skip
    reasons = {reason.term: reason.text for reason in explain.because(line, "EUR")}
    assert reasons["Tier 1"] == "up to 100: 100 × 0.10 = 10.00"
    assert reasons["Tier 2"] == "above: 50 × 0.05 = 2.50"


@pytest.mark.django_db
def test_the_search_finds_what_the_reader_may_see(furnished: "House") -> None:
    from billing.admin.scope import Scope
    from billing.admin.search import search
    from tests.admin import house

    customer = furnished.customers[1]
    invoice = furnished.invoices(customer)[0]
    everything = Scope(furnished.author)
    manager = Scope(house.manager(furnished, furnished.customers[0]))
    for text in (customer.name, customer.code, customer.email, str(invoice.number), "<1000"):
        found = {hit.url for group in search(everything, text) for hit in group.hits}
        assert f"/billing/customer/{customer.pk}/change/" in found or (
            f"/billing/invoice/{invoice.pk}/change/" in found
        ), text
        hidden = {hit.url for group in search(manager, text) for hit in group.hits}
        assert f"/billing/customer/{customer.pk}/change/" not in hidden
        assert f"/billing/invoice/{invoice.pk}/change/" not in hidden
    assert search(everything, "   ") == []
    assert search(everything, "\x00") == []
