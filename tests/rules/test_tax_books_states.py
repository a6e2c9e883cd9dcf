"""The decision table of VAT, the recipes of the books, and the life cycles."""

import inspect
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import books, states
from billing.rules.tax import Buyer, Rate, Seller, decide, rate_on

IE = Seller("IE")
D = Decimal


@pytest.mark.parametrize(
    ("seller", "buyer", "sold", "category", "rate_country", "code"),
    [
        (IE, Buyer("IE", True, True), "0", "S", "IE", ""),
        (IE, Buyer("IE", False), "0", "S", "IE", ""),
        (IE, Buyer("DE", True, True), "0", "AE", None, "VATEX-EU-AE"),
        (IE, Buyer("DE", True, False), "0", "S", "IE", ""),
        (IE, Buyer("DE", False), "10000.00", "S", "IE", ""),
        (IE, Buyer("DE", False), "10000.01", "S", "DE", ""),
        (Seller("IE", one_stop_shop=True), Buyer("DE", False), "0", "S", "DE", ""),
        (Seller("IE", frozenset({"DE"})), Buyer("DE", True, True), "0", "S", "DE", ""),
        (IE, Buyer("US", True), "0", "O", None, "VATEX-EU-O"),
        (IE, Buyer("GB", False), "0", "O", None, "VATEX-EU-O"),
        (Seller("IE", small_business=True), Buyer("IE", True), "0", "E", None, ""),
        (Seller("US"), Buyer("US", True), "0", "S", "US", ""),
        (Seller("US"), Buyer("DE", True, True), "0", "O", None, ""),
    ],
)
def test_the_decision_table(seller, buyer, sold, category, rate_country, code):
    decision = decide(seller, buyer, distance_sales=D(sold))
    assert (decision.category, decision.rate_country, decision.reason_code) == (
        category,
        rate_country,
        code,
    )
    assert bool(decision.reason_text) == (category != "S")


def test_what_an_adviser_should_see_is_marked():
    assert decide(IE, Buyer("US", False)).review
    assert decide(Seller("US"), Buyer("DE", True)).review
    assert not decide(IE, Buyer("DE", True, True)).review


def test_the_rate_of_the_day_is_taken():
    rows = [
        Rate("IE", D(21), date(2020, 9, 1), date(2021, 3, 1)),
        Rate("IE", D(23), date(2021, 3, 1)),
        Rate("IE", D("13.5"), date(2021, 3, 1), label="reduced"),
    ]
    assert rate_on(rows, "IE", date(2021, 2, 28)) == 21
    assert rate_on(rows, "IE", date(2021, 3, 1)) == 23
    assert rate_on(rows, "IE", date(2019, 1, 1)) is None
    assert rate_on(rows, "IE", date(2026, 1, 1), label="reduced") == D("13.5")


cents = st.integers(0, 10**7).map(lambda n: D(n).scaleb(-2))
sourced = st.lists(st.tuples(st.text("abc:1", max_size=6), cents), max_size=6)


@given(sourced, sourced, cents)
def test_an_issued_invoice_and_its_full_credit_note_leave_nothing(lines, taxes, rounding):
    payable = sum((a for _, a in (*lines, *taxes)), D(0)) + rounding
    issued = books.invoice_issued(payable=payable, lines=lines, taxes=taxes, rounding=rounding)
    note = books.credit_note(
        unserved=lines, served=[], taxes=taxes, to_receivable=payable, to_customer_money=D(0),
        rounding=rounding,
    )  # fmt: skip
    assert _by_account(issued) == {a: -v for a, v in _by_account(note).items()}


def _by_account(legs):
    sums = {}
    for leg in legs:
        sums[leg.account] = sums.get(leg.account, 0) + leg.amount
    return {account: amount for account, amount in sums.items() if amount}


@given(cents, cents, sourced)
def test_every_recipe_balances(amount, fee, pairs):
    offered = {
        "amount": amount, "net": amount, "fee": fee, "taxes": pairs, "grant": "grant:1",
        "from_source": "grant:1", "to_source": "grant:2",
    }  # fmt: skip
    special = {
        "revenue_recognised": {"parts": [(s, "product", a) for s, a in pairs]},
        "breakage": {"parts": pairs},
    }
    for name, recipe in books.RECIPES.items():
        if name in {"invoice_issued", "credit_note", "reverse"}:
            continue
        wanted = inspect.signature(recipe).parameters
        legs = recipe(**special.get(name, {k: v for k, v in offered.items() if k in wanted}))
        assert sum(leg.amount for leg in legs) == 0
        assert all(leg.amount for leg in legs)
        assert all(leg.account in books.ACCOUNTS for leg in legs)
        assert _by_account((*legs, *books.reverse(legs))) == {}


def test_legs_that_do_not_balance_are_refused():
    with pytest.raises(ValueError, match="not to zero"):
        books.balance([books.Leg("bank", D(1))])
    with pytest.raises(ValueError, match="no such account"):
        books.balance([books.Leg("bank", D(1)), books.Leg("pocket", D(-1))])


MACHINES = (
    states.INVOICE, states.RUN, states.RUN_ITEM, states.DOCUMENT, states.PLAN_VERSION, states.HOLD,
)  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_every_target_is_a_state(machine):
    assert {target for targets in machine.values() for target in targets} <= machine.keys()


def test_an_issued_invoice_can_only_become_void():
    assert states.INVOICE["issued"] == {"void"}
    assert not states.INVOICE["void"]
    assert not states.may(states.INVOICE, "draft", "issued")
    with pytest.raises(KeyError):
        states.may(states.INVOICE, "paid", "void")
