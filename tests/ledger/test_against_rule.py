"""The doors do what `rules.burndown` says, grant by grant; a batch does what single doors do."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.errors import BillingError
from billing.models import CreditGrant, Hold
from billing.rules import burndown
from tests.ledger.desk import START, Desk, new_customer, new_meter

HOUR = timedelta(hours=1)
EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "12"))  # stories
STEPS = 60  # of one story
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking on a real database takes too long
    suppress_health_check=list(HealthCheck),
)

# Few distinct amounts, many of them meeting exactly: that is where mistakes live.
LOTS = [Decimal(n) for n in ("0.000001", "3", "7.5", "10", "25", "60")]
AMOUNTS = [Decimal(n) for n in ("0.000001", "0.01", "1", "3", "5", "7.5", "10")]
POLICIES = ["block", "invoice", "debt"]
DOORS = ["grant"] * 3 + ["spend"] * 5 + ["hold"] * 3 + ["settle"] * 2
DOORS += ["release", "void", "reverse", "expire"]

# Hypothesis chooses (and prints) the seed, the seed chooses the story: drawn one by one, the steps
# of a story come out too much alike, and mistakes stay hidden.
seeds = st.integers(0, 2**32 - 1)


def story(chance: Random, length: int) -> list[tuple[str, dict[str, Any]]]:
    """What a customer, a clerk and the clock do, one thing after another."""
    return [_step(chance) for _ in range(length)]


def _step(chance: Random) -> tuple[str, dict[str, Any]]:
    pick = chance.choice
    door = pick(DOORS)
    fields: dict[str, Any] = {"step": pick([0, 0, 1, 1, 2, 5, -3])}
    if door == "grant":
        fields |= {
            "amount": pick(LOTS),
            "paid": pick([True, False]),
            "starts": pick([0, 0, 0, 2, -2]),
            "lasts": pick([None, 1, 3, 6, 20]),
            "priority": pick([1, 2]),
            "scope": pick([None, None, 0, 1]),
        }
    elif door in ("spend", "hold"):
        fields |= {
            "amount": pick(AMOUNTS),
            "meter": pick([None, 0, 1]),
            "policy": pick(POLICIES),
            "limit": pick([1, 3, 6]),
            "lasts": pick([2, 6, 24]),
        }
    elif door != "expire":
        fields |= {"pick": chance.randrange(10), "amount": pick(AMOUNTS)}
    return door, fields


@dataclass
class Pair:
    """The same customer in the database and in plain Python."""

    desk: Desk
    book: burndown.Book
    meters: list[int]
    now: datetime = START
    spends: list[tuple[int, list[burndown.Part]]] | None = None
    operations: int = 0

    def both(self, door: Callable[[], Any], rule: Callable[[], Any]) -> tuple[Any, Any]:
        """Ask both; they agree on whether it is refused and why."""
        self.operations += 1
        self.book.catch_up(self.now)
        self.desk.expire(self.now)
        expected, code = None, ""
        try:
            expected = rule()
        except burndown.Refused as refusal:
            code = refusal.code
        if not code:
            return door(), expected
        with pytest.raises(BillingError) as refused:
            door()
        assert refused.value.code == code
        return None, None

    def meter(self, place: int | None) -> int | None:
        return None if place is None else self.meters[place]

    def grant(self, f: dict[str, Any]) -> None:
        starts = self.now + f["starts"] * HOUR
        ends = None if f["lasts"] is None else starts + f["lasts"] * HOUR
        scope = None if f["scope"] is None else [self.meters[f["scope"]]]
        granted = self.desk.grant(
            f["amount"],
            kind="purchased" if f["paid"] else "promotional",
            at=self.now,
            effective_at=starts,
            expires_at=ends,
            priority=f["priority"],
            meter_ids=scope,
        )
        repaid = self.book.grant(
            burndown.Lot(
                granted.grant_id,
                f["amount"],
                starts,
                ends,
                priority=f["priority"],
                is_paid=f["paid"],
                created_at=self.now,
                meters=None if scope is None else frozenset(scope),
            ),
            self.now,
        )
        assert granted.repaid == repaid

    def spend(self, f: dict[str, Any]) -> None:
        meter = self.meter(f["meter"])
        terms = {"at": self.now, "debt_limit": Decimal(f["limit"])}
        spent, paid = self.both(
            lambda: self.desk.spend(
                f["amount"], meter_id=meter, overage_policy=f["policy"], **terms
            ),
            lambda: self.book.spend(f["amount"], meter=meter, policy=f["policy"], **terms),
        )
        if spent is not None:
            assert (spent.covered, spent.overage, spent.owed) == (
                paid.covered,
                paid.overage,
                paid.owed,
            )
            self.agree_on_parts(spent, paid.parts)

    def agree_on_parts(self, spent: Any, parts: Any) -> None:
        if parts:
            assert self.desk.parts(spent.entry_id) == [
                (part.lot, part.amount.normalize() + 0) for part in parts
            ]
            assert self.spends is not None
            self.spends.append((spent.entry_id, list(parts)))

    def hold(self, f: dict[str, Any]) -> None:
        meter = self.meter(f["meter"])
        until = self.now + f["lasts"] * HOUR
        limit = Decimal(f["limit"])
        held, made = self.both(
            lambda: self.desk.hold(
                f["amount"],
                at=self.now,
                expires_at=until,
                meter_id=meter,
                overage_policy=f["policy"],
                debt_limit=limit,
            ),
            lambda: self.book.hold(
                "new",
                f["amount"],
                self.now,
                until,
                meter=meter,
                policy=f["policy"],
                debt_limit=limit,
            ),
        )
        if held is not None:
            made.id = held.hold_id
            self.book.holds[held.hold_id] = self.book.holds.pop("new")
            assert held.covered == made.covered

    def settle(self, f: dict[str, Any]) -> None:
        hold = self.chosen(self.book.holds, f["pick"], lambda made: made.state == "open")
        if hold is not None:
            settled, paid = self.both(
                lambda: self.desk.settle(hold, f["amount"], at=self.now),
                lambda: self.book.settle(hold, f["amount"], self.now),
            )
            if settled is not None:
                assert (settled.covered, settled.overage, settled.owed) == (
                    paid.covered,
                    paid.overage,
                    paid.owed,
                )

    def release(self, f: dict[str, Any]) -> None:
        hold = self.chosen(self.book.holds, f["pick"], lambda made: made.state == "open")
        if hold is not None:
            self.both(
                lambda: self.desk.release(hold, at=self.now),
                lambda: self.book.release(hold, self.now),
            )

    def void(self, f: dict[str, Any]) -> None:
        lot = self.chosen(self.book.lots, f["pick"], lambda lot: bool(lot.rest))
        if lot is not None:
            voided, taken = self.both(
                lambda: self.desk.void(lot, at=self.now), lambda: self.book.void(lot, self.now)
            )
            if voided is not None:
                assert voided.amount == taken or voided.replayed

    def reverse(self, f: dict[str, Any]) -> None:
        if self.spends:
            entry, parts = self.spends[f["pick"] % len(self.spends)]
            back, returned = self.both(
                lambda: self.desk.reverse(entry, amount=f["amount"], at=self.now),
                lambda: self.book.reverse(parts, f["amount"], self.now),
            )
            if back is not None:
                self.spends.remove((entry, parts))
                assert self.desk.parts(back.entry_id) == [
                    (part.lot, part.amount.normalize() + 0) for part in returned
                ]

    def expire(self, f: dict[str, Any]) -> None:
        self.book.catch_up(self.now)
        self.desk.expire(self.now)

    @staticmethod
    def chosen(from_: dict[Any, Any], pick: int, is_alive: Callable[[Any], bool]) -> Any:
        """One of them, a living one more often than not: the dead ones refuse alike."""
        alive = [key for key, one in from_.items() if is_alive(one)]
        among = alive if alive and pick < 8 else list(from_)
        return among[pick % len(among)] if among else None

    def compare(self) -> None:
        """Grant by grant and hold by hold, not only in sum."""
        grants = {
            grant.pk: (grant.remaining, grant.held)
            for grant in CreditGrant.objects.filter(customer=self.desk.customer)
        }
        assert grants == {lot.id: (lot.rest, lot.held) for lot in self.book.lots.values()}
        holds = dict(Hold.objects.filter(customer=self.desk.customer).values_list("pk", "state"))
        assert holds == {made.id: made.state for made in self.book.holds.values()}


@given(seed=seeds)
@SETTINGS
def test_the_doors_agree_with_the_rule_grant_by_grant(transactional_db: None, seed: int):
    pair = Pair(Desk(new_customer()), burndown.Book(), [new_meter().pk, new_meter().pk], spends=[])
    for door, fields in story(Random(seed), STEPS):
        pair.now += fields["step"] * HOUR
        getattr(pair, door)(fields)
        # What is over by now is over on both sides, also after a refusal rolled it back.
        pair.expire({})
        pair.compare()
    if pair.book.lots or pair.book.holds:
        assert pair.desk.balance.debt == pair.book.debt
        pair.desk.check()


def batch(chance: Random) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Grants and uses of three customers; most customers of a batch are plain, some are not."""
    pick = chance.choice
    wild = pick([True, False])  # half of the batches meet nothing special
    grants = [
        (
            chance.randrange(3),
            pick([1, 5, 40, 60]),
            pick([None, None, None, 4, 20]) if wild else None,  # hours until it expires
            pick([0, 0, 0, 3]) if wild else 0,  # hours until it begins
            pick([None, None, None, 0]),  # meter
            pick([1, 1, 2]),  # priority
        )
        for _ in range(chance.randrange(4, 16))
    ]
    meters = pick([[None], [None, None, 0, 1], [0]])
    uses = [
        (
            chance.randrange(3),
            pick(["0.5", "1", "2.25", "3"]),
            pick([0, 0, 0, 0, 5]) if wild else 0,  # hours later
            pick(meters),
        )
        for _ in range(chance.randrange(100, 140))
    ]
    return grants, uses


