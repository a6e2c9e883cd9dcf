"""The fast way against the obvious way, and the terms that are refused."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import pricing
from billing.rules.pricing import Conversion, Price, Tier, bill, rate, rate_part

prices = st.decimals(min_value=0, max_value=1000, places=6)
quantities = st.integers(0, 500)


@st.composite
def tier_tables(draw):
    ends = sorted(draw(st.sets(st.integers(1, 400), max_size=4)))
    tiers = [Tier(Decimal(end), draw(prices), draw(prices)) for end in ends]
    return (*tiers, Tier(None, draw(prices), draw(prices)))


def price_one_by_one(quantity, tiers):
    """The slow obvious answer: walk the units and ask each which tier it is in."""
    amount = Fraction(tiers[0].flat)
    entered = {0}
    for unit in range(1, quantity + 1):
        number = next(n for n, t in enumerate(tiers) if t.up_to is None or unit <= t.up_to)
        if number not in entered:
            entered.add(number)
            amount += Fraction(tiers[number].flat)
        amount += Fraction(tiers[number].unit_price)
    return amount


@given(quantities, tier_tables())
def test_graduated_equals_counting_units(quantity, tiers):
    assert rate(Price("graduated", tiers=tiers), quantity).amount == price_one_by_one(
        quantity, tiers
    )


@given(quantities, tier_tables())
def test_the_entered_tiers_explain_the_amount(quantity, tiers):
    for model in ("graduated", "volume"):
        rated = rate(Price(model, tiers=tiers), quantity)
        assert sum(step.amount for step in rated.steps) == rated.amount
        assert sum(step.quantity for step in rated.steps) == quantity
        assert all(isinstance(value, str) for row in rated.explanation() for value in row.values())


@given(quantities, tier_tables())
def test_one_volume_tier_prices_everything(quantity, tiers):
    tier = next(t for t in tiers if t.up_to is None or quantity <= t.up_to)
    expected = quantity * Fraction(tier.unit_price) + Fraction(tier.flat)
    assert rate(Price("volume", tiers=tiers), quantity).amount == expected


@st.composite
def divisible_prices(draw):
    model = draw(st.sampled_from(["unit", "package", "graduated"]))
    return Price(
        model,
        unit_price=draw(prices),
        base_quantity=draw(st.integers(1, 50).map(Decimal)),
        tiers=draw(tier_tables()),
        included=draw(st.integers(0, 100).map(Decimal)),
        flat=draw(prices),
        conversion=draw(
            st.sampled_from([None, Conversion("divide", Decimal(7), "ceiling")]),
        ),
    )


@given(divisible_prices(), st.lists(quantities, min_size=1, max_size=6))
def test_the_parts_of_a_period_cost_what_the_whole_costs(price, parts):
    prior, total = 0, Fraction(0)
    for number, quantity in enumerate(parts):
        total += rate_part(price, quantity, prior, first=number == 0).amount
        prior += quantity
    assert total == rate(price, sum(parts)).amount


@given(st.lists(quantities, min_size=1, max_size=6), st.integers(0, 100))
def test_billable_parts_sum_to_the_whole(parts, included):
    prior, total = 0, Fraction(0)
    for quantity in parts:
        total += pricing.billable(quantity, included, prior)
        prior += quantity
    assert total == max(sum(parts) - included, 0)


@given(tier_tables(), st.lists(quantities, min_size=2, max_size=4))
def test_a_volume_price_is_only_billed_at_the_end(tiers, parts):
    price = Price("volume", tiers=tiers)
    assert rate_part(price, parts[0], 0, first=True, final=False).amount == 0
    whole = rate_part(price, parts[-1], sum(parts[:-1]), final=True).amount
    assert whole == rate(price, sum(parts)).amount


@given(
    divisible_prices(),
    st.lists(quantities, min_size=1, max_size=5),
    st.decimals(0, 2000, places=2),
    st.decimals(0, 2000, places=2),
)
def test_a_period_never_costs_more_than_its_maximum_nor_less_than_its_minimum(
    price, parts, low, high
):
    minimum, maximum = min(low, high), max(low, high)
    prior, billed = 0, Decimal(0)
    for number, quantity in enumerate(parts):
        one = bill(
            price, quantity, "EUR", prior_quantity=prior, prior_billed=billed,
            minimum=minimum, maximum=maximum, final=number == len(parts) - 1,
        )  # fmt: skip
        assert one.amount == one.line - one.discount - one.over_maximum + one.minimum
        prior += quantity
        billed += one.amount
    assert minimum <= billed <= maximum


def test_a_month_by_hand():
    """1,200 images; 1,000 for 0.05, the rest for 0.03; 10 % off; the flat of a tier once."""
    tiers = (Tier(Decimal(1000), Decimal("0.05"), Decimal(5)), Tier(None, Decimal("0.03")))
    done = bill(Price("graduated", tiers=tiers), 1200, "EUR", discount_percent=10)
    assert (done.line, done.discount, done.amount) == (
        Decimal("61.00"),
        Decimal("6.10"),
        Decimal("54.90"),
    )


def test_negative_use_costs_nothing():
    assert rate(Price("unit", Decimal(2)), -5).amount == 0


def test_a_started_package_counts():
    price = Price("package", Decimal(3), Decimal(10))
    assert [rate(price, q).amount for q in (0, 1, 10, Decimal("10.001"))] == [0, 3, 3, 6]


@pytest.mark.parametrize(
    ("tiers", "why"),
    [
        ((), "needs tiers"),
        ((Tier(Decimal(5)),), "must be open"),
        ((Tier(None), Tier(None)), "only the last"),
        ((Tier(Decimal(5)), Tier(Decimal(5)), Tier(None)), "ascend"),
        ((Tier(Decimal(0)), Tier(None)), "ascend"),
    ],
)
def test_a_table_with_a_hole_is_refused(tiers, why):
    with pytest.raises(ValueError, match=why):
        Price("graduated", tiers=tiers)


def test_a_wholly_free_event_pays_no_minimum():
    amount = pricing.percentage_of_events(
        [Decimal(10), Decimal(10)], 1, fixed=1, free_events=1, minimum=3
    )
    assert amount == 3


def test_blocks_refuse_more_than_they_hold():
    tiers = [pricing.BlockTier(Decimal(10), Decimal(1), 2)]
    assert pricing.blocks(tiers, 20) == [2]
    with pytest.raises(ValueError, match="no tier"):
        pricing.blocks(tiers, 21)
    with pytest.raises(ValueError, match="no tier"):
        pricing.top_block(tiers, 21)
