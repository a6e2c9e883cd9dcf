"""What each door of the credit ledger does, and what it refuses."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction

from billing import ledger
from billing.errors import (
    BillingError,
    IllegalTransition,
    InsufficientCredit,
)
from billing.models import CreditGrant, Hold, LedgerEntry
from tests.ledger.desk import DAY, START, Desk, new_customer, new_meter

D = Decimal


def test_a_grant_is_posted_and_available(desk: Desk):
    granted = desk.grant(100, label="Welcome", expires_at=START + 30 * DAY)
    entry = LedgerEntry.objects.get(pk=granted.entry_id)
    assert (entry.kind, entry.source, entry.target, entry.amount) == (
        "grant",
        "issued",
        "available",
        100,
    )
    assert (entry.actor, entry.reason, entry.request_id) == ("test", "because", "r1")
    assert desk.balance.available == 100
    assert desk.balance.due_at == START + 30 * DAY
    desk.check()


def test_a_spend_follows_the_burn_order_and_names_its_parts(desk: Desk):
    never = desk.grant(10)
    paid = desk.grant(10, kind="purchased", expires_at=START + 30 * DAY)
    promo = desk.grant(10, expires_at=START + 30 * DAY)
    soon = desk.grant(10, expires_at=START + 5 * DAY)
    first = desk.grant(10, priority=1)
    spent = desk.spend(45)
    assert [grant for grant, _ in desk.parts(spent.entry_id)] == [
        first.grant_id,
        soon.grant_id,
        promo.grant_id,
        paid.grant_id,
        never.grant_id,
    ]
    assert desk.left(never.grant_id) == [5]
    assert desk.balance.available == 5
    desk.check()


def test_only_grants_whose_scope_matches_pay(desk: Desk):
    meter, other, project = new_meter(), new_meter(), desk.project()
    for_meter = desk.grant(10, meter_ids=[meter.pk])
    for_project = desk.grant(10, project_ids=[project.pk])
    with pytest.raises(InsufficientCredit) as refusal:
        desk.spend(1, meter_id=other.pk)
    assert (refusal.value.needed, refusal.value.available) == (1, 0)
    spent = desk.spend(15, meter_id=meter.pk, project_id=project.pk)
    assert desk.parts(spent.entry_id) == [(for_meter.grant_id, 10), (for_project.grant_id, 5)]
    desk.check()


def test_a_grant_pays_from_its_first_instant_and_not_at_its_last(desk: Desk):
    desk.grant(10, effective_at=START + DAY, expires_at=START + 2 * DAY)
    with pytest.raises(InsufficientCredit):
        desk.spend(1, at=START)
    assert desk.spend(1, at=START + DAY).covered == 1
    with pytest.raises(InsufficientCredit):
        desk.spend(1, at=START + 2 * DAY)
    desk.check()


def test_a_blocking_plan_refuses_and_writes_nothing(desk: Desk):
    desk.grant(10)
    with pytest.raises(InsufficientCredit) as refusal:
        desk.spend(11)
    assert refusal.value.customer_id == desk.customer.pk
    assert (refusal.value.needed, refusal.value.available) == (11, 10)
    assert desk.kinds() == ["grant"]


def test_invoiced_overage_pays_what_it_can_and_returns_the_rest(desk: Desk):
    desk.grant(10)
    spent = desk.spend(25, overage_policy="invoice")
    assert (spent.covered, spent.overage, spent.owed) == (10, 15, 0)
    nothing = desk.spend(3, overage_policy="invoice")
    assert (nothing.entry_id, nothing.covered, nothing.overage) == (None, 0, 3)
    desk.check()


def test_debt_is_carried_up_to_its_limit_and_repaid_by_the_next_purchase(desk: Desk):
    desk.grant(10)
    spent = desk.spend(25, overage_policy="debt", debt_limit=D(20))
    assert (spent.covered, spent.owed) == (10, 15)
    assert desk.balance.debt == 15
    with pytest.raises(InsufficientCredit):
        desk.spend(6, overage_policy="debt", debt_limit=D(20))
    gift = desk.grant(4)
    assert gift.repaid == 0
    bought = desk.grant(100, kind="purchased", cost_total=D("9.99"), currency="EUR")
    assert bought.repaid == 15
    assert desk.left(bought.grant_id) == [85]
    assert desk.balance.debt == 0
    assert desk.kinds() == ["grant", "spend", "debt", "grant", "grant", "repay"]
    debt = desk.entries()[2]
    assert desk.parts(debt.pk) == [(None, 15)]
    assert debt.cause_id == spent.entry_id
    desk.check()


def test_what_is_free_expires_at_its_instant_and_is_booked_inside_the_period(desk: Desk):
    lot = desk.grant(10, expires_at=START + DAY)
    desk.spend(4)
    caught = desk.expire(START + 3 * DAY)
    assert (caught.expired, caught.released) == (6, 0)
    entry = desk.entries()[-1]
    assert (entry.kind, entry.grant_id, entry.occurred_at) == ("expire", lot.grant_id, START + DAY)
    assert entry.booked_at < START + DAY
    assert desk.expire(START + 9 * DAY).expired == 0
    desk.check()


def test_any_door_brings_the_customer_up_to_its_instant_first(desk: Desk):
    desk.grant(10, expires_at=START + DAY)
    held = desk.hold(3, expires_at=START + 2 * DAY)
    desk.grant(1, at=START + 5 * DAY)
    assert Hold.objects.get(pk=held.hold_id).state == "lapsed"
    assert desk.kinds() == ["grant", "hold", "expire", "release", "expire", "grant"]
    returned = desk.entries()[4]
    assert returned.cause_id == desk.entries()[3].pk
    assert desk.balance.available == 1
    desk.check()


def test_a_hold_pins_its_parts_until_it_is_settled(desk: Desk):
    soon = desk.grant(10, expires_at=START + DAY)
    later = desk.grant(10)
    held = desk.hold(12, expires_at=START + 3 * DAY)
    assert desk.parts(held.entry_id) == [(soon.grant_id, 10), (later.grant_id, 2)]
    assert (desk.balance.available, desk.balance.held) == (8, 12)
    with pytest.raises(InsufficientCredit):
        desk.spend(9)
    # The pinned part outlives its grant's expiry and is still spent first.
    settled = desk.settle(held.hold_id, 11, at=START + 2 * DAY)
    assert (settled.covered, settled.released) == (11, 1)
    assert desk.parts(settled.entry_id) == [(soon.grant_id, 10), (later.grant_id, 1)]
    assert (desk.balance.available, desk.balance.held) == (9, 0)
    desk.check()


def test_what_a_settlement_gives_back_after_the_expiry_expires_on_return(desk: Desk):
    lot = desk.grant(10, expires_at=START + DAY)
    held = desk.hold(10, expires_at=START + 3 * DAY)
    desk.settle(held.hold_id, 4, at=START + 2 * DAY)
    assert desk.kinds() == ["grant", "hold", "settle", "release", "expire"]
    assert desk.left(lot.grant_id) == [0]
    desk.check()


def test_settling_more_than_was_held_grows_into_what_is_free(desk: Desk):
    desk.grant(10)
    held = desk.hold(4)
    settled = desk.settle(held.hold_id, 7)
    assert (settled.covered, settled.overage, settled.released) == (7, 0, 0)
    assert desk.balance.available == 3
    assert desk.kinds()[-2:] == ["settle", "spend"]
    assert desk.entries()[-1].hold_id == held.hold_id
    desk.check()


def test_growth_beyond_the_credits_goes_by_the_policy_of_the_hold(desk: Desk):
    desk.grant(10)
    strict = desk.hold(4)
    lenient = desk.hold(6, overage_policy="invoice")
    with pytest.raises(InsufficientCredit):
        desk.settle(strict.hold_id, 5)
    assert Hold.objects.get(pk=strict.hold_id).is_open
    settled = desk.settle(lenient.hold_id, 9)
    assert (settled.covered, settled.overage) == (6, 3)
    desk.check()


def test_a_lenient_hold_pins_what_is_there(desk: Desk):
    desk.grant(3)
    held = desk.hold(5, overage_policy="invoice")
    assert (held.covered, held.uncovered) == (3, 2)
    empty = desk.hold(5, overage_policy="invoice")
    assert (empty.entry_id, empty.covered, empty.uncovered) == (None, 0, 5)
    settled = desk.settle(empty.hold_id, 5)
    assert (settled.entry_id, settled.covered, settled.overage) == (None, 0, 5)
    assert desk.release(held.hold_id).amount == 3
    desk.check()


def test_a_release_gives_back_once(desk: Desk):
    desk.grant(10)
    held = desk.hold(4)
    released = desk.release(held.hold_id)
    again = desk.release(held.hold_id)
    assert (released.amount, again.amount, again.entry_id) == (4, 4, released.entry_id)
    assert again.replayed
    assert desk.balance.available == 10
    with pytest.raises(IllegalTransition):
        desk.settle(held.hold_id, 1)
    desk.check()


def test_a_settled_hold_cannot_be_released(desk: Desk):
    desk.grant(10)
    held = desk.hold(4)
    desk.settle(held.hold_id, 4)
    with pytest.raises(IllegalTransition) as refusal:
        desk.release(held.hold_id)
    assert (refusal.value.state, refusal.value.target) == ("settled", "released")


def test_a_hold_past_its_limit_is_over(desk: Desk):
    desk.grant(10)
    held = desk.hold(4, expires_at=START + DAY)
    with pytest.raises(IllegalTransition):
        desk.settle(held.hold_id, 4, at=START + DAY)
    # The refusal rolled everything back; reading the hold's end needs a door that succeeds.
    desk.expire(START + DAY)
    assert Hold.objects.get(pk=held.hold_id).state == "lapsed"
    assert desk.balance.available == 10
    desk.check()


def test_void_takes_the_unheld_rest_and_the_held_part_when_it_returns(desk: Desk):
    lot = desk.grant(10)
    desk.spend(3)
    held = desk.hold(2)
    voided = desk.void(lot.grant_id)
    assert voided.amount == 5
    assert desk.void(lot.grant_id).replayed
    desk.release(held.hold_id)
    assert desk.kinds()[-2:] == ["release", "void"]
    assert desk.left(lot.grant_id) == [0]
    desk.check()


def test_part_of_a_grant_can_be_voided(desk: Desk):
    lot = desk.grant(10)
    assert desk.void(lot.grant_id, amount=D(4)).amount == 4
    assert CreditGrant.objects.get(pk=lot.grant_id).voided_at is None
    assert desk.spend(6).covered == 6
    desk.check()


@pytest.mark.parametrize("end", ["used up", "expired", "held"])
def test_void_refuses_what_is_used_up_expired_or_held(desk: Desk, end: str):
    lot = desk.grant(10, expires_at=START + DAY)
    at = START
    if end == "used up":
        desk.spend(10)
    elif end == "held":
        desk.hold(10)
    else:
        at = START + DAY
    with pytest.raises(IllegalTransition) as refusal:
        desk.void(lot.grant_id, at=at)
    assert refusal.value.state == end


def test_a_reversal_returns_credits_to_the_same_grants_in_reverse_order(desk: Desk):
    first, second = desk.grant(10), desk.grant(10)
    spent = desk.spend(15)
    back = desk.reverse(spent.entry_id, amount=D(7))
    assert desk.parts(back.entry_id) == [(second.grant_id, 5), (first.grant_id, 2)]
    rest = desk.reverse(spent.entry_id)
    assert desk.parts(rest.entry_id) == [(first.grant_id, 8)]
    with pytest.raises(IllegalTransition):
        desk.reverse(spent.entry_id)
    assert desk.left(first.grant_id, second.grant_id) == [10, 10]
    desk.check()


def test_credits_given_back_to_an_expired_grant_expire_at_once(desk: Desk):
    lot = desk.grant(10, expires_at=START + DAY)
    spent = desk.spend(10)
    desk.reverse(spent.entry_id, at=START + 2 * DAY)
    assert desk.kinds() == ["grant", "spend", "reverse", "expire"]
    assert desk.left(lot.grant_id) == [0]
    desk.check()


def test_credits_given_back_before_the_expiry_expire_with_their_grant(desk: Desk):
    desk.grant(10, expires_at=START + 5 * DAY)
    spent = desk.spend(10)
    desk.reverse(spent.entry_id, at=START + DAY)
    assert desk.balance.due_at == START + 5 * DAY
    assert desk.expire(START + 6 * DAY).expired == 10
    desk.check()


def test_debt_given_back_is_no_longer_owed(desk: Desk):
    spent = desk.spend(5, overage_policy="debt", debt_limit=D(5))
    assert desk.reverse(spent.entry_id).amount == 5
    assert desk.balance.debt == 0
    again = desk.spend(5, overage_policy="debt", debt_limit=D(5))
    desk.grant(9, kind="purchased")
    with pytest.raises(IllegalTransition) as refusal:
        desk.reverse(again.entry_id)
    assert refusal.value.state == "repaid"
    desk.check()


def test_only_use_can_be_given_back(desk: Desk):
    granted = desk.grant(10)
    with pytest.raises(IllegalTransition):
        desk.reverse(granted.entry_id)


def test_late_use_finds_what_has_expired_since(desk: Desk):
    old = desk.grant(10, expires_at=START + 5 * DAY)
    new = desk.grant(10)
    desk.expire(START + 6 * DAY)
    spent = desk.spend(12, at=START + 3 * DAY)
    assert desk.parts(spent.entry_id) == [(old.grant_id, 10), (new.grant_id, 2)]
    assert desk.kinds()[-2:] == ["reverse", "spend"]
    assert desk.spend(3, at=START + 7 * DAY).covered == 3
    desk.check()


def test_late_use_that_is_refused_brings_nothing_back(desk: Desk):
    desk.grant(10, expires_at=START + 5 * DAY)
    desk.expire(START + 6 * DAY)
    with pytest.raises(InsufficientCredit):
        desk.spend(12, at=START + 3 * DAY)
    outcome = desk.spend_many(desk.use(12, at=START + 3 * DAY), desk.use(9, at=START + 3 * DAY))
    assert [spent.refused for spent in outcome] == ["insufficient_credit", ""]
    desk.check()


def test_a_late_hold_released_again_leaves_its_grant_expired(desk: Desk):
    lot = desk.grant(10, expires_at=START + 5 * DAY)
    desk.expire(START + 6 * DAY)
    held = desk.hold(4, at=START + 3 * DAY, expires_at=START + 9 * DAY)
    desk.release(held.hold_id, at=START + 4 * DAY)
    assert desk.left(lot.grant_id) == [0]
    desk.expire(START + 10 * DAY)
    desk.check()


def test_one_customer_never_touches_another(desk: Desk):
    other = Desk(new_customer())
    theirs = other.grant(10)
    held = other.hold(1)
    with pytest.raises(BillingError, match="has no grant"):
        desk.void(theirs.grant_id)
    with pytest.raises(BillingError, match="has no entry"):
        desk.reverse(theirs.entry_id)
    with pytest.raises(BillingError, match="has no hold"):
        desk.settle(held.hold_id, 1)
    with pytest.raises(BillingError, match="has no hold"):
        desk.release(held.hold_id)
    desk.grant(10)
    with pytest.raises(DatabaseError, match="same_customer"):
        desk.spend(1, project_id=other.project().pk)
    other.check()


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "0.0000001", "100000000000000"])
def test_no_door_takes_an_amount_that_is_not_credits(desk: Desk, amount: str):
    desk.grant(10)
    with pytest.raises(DatabaseError):
        desk.spend(amount)
    with pytest.raises(DatabaseError):
        desk.grant(amount)
    with pytest.raises(DatabaseError):
        desk.hold(amount)
    with pytest.raises(DatabaseError):
        desk.spend_many(desk.use(amount))
    desk.check()


def test_a_door_joins_the_transaction_it_is_called_in(desk: Desk):
    desk.grant(10)

    class Broken(Exception):
        pass

    def service() -> None:
        with transaction.atomic():
            desk.spend(4)
            raise Broken

    with pytest.raises(Broken):
        service()
    assert desk.balance.available == 10
    with transaction.atomic():
        with pytest.raises(InsufficientCredit), transaction.atomic():
            desk.spend(11)
        desk.spend(10)
    assert desk.balance.available == 0
    desk.check()


def test_booking_may_lie_in_another_period_than_the_use(desk: Desk):
    desk.grant(10)
    desk.spend(1, at=START, booked_at=START + 40 * DAY)
    entry = desk.entries()[-1]
    assert (entry.occurred_at, entry.booked_at) == (START, START + 40 * DAY)
    assert entry.recorded_at - entry.occurred_at > timedelta(0)


def test_a_sweep_brings_every_due_customer_up(desk: Desk):
    other = Desk(new_customer())
    for each in (desk, other):
        each.grant(10, at=START - 9 * DAY, expires_at=START - 5 * DAY, effective_at=START - 9 * DAY)
    while ledger.sweep(at=START, limit=1, request_id="sweep"):
        pass
    for each in (desk, other):
        assert each.balance.available == 0
        each.check()
