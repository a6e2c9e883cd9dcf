"""One customer's story: in order, whole, and with the right balance after each row."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import timeline
from billing.models import CreditBalance, LedgerEntry
from tests.admin import house

if TYPE_CHECKING:
    from tests.admin.house import House

pytestmark = pytest.mark.django_db


def everything(customer_id: int, rows_max: int) -> list[timeline.TimelineRow]:
    rows: list[timeline.TimelineRow] = []
    before = None
    while True:
        page = timeline.page(customer_id=customer_id, before=before, rows_max=rows_max)
        rows += page.rows
        if page.older is None:
            return rows
        before = timeline.Cursor.parse(str(page.older))


def test_it_ends_with_what_the_customer_has(furnished: "House") -> None:
    house.enliven(furnished)
    for customer in furnished.customers:
        newest = timeline.page(customer_id=customer.pk).rows[0]
        balance = CreditBalance.objects.get(customer=customer)
        assert newest.available == balance.available


@pytest.mark.parametrize("rows_max", [1, 2, 3, 5, 50])
def test_pages_lose_and_repeat_nothing(furnished: "House", rows_max: int) -> None:
    house.enliven(furnished)
    customer = furnished.customers[0]
    whole = timeline.page(customer_id=customer.pk, rows_max=1000).rows
    paged = everything(customer.pk, rows_max)
    assert [str(row.cursor) for row in paged] == [str(row.cursor) for row in whole]
    assert [row.available for row in paged] == [row.available for row in whole]
    kinds = {row.kind for row in whole}
    assert {"invoice", "payment", "grant", "spend"} <= kinds
    assert (
        sum(row.subject.model != "payment" for row in whole)
        > LedgerEntry.objects.filter(customer=customer).count()
    )


def test_each_row_moves_the_balance_by_its_credits(furnished: "House") -> None:
    rows = timeline.page(customer_id=furnished.customers[1].pk, rows_max=1000).rows
    before = Decimal(0)
    for row in reversed(rows):
        assert row.available == before + (row.credits or 0)
        before = row.available or Decimal(0)


def test_a_payment_stands_before_what_it_bought(furnished: "House") -> None:
    house.enliven(furnished)
    rows = timeline.page(customer_id=furnished.customers[0].pk, rows_max=1000).rows
    bought = next(n for n, row in enumerate(rows) if row.title == "Pack of 50,000")
    paid = next(n for n, row in enumerate(rows) if row.money == Decimal("1071.000"))
    assert paid > bought  # further down is earlier


def test_only_what_a_reader_may_see_is_read(furnished: "House") -> None:
    house.enliven(furnished)
    rows = timeline.page(customer_id=furnished.customers[0].pk, only=("payments",)).rows
    assert {row.kind for row in rows} == {"payment"}
    assert all(row.available is None for row in rows)


def test_a_long_story_costs_as_many_queries_as_a_short_one(furnished: "House") -> None:
    customer = furnished.customers[0]
    with CaptureQueriesContext(connection) as short:
        timeline.page(customer_id=customer.pk, rows_max=2)
    with CaptureQueriesContext(connection) as long:
        timeline.page(customer_id=customer.pk, rows_max=500)
    assert len(short) == len(long) == 5


@pytest.mark.parametrize(
    "text", ["", "x", "2026-01-01_0_1", "a_b_c", "_" * 50, "2026-13-01T00_1_1"]
)
def test_what_is_no_cursor_is_ignored(text: str) -> None:
    assert timeline.Cursor.parse(text) is None


def test_a_cursor_survives_the_address() -> None:
    cursor = timeline.Cursor(datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC), 2, 17)
    assert timeline.Cursor.parse(str(cursor)) == cursor
