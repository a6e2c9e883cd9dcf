"""Two connections at once: every outcome is one of the serial ones."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from billing import ledger
from billing.errors import BillingError, InsufficientCredit
from billing.models import Hold, LedgerEntry
from billing.transactions import TRIES, retried, sqlstate
from tests.ledger.desk import DAY, START, Desk, new_customer


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run the calls on a connection each, started together; a refusal is its outcome."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=30)
            return call()
        except BillingError as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


@pytest.mark.parametrize("round_", range(5))
def test_two_spends_of_the_last_credits_one_wins(desk: Desk, round_: int):
    desk.grant(10)
    outcomes = at_once(lambda: desk.spend(7), lambda: desk.spend(7))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["InsufficientCredit", "Spent"]
    assert desk.balance.available == 3
    desk.check()


@pytest.mark.parametrize("round_", range(5))
def test_spend_and_void_meet(desk: Desk, round_: int):
    lot = desk.grant(10)
    spent, voided = at_once(lambda: desk.spend(4), lambda: desk.void(lot.grant_id))
    if isinstance(spent, InsufficientCredit):
        assert voided.amount == 10
    else:
        assert voided.amount == 6
    assert desk.balance.available == 0
    desk.check()


@pytest.mark.parametrize("round_", range(5))
def test_settle_and_release_meet(desk: Desk, round_: int):
    desk.grant(10)
    held = desk.hold(6)
    outcomes = at_once(lambda: desk.settle(held.hold_id, 5), lambda: desk.release(held.hold_id))
    state = Hold.objects.get(pk=held.hold_id).state
    assert sum(isinstance(outcome, BillingError) for outcome in outcomes) == 1
    assert desk.balance.available == (5 if state == "settled" else 10)
    desk.check()


@pytest.mark.parametrize("round_", range(5))
def test_two_sweeps_and_a_spend_expire_once(desk: Desk, round_: int):
    desk.grant(10, expires_at=START + DAY)
    desk.grant(5)
    late = START + 2 * DAY
    at_once(lambda: desk.expire(late), lambda: desk.expire(late), lambda: desk.spend(5, at=late))
    assert desk.kinds().count("expire") == 1
    assert desk.balance.available == 0
    desk.check()


def test_a_hot_customer_is_never_overspent(desk: Desk):
    """960 debits of 7 against 1,000: 142 fit, from eight connections."""
    desk.grant(1000)
    refusals = []

    def debit(thread: int) -> None:
        try:
            for _ in range(120):
                try:
                    desk.spend(7)
                except InsufficientCredit:
                    refusals.append(thread)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(debit, range(8)))
    assert desk.kinds().count("spend") == 142
    assert len(refusals) == 960 - 142
    assert desk.balance.available == 6
    desk.check()


def test_batches_over_the_same_customers_in_any_order_do_not_deadlock(transactional_db: None):
    desks = [Desk(new_customer()) for _ in range(12)]
    for each in desks:
        each.grant(1000)

    def batch(turn: int) -> int:
        try:
            order = desks[turn % 12 :] + desks[: turn % 12]
            uses = [each.use(1) for each in (order if turn % 2 else order[::-1]) for _ in range(10)]
            done = ledger.spend_many(uses, actor="t", reason="r", request_id="q")
            return sum(spent.refused == "" for spent in done)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(batch, range(24))) == 24 * 120
    for each in desks:
        assert each.balance.available == 1000 - 240
        each.check()


def test_a_sweep_skips_who_is_busy(desk: Desk):
    desk.grant(10, at=START - 9 * DAY, expires_at=START - 5 * DAY, effective_at=START - 9 * DAY)

    def sweep() -> Decimal:
        try:
            while ledger.sweep(at=START, limit=100, request_id="sweep"):
                pass
            return desk.balance.available
        finally:
            connection.close()

    with transaction.atomic():
        # A door that does nothing but take the lock, as any service's transaction holds it.
        desk.spend(1, at=START - 6 * DAY)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(sweep).result(timeout=20) == 10
    assert sweep() == 0
    desk.check()


def test_a_deadlock_restarts_the_outermost_call_three_times_at_most(db: None):
    calls = []

    class Deadlock(Exception):
        sqlstate = "40P01"

    @retried
    def unlucky() -> None:
        calls.append(1)
        raise OperationalError("deadlock") from Deadlock()

    with pytest.raises(OperationalError):
        unlucky()
    assert len(calls) == 1  # inside a transaction (this test's) nothing is restarted


def test_a_deadlock_outside_a_transaction_is_restarted(transactional_db: None):
    calls = []

    class Deadlock(Exception):
        sqlstate = "40P01"

    @retried
    def unlucky() -> str:
        calls.append(1)
        if len(calls) < TRIES:
            raise OperationalError("deadlock") from Deadlock()
        return "done"

    assert unlucky() == "done"
    assert len(calls) == TRIES


def test_under_repeatable_read_a_conflict_asks_for_a_restart(desk: Desk):
    desk.grant(10)

    def meanwhile() -> None:
        try:
            desk.spend(1, key="both")
        finally:
            connection.close()

    def late() -> Any:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT 1")
            with ThreadPoolExecutor(1) as thread:
                thread.submit(meanwhile).result(timeout=20)
            return desk.spend(1, key="both")

    with pytest.raises(OperationalError) as failure:
        late()
    assert sqlstate(failure.value) == "40001"
    assert desk.spend(1, key="both").replayed
    assert LedgerEntry.objects.filter(customer=desk.customer, kind="spend").count() == 1
