"""The foot of a document: identities that hold to the last coin."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import totals
from billing.rules.money import quantize
from billing.rules.totals import Amount

cents = st.integers(-(10**7), 10**7).map(lambda n: Decimal(n).scaleb(-2))
groups = st.sampled_from(
    [("S", Decimal(23)), ("S", Decimal("13.5")), ("S", Decimal("8.1")), ("Z", Decimal(0))]
)
lines = st.lists(st.builds(lambda net, g: Amount(net, *g), cents, groups), max_size=20)


@given(lines, lines, lines, cents, cents)
def test_every_identity_holds(items, allowances, charges, paid, rounding):
    t = totals.totals(
        items, "EUR", allowances=allowances, charges=charges, paid=paid, rounding=rounding
    )
    assert not totals.broken_identities(t)
    assert t.payable == t.net + t.tax - paid + rounding
    for group in t.groups:
        mine = [
            a.net
            for a in (*items, *charges)
            if (a.category, a.rate) == (group.category, group.rate)
        ]
        less = [a.net for a in allowances if (a.category, a.rate) == (group.category, group.rate)]
        assert group.taxable == totals.group_taxable(mine, (), less)
        assert group.tax == totals.tax_of(group.taxable, group.rate, "EUR")


@given(lines)
def test_the_order_of_lines_does_not_matter(items):
    assert totals.totals(items, "EUR") == totals.totals(items[::-1], "EUR")


@given(lines)
def test_what_is_charged_and_taken_back_comes_to_nothing(items):
    back = [replace(item, net=-item.net) for item in items]
    assert totals.totals([*items, *back], "EUR").gross == 0


@pytest.mark.parametrize("field", ["net", "tax", "gross", "payable", "lines"])
def test_a_document_that_does_not_add_up_is_refused(field):
    good = totals.totals([Amount(Decimal("100.00"), "S", Decimal(23))], "EUR")
    with pytest.raises(ValueError, match="is not"):
        totals.check(replace(good, **{field: getattr(good, field) + Decimal("0.01")}))


def test_vat_is_rounded_per_group_and_not_per_line():
    three = [Amount(Decimal("0.05"), "S", Decimal(10))] * 3
    assert totals.totals(three, "EUR").tax == Decimal("0.02")
    net, gross = totals.per_line_totals([a.net for a in three], 10, "EUR")
    assert gross - net == Decimal("0.03")


def test_a_tiny_price_needs_a_base_quantity():
    assert totals.line_net(Decimal(7), Decimal("0.50"), "EUR", base_quantity=1000) == 0
    assert totals.line_net(Decimal(70_000), Decimal("0.50"), "EUR", base_quantity=1000) == 35


@given(cents, st.decimals(0, 100, places=2))
def test_a_stated_vat_is_right_or_not(taxable, rate):
    tax = totals.tax_of(taxable, rate, "EUR")
    assert totals.is_accepted(tax, taxable, rate, "EUR")
    assert not totals.is_accepted(tax + Decimal("0.01"), taxable, rate, "EUR")
    assert totals.is_accepted(tax + 1, taxable, rate, "EUR", tolerance=Decimal(1))


def test_an_empty_document_is_zero_in_its_currency():
    t = totals.totals([], "KWD")
    assert str(t.gross) == str(quantize(0, "KWD")) == "0.000"


@given(st.lists(cents, min_size=1, max_size=8), st.decimals(0, 30, places=1))
def test_prices_with_vat_come_back_to_the_sum_of_the_prices(grosses, rate):
    found = totals.from_gross(grosses, rate, "EUR")
    net = sum(found.nets)
    assert net + found.tax + found.rounding == sum(grosses)
    assert abs(found.rounding) <= Decimal("0.01")
    assert found.tax == totals.tax_of(net, rate, "EUR")


def test_a_gross_no_net_can_reach_leaves_one_coin():
    unreachable = [
        gross
        for n in range(1, 200)
        if totals.from_gross([gross := Decimal(n).scaleb(-2)], 25, "EUR").rounding
    ]
    assert unreachable
    for gross in unreachable:
        near = totals.from_gross([gross], 25, "EUR")
        assert abs(near.rounding) == Decimal("0.01")
