"""The doors of one new customer, for tests."""

import itertools
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from billing import ledger
from billing.models import (
    CreditBalance,
    CreditGrant,
    Customer,
    Hold,
    LedgerEntry,
    LegalEntity,
    Meter,
    Project,
)

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def fresh(prefix: str) -> str:
    """A name nothing else in this run has."""
    return f"{prefix}{os.getpid()}-{next(_numbers)}"


def new_customer() -> Customer:
    entity = LegalEntity.objects.create(
        code=fresh("E")[-12:], name="Seller", legal_name="Seller", country="IE", currency="EUR"
    )
    return Customer.objects.create(
        legal_entity=entity, code=fresh("c"), name="Buyer", country="IE", currency="EUR"
    )


def new_meter() -> Meter:
    return Meter.objects.create(code=fresh("m"), name="Images", unit="image")


@dataclass
class Desk:
    """The doors of one customer, with a clerk's usual particulars filled in."""

    customer: Customer
    at: datetime = START

    def _call(self, door: Any, fields: dict[str, Any]) -> Any:
        usual = {
            "key": fresh("k"),
            "at": self.at,
            "actor": "test",
            "reason": "because",
            "request_id": "r1",
        }
        return door(self.customer.pk, **(usual | fields))

    def grant(self, amount: Any, kind: str = "promotional", **fields: Any) -> ledger.Granted:
        return self._call(ledger.grant, {"amount": Decimal(amount), "kind": kind} | fields)

    def spend(self, amount: Any, **fields: Any) -> ledger.Spent:
        return self._call(ledger.spend, {"amount": Decimal(amount)} | fields)

    def hold(self, amount: Any, **fields: Any) -> ledger.Held:
        return self._call(ledger.hold, {"amount": Decimal(amount)} | fields)

    def settle(self, hold_id: int, amount: Any, **fields: Any) -> ledger.Settled:
        return self._call(ledger.settle, {"hold_id": hold_id, "amount": Decimal(amount)} | fields)

    def release(self, hold_id: int, **fields: Any) -> ledger.Moved:
        return self._call(ledger.release, {"hold_id": hold_id} | fields)

    def void(self, grant_id: int, **fields: Any) -> ledger.Moved:
        return self._call(ledger.void, {"grant_id": grant_id} | fields)

    def reverse(self, entry_id: int, **fields: Any) -> ledger.Moved:
        return self._call(ledger.reverse, {"entry_id": entry_id} | fields)

    def expire(self, at: datetime) -> ledger.CaughtUp:
        return ledger.expire(self.customer.pk, at=at, request_id="r1")

    def use(self, amount: Any, **fields: Any) -> ledger.Use:
        usual = {"key": fresh("k"), "at": self.at}
        return ledger.Use(customer_id=self.customer.pk, amount=Decimal(amount), **(usual | fields))

    def spend_many(self, *uses: ledger.Use) -> list[ledger.Spent]:
        return ledger.spend_many(uses, actor="test", reason="because", request_id="r1")

    def project(self) -> Project:
        return Project.objects.create(customer=self.customer, code=fresh("p"), name="Work")

    @property
    def balance(self) -> CreditBalance:
        return CreditBalance.objects.get(pk=self.customer.pk)

    def left(self, *grant_ids: int) -> list[Decimal]:
        found = CreditGrant.objects.in_bulk(grant_ids)
        return [found[pk].remaining.normalize() + 0 for pk in grant_ids]

    def entries(self) -> list[LedgerEntry]:
        return list(LedgerEntry.objects.filter(customer=self.customer).order_by("seq"))

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries()]

    def parts(self, entry_id: int | None) -> list[tuple[int | None, Decimal]]:
        entry = LedgerEntry.objects.get(pk=entry_id)
        return [(p.grant_id, p.amount.normalize() + 0) for p in entry.parts.order_by("pk")]

    def check(self) -> None:
        """Stored sums are those of entries, parts and grants (L1, L2, L7, L9, L13)."""
        balance, entries = self.balance, self.entries()
        assert [entry.seq for entry in entries] == list(range(1, balance.next_seq))

        def moved(bucket: str) -> Decimal:
            came = sum((e.amount for e in entries if e.target == bucket), Decimal(0))
            went = sum((e.amount for e in entries if e.source == bucket), Decimal(0))
            return came - went

        assert balance.available == moved("available")
        assert balance.held == moved("held")
        assert balance.debt == -moved("debt")
        for entry in entries:
            assert sum(p.amount for p in entry.parts.all()) == entry.amount
        grants = CreditGrant.objects.filter(customer=self.customer)
        assert balance.available == sum((g.remaining - g.held for g in grants), Decimal(0))
        assert balance.held == sum((g.held for g in grants), Decimal(0))
        open_holds = Hold.objects.filter(customer=self.customer, is_open=True)
        assert balance.held == sum((h.covered for h in open_holds), Decimal(0))
        for grant in grants:
            out = sum(
                (
                    part.amount
                    * (1 if part.entry.source in ("available", "held") else -1)
                    * (0 if part.entry.kind in ("hold", "release", "grant") else 1)
                    for part in grant.parts.select_related("entry")
                ),
                Decimal(0),
            )
            assert grant.remaining == grant.amount - out
