"""Changes, coupons, credit notes, receivables and customer money: nothing is lost or made."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import changes, credit_notes, customer_money, discounts, receivables, totals
from billing.rules.changes import Discount, Terms
from billing.rules.credit_notes import Remaining
from billing.rules.discounts import Coupon
from billing.rules.periods import Span
from billing.rules.receivables import Account, Balance, Event, Open

D = Decimal
cents = st.integers(0, 10**6).map(lambda n: D(n).scaleb(-2))
JUNE = Span(date(2025, 6, 1), date(2025, 7, 1))
in_june = st.integers(0, 29).map(lambda n: JUNE.start + timedelta(days=n))


@given(cents, in_june)
def test_moving_to_the_same_plan_costs_nothing(price, on):
    change = changes.plan_change(Terms(price, JUNE), Terms(price, JUNE), on, "EUR")
    assert change.net == 0


@given(cents, cents)
def test_a_change_on_the_first_day_swaps_the_whole_prices(old, new):
    change = changes.plan_change(Terms(old, JUNE), Terms(new, JUNE), JUNE.start, "EUR")
    assert (change.credit, change.debit) == (old, new)


@given(st.integers(1, 50), st.integers(1, 50), in_june)
def test_more_seats_cost_what_fewer_seats_give_back(old, new, on):
    def change(a, b):
        return changes.quantity_change(
            D("9.99"), old_quantity=a, new_quantity=b, period=JUNE, on=on, unit="EUR"
        )

    assert change(old, new) == -change(new, old)


@given(cents, st.integers(0, 100), cents)
def test_a_discount_never_turns_a_price_negative(price, percent, fixed):
    assert 0 <= changes.discounted(price, Discount(percent=percent, fixed=fixed)) <= price


@given(st.lists(cents, min_size=1, max_size=6), cents)
def test_components_of_a_whole_period_sum_to_the_discounted_price(prices, fixed):
    if not sum(prices):
        return
    amounts = changes.components(
        prices, discount=Discount(fixed=fixed), period=JUNE, served=JUNE, unit="EUR"
    )
    assert sum(amounts) == max(sum(prices) - fixed, 0)


coupons = st.one_of(
    st.builds(lambda a: Coupon(amount=a), cents),
    st.builds(lambda p: Coupon(percent=p), st.integers(0, 100)),
    st.builds(lambda a: Coupon(amount=a, lines=frozenset({0})), cents),
)


@given(st.lists(cents, min_size=1, max_size=6), st.lists(coupons, max_size=4))
def test_coupons_never_take_more_than_a_line_holds(nets, given_coupons):
    taken = discounts.apply(given_coupons, nets, "EUR")
    for number, net in enumerate(nets):
        assert 0 <= sum(parts[number] for parts in taken) <= net


def test_a_scoped_coupon_comes_before_a_general_one():
    general, scoped = Coupon(percent=50), Coupon(amount=D(10), lines=frozenset({0}))
    first, second = discounts.apply([general, scoped], [D(10), D(10)], "EUR")
    assert first == [D(10), D(0)]
    assert second == [D(0), D(5)]


def test_what_a_coupon_gave_before_is_not_given_again():
    coupon = Coupon(amount=D("0.12"), already_used=D("0.06"))
    assert discounts.shares(coupon, [D(2), D(1)], "EUR") == [D("0.04"), D("0.02")]


@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=8), st.integers(0, 27))
def test_an_invoice_credited_in_parts_comes_to_exactly_its_total(parts, rate):
    nets = [D(part).scaleb(-2) for part in parts]
    tax = totals.tax_of(sum(nets), rate, "EUR")
    notes = credit_notes.sequence(Remaining(sum(nets), tax), rate, nets, "EUR")
    assert sum(note.total for note in notes) == sum(nets) + tax
    assert all(note.tax >= 0 for note in notes)


def test_a_note_above_what_is_left_is_refused():
    with pytest.raises(ValueError, match="left to credit"):
        credit_notes.group_tax(D(11), 20, Remaining(D(10), D(2)), "EUR")
    with pytest.raises(ValueError, match="more than the line"):
        credit_notes.note_totals([credit_notes.Item(D(2), D(1))], "EUR")
    with pytest.raises(ValueError, match="left to refund"):
        credit_notes.refund_taxes(Remaining(D(10), D(2)), [D(9), D(2)], "EUR")


@given(cents, cents, st.integers(0, 27))
def test_a_termination_never_refunds_more_than_was_paid_or_is_credited(fee, paid, rate):
    used = (fee / 2).quantize(D("0.01"), rounding="ROUND_DOWN")
    gross = fee + totals.tax_of(fee, rate, "EUR")
    split = credit_notes.termination_split(
        fee_net=fee, fee_discount=0, used_net=used, unused_net=fee - used, credited_net=D(0),
        tax_rate=rate, invoice_gross=gross, paid=min(paid, gross), unit="EUR",
    )  # fmt: skip
    assert 0 <= split.refund <= min(split.total, max(min(paid, gross), D(0)))
    assert split.refund + split.remainder == split.total


events = st.lists(
    st.builds(
        Event,
        st.sampled_from(["payment", "failed_payment", "chargeback", "refund", "credit"]),
        cents,
    ),
    max_size=10,
)


@given(cents, events)
def test_what_is_due_is_the_sum_of_the_events(charged, happened):
    signs = {"payment": -1, "failed_payment": 0, "chargeback": 1, "refund": 1, "credit": -1}
    states = receivables.balances(charged, happened)
    last = states[-1] if states else Balance(charged)
    assert last.due == charged + sum(signs[e.kind] * e.amount for e in happened)


def test_a_reversed_chargeback_restores_the_payment():
    paid = [
        Event("payment", D(10)),
        Event("chargeback", D(10)),
        Event("chargeback_reversal", D(10)),
    ]
    assert [b.due for b in receivables.balances(D(10), paid)] == [0, 10, 0]


steps = st.lists(st.tuples(st.sampled_from(["charge", "pay", "credit", "refund"]), cents))


@given(steps)
def test_an_account_never_holds_money_beside_open_invoices(moves):
    account, sums = Account(), D(0)
    for name, amount in moves:
        account = getattr(account, name)(amount)
        sums += amount if name in {"charge", "refund"} else -amount
        assert account.balance == sums
        assert account.open >= 0
        assert account.money >= 0
        assert not (account.open and account.money)


@given(cents, st.lists(cents, max_size=6))
def test_a_payment_is_spread_oldest_due_first_and_the_rest_stays(amount, dues):
    invoices = [
        Open(str(n), due, date(2026, 1, 1) + timedelta(days=(n * 7) % 5), f"A{n}")
        for n, due in enumerate(dues)
    ]
    given_, left = receivables.spread(amount, invoices)
    assert sum(given_.values(), D(0)) + left == amount
    assert left == max(amount - sum(dues, D(0)), 0)
    ordered = sorted(invoices, key=lambda i: (i.due_on, i.number))
    short = [i for i in ordered if i.due and given_.get(i.key, 0) < i.due]
    for later in ordered[ordered.index(short[0]) + 1 :] if short else []:
        assert later.key not in given_


def test_an_allocation_above_what_is_due_is_refused():
    settled = receivables.allocate(total=D(100), paid=D(30), credited=D(20), amount=D(50))
    assert (settled.accepted, settled.state) == (True, "paid")
    assert not receivables.allocate(total=D(1), paid=D(0), credited=D(0), amount=D(2)).accepted


lots = st.lists(
    st.builds(
        lambda n, left, priority, funding: customer_money.Lot(
            f"lot{n}", left, priority, funding, datetime(2026, 1, 1 + n % 20, tzinfo=UTC)
        ),
        st.integers(0, 500), cents, st.integers(1, 3), st.sampled_from(["free", "paid"]),
    ),
    unique_by=lambda lot: lot.key, max_size=6,
)  # fmt: skip


@given(lots, cents)
def test_a_draw_takes_from_the_lots_in_order_and_never_more_than_they_hold(given_lots, amount):
    held = sum((lot.left for lot in given_lots), D(0))
    if amount > held:
        with pytest.raises(ValueError, match="more than the lots hold"):
            customer_money.draw(given_lots, amount)
        return
    taken = customer_money.draw(given_lots, amount)
    assert sum(taken.values(), D(0)) == amount
    ordered = [lot for lot in customer_money.in_order(given_lots) if lot.left]
    partial = [n for n, lot in enumerate(ordered) if taken.get(lot.key, 0) < lot.left]
    for later in ordered[partial[0] + 1 :] if partial else []:
        assert later.key not in taken


@given(st.lists(cents, max_size=5), st.lists(cents, max_size=5))
def test_money_on_lines_never_exceeds_the_line(line_totals, sums):
    parts, due = customer_money.on_lines(line_totals, {f"m{n}": s for n, s in enumerate(sums)})
    for total, taken, rest in zip(line_totals, parts, due, strict=True):
        assert sum(taken.values(), D(0)) + rest == total
        assert rest >= 0
    assert sum(due, D(0)) == max(sum(line_totals, D(0)) - sum(sums, D(0)), 0)