@given(seed=seeds)
@SETTINGS
def test_a_batch_pays_as_the_single_door_would_row_by_row(transactional_db: None, seed: int):
    chance = Random(seed)
    policy = chance.choice(POLICIES)
    grants, uses = batch(chance)
    meter_ids = [new_meter().pk, new_meter().pk]
    single, many = (tuple(Desk(new_customer()) for _ in range(3)) for _ in range(2))
    twins_of: dict[Any, Any] = {}
    for who, amount, lasts, begins, meter, priority in grants:
        twins = [
            side[who].grant(
                amount,
                expires_at=None if lasts is None else START + lasts * HOUR,
                effective_at=START + begins * HOUR if lasts is None or begins < lasts else START,
                meter_ids=None if meter is None else [meter_ids[meter]],
                priority=priority,
            )
            for side in (single, many)
        ]
        twins_of[twins[0].grant_id] = twins[1].grant_id

    def use(desk: Desk, row: tuple[Any, ...], number: int) -> Any:
        _, amount, later, meter = row
        return desk.use(
            amount,
            key=f"u{number}",
            at=START + later * HOUR,
            meter_id=None if meter is None else meter_ids[meter],
            overage_policy=policy,
            debt_limit=Decimal(20),
        )

    expected = [
        single[row[0]].spend_many(use(single[row[0]], row, n))[0] for n, row in enumerate(uses)
    ]
    found = many[0].spend_many(*(use(many[row[0]], row, n) for n, row in enumerate(uses)))
    for one, other in zip(expected, found, strict=True):
        assert (one.covered, one.overage, one.owed, one.refused) == (
            other.covered,
            other.overage,
            other.owed,
            other.refused,
        )
        if one.entry_id is not None:
            parts = [(twins_of.get(lot), amount) for lot, amount in many[0].parts(one.entry_id)]
            assert parts == many[0].parts(other.entry_id)
    for left, right in zip(single, many, strict=True):
        assert [(e.kind, e.amount) for e in left.entries()] == [
            (e.kind, e.amount) for e in right.entries()
        ]
        if left.entries():
            right.check()
