"""The same key twice is one effect; the same key for something else is a conflict."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from billing import ledger
from billing.errors import IdempotencyConflict
from billing.models import LedgerEntry, LedgerKey
from tests.ledger.desk import DAY, START, Desk

Call = Callable[..., Any]
KEYS, THREADS = 20, 40


@pytest.fixture
def doors(desk: Desk) -> dict[str, tuple[Call, Call]]:
    """Each door called with a key, and the same door with that key for something else."""
    desk.grant(1000)
    void_me = [desk.grant(10).grant_id for _ in range(2)]
    spent = desk.spend(50).entry_id
    settle_me, release_me = desk.hold(5).hold_id, desk.hold(5).hold_id
    return {
        "grant": (
            lambda **k: desk.grant(7, **k),
            lambda **k: desk.grant(7, kind="goodwill", **k),
        ),
        "spend": (lambda **k: desk.spend(7, **k), lambda **k: desk.spend(8, **k)),
        "hold": (lambda **k: desk.hold(7, **k), lambda **k: desk.hold(8, **k)),
        "settle": (
            lambda **k: desk.settle(settle_me, 3, **k),
            lambda **k: desk.settle(settle_me, 4, **k),
        ),
        "release": (
            lambda **k: desk.release(release_me, **k),
            lambda **k: desk.release(settle_me, **k),
        ),
        "void": (
            lambda **k: desk.void(void_me[0], **k),
            lambda **k: desk.void(void_me[1], **k),
        ),
        "reverse": (
            lambda **k: desk.reverse(spent, amount=Decimal(5), **k),
            lambda **k: desk.reverse(spent, amount=Decimal(6), **k),
        ),
    }


DOORS = ("grant", "spend", "hold", "settle", "release", "void", "reverse")


@pytest.mark.parametrize("door", DOORS)
def test_a_key_used_again_gives_back_the_first_result(
    desk: Desk, doors: dict[str, tuple[Call, Call]], door: str
):
    call, _ = doors[door]
    first = call(key="once")
    count = LedgerEntry.objects.filter(customer=desk.customer).count()
    # A try repeated later, by somebody else, is still the same request.
    again = call(key="once", at=START + DAY, actor="other", reason="retry", request_id="r2")
    assert again.replayed
    assert not first.replayed
    for field in first.__slots__:
        if field != "replayed":
            assert getattr(again, field) == getattr(first, field), field
    assert LedgerEntry.objects.filter(customer=desk.customer).count() == count
    desk.check()


@pytest.mark.parametrize("door", DOORS)
def test_a_key_used_for_something_else_is_a_conflict(
    desk: Desk, doors: dict[str, tuple[Call, Call]], door: str
):
    call, other = doors[door]
    call(key="once")
    with pytest.raises(IdempotencyConflict):
        other(key="once")
    with pytest.raises(IdempotencyConflict):
        doors["spend" if door != "spend" else "hold"][0](key="once")
    desk.check()


def test_a_refused_key_may_be_tried_again(desk: Desk):
    with pytest.raises(Exception, match="needs"):
        desk.spend(5, key="once")
    desk.grant(5)
    assert desk.spend(5, key="once").covered == 5


def test_keys_are_the_customers_own(desk: Desk):
    from tests.ledger.desk import new_customer

    other = Desk(new_customer())
    desk.grant(1, key="same")
    assert not other.grant(2, key="same").replayed


def test_a_batch_replays_and_tells_conflicts_row_by_row(desk: Desk):
    desk.grant(1000)
    uses = [desk.use(1, key=f"row{n}") for n in range(150)]
    first = desk.spend_many(*uses)
    again = desk.spend_many(*uses, desk.use(2, key="row3"), desk.use(4, key="new"))
    assert [s.entry_id for s in again[:150]] == [s.entry_id for s in first]
    assert all(s.replayed for s in again[:150])
    assert again[150].refused == "idempotency_conflict"
    assert again[151].covered == 4
    desk.check()


def test_a_key_twice_in_one_batch_counts_once(desk: Desk):
    desk.grant(1000)
    uses = [desk.use(1, key="twin") for _ in range(120)]
    outcomes = desk.spend_many(*uses)
    assert [s.replayed for s in outcomes] == [False] + [True] * 119
    assert desk.balance.available == 999
    desk.check()


def test_many_grants_at_once_replay_too(desk: Desk):
    new = [
        ledger.NewGrant(desk.customer.pk, f"g{n}", "goodwill", Decimal(n + 1), START)
        for n in range(5)
    ]
    first = ledger.grant_many(new, actor="test", reason="because", request_id="r1")
    again = ledger.grant_many(new, actor="test", reason="because", request_id="r2")
    assert [g.grant_id for g in again] == [g.grant_id for g in first]
    assert all(g.replayed for g in again)
    assert desk.balance.available == 15
    desk.check()


def test_twenty_keys_from_forty_threads_are_twenty_entries(desk: Desk):
    desk.grant(1000)

    def knock(thread: int) -> set[int | None]:
        try:
            return {desk.spend(1, key=f"key{(thread + n) % KEYS}").entry_id for n in range(KEYS)}
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as threads:
        seen = set().union(*threads.map(knock, range(THREADS)))
    spends = LedgerEntry.objects.filter(customer=desk.customer, kind="spend")
    assert spends.count() == KEYS
    assert seen == set(spends.values_list("pk", flat=True))
    assert LedgerKey.objects.filter(customer=desk.customer, door="spend").count() == KEYS
    assert desk.balance.available == 1000 - KEYS
    desk.check()
