"""How credits are used up: the ledger's rule in plain Python, for quotes, dry runs and tests.

Pure: no clock, no settings, no database. Amounts are credits, exact. Instants are compared only,
so any one zone will do. A grant lives in `[effective_at, min(expires_at, voided_at))`. At one
instant grants expire and are voided first, then resets, activations and recurrences follow, then
use burns. `Book` behaves as the database's doors do, grant by grant; `run` projects a timeline.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from billing.rules.money import quantize
from billing.rules.periods import Interval, boundary

Id = int | str
Policy = Literal["block", "invoice", "debt"]

ZERO = Decimal(0)


class Refused(Exception):
    """The rule says no; nothing has changed. `code` says why, as the ledger's errors do."""

    def __init__(self, code: str, *, needed: Decimal = ZERO, available: Decimal = ZERO) -> None:
        self.code, self.needed, self.available = code, needed, available
        super().__init__(code)


# ── A lot of credits, and the order lots are used in ─────────────────────────────────────────


@dataclass(slots=True)
class Lot:
    """What a grant holds. `remaining` includes `held`; a scope of None pays for everything."""

    id: Id
    amount: Decimal
    effective_at: datetime
    expires_at: datetime | None = None
    voided_at: datetime | None = None
    priority: int = 100
    is_paid: bool = False
    created_at: datetime | None = None
    meters: frozenset[Id] | None = None
    projects: frozenset[Id] | None = None
    remaining: Decimal | None = None
    held: Decimal = ZERO
    expired: Decimal = ZERO  # expired so far and not brought back

    def __post_init__(self) -> None:
        if self.remaining is None:
            self.remaining = self.amount

    @property
    def rest(self) -> Decimal:
        """Credits not yet used, expired or voided, held ones included."""
        return self.remaining or ZERO

    @property
    def free(self) -> Decimal:
        """Credits that are neither used nor held."""
        return self.rest - self.held


@dataclass(frozen=True, slots=True)
class Part:
    """What one lot pays."""

    lot: Id
    amount: Decimal


def window(
    effective_at: datetime, expires_at: datetime | None, voided_at: datetime | None
) -> tuple[datetime, datetime | None]:
    """The life of a grant, `[from, to)`; empty when it was voided before it began."""
    ends = [instant for instant in (expires_at, voided_at) if instant is not None]
    return effective_at, max(min(ends), effective_at) if ends else None


def is_active(
    at: datetime,
    *,
    effective_at: datetime,
    expires_at: datetime | None = None,
    voided_at: datetime | None = None,
) -> bool:
    """Whether a grant pays for use at `at`: from its first instant, no longer at its last."""
    start, end = window(effective_at, expires_at, voided_at)
    return start <= at and (end is None or at < end)


def burn_order(lots: Iterable[Lot]) -> list[Lot]:
    """Priority, soonest expiry (never last), given before paid, oldest, id.

    >>> day = datetime(2026, 1, 1)
    >>> lots = [Lot("b", Decimal(1), day, is_paid=True), Lot("a", Decimal(1), day)]
    >>> [lot.id for lot in burn_order(lots)]
    ['a', 'b']
    """
    return sorted(
        lots,
        key=lambda lot: (
            lot.priority,
            lot.expires_at is None,
            (lot.expires_at,) if lot.expires_at else (),
            lot.is_paid,
            lot.created_at or lot.effective_at,
            lot.id,
        ),
    )


def pays_for(lot: Lot, at: datetime, *, meter: Id | None = None, project: Id | None = None) -> bool:
    """Whether a lot is alive at `at` and its scope covers this meter and project."""
    return (
        is_active(
            at,
            effective_at=lot.effective_at,
            expires_at=lot.expires_at,
            voided_at=lot.voided_at,
        )
        and (lot.meters is None or meter in lot.meters)
        and (lot.projects is None or project in lot.projects)
    )


def pay(
    lots: Iterable[Lot],
    amount: Decimal,
    at: datetime,
    *,
    meter: Id | None = None,
    project: Id | None = None,
) -> tuple[list[Part], Decimal]:
    """Which lots would pay `amount` at `at`, in burn order, and what they lack. Changes nothing.

    >>> day = datetime(2026, 1, 1)
    >>> pay([Lot("a", Decimal(5), day)], Decimal(8), day)
    ([Part(lot='a', amount=Decimal('5'))], Decimal('3'))
    """
    _positive(amount)
    parts = []
    short = amount
    for lot in burn_order(lot for lot in lots if pays_for(lot, at, meter=meter, project=project)):
        take = min(short, lot.free)
        if take:
            parts.append(Part(lot.id, take))
            short -= take
        if not short:
            break
    return parts, short


def rest_to_void(
    *,
    amount: Decimal,
    consumed: Decimal,
    at: datetime,
    expires_at: datetime | None = None,
    voided_at: datetime | None = None,
    held: Decimal = ZERO,
) -> Decimal:
    """What a void at `at` takes back: the unheld rest; nothing the second time.

    Raises Refused when the grant is used up, wholly held or expired.
    """
    if voided_at is not None and voided_at <= at:
        return ZERO
    rest = amount - consumed - held
    if rest <= 0 or (expires_at is not None and expires_at <= at):
        raise Refused("illegal_transition")
    return rest


def rollover(
    rest: Decimal,
    *,
    cap: Decimal | None = None,
    percent: Decimal = Decimal(100),
    step: Decimal = Decimal(1),
) -> Decimal:
    """What of an allowance's rest moves into the next period, in whole steps.

    >>> rollover(Decimal("37.5"), cap=Decimal(100), percent=Decimal(50))
    Decimal('18')
    """
    moved = rest * percent / 100
    if cap is not None:
        moved = min(moved, cap)
    return quantize(moved / step, 0, rounding="floor") * step


# ── A customer's credits, as the doors keep them ─────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Paid:
    """What one use cost: parts of grants, what is owed, what nobody covered."""

    parts: tuple[Part, ...]
    overage: Decimal = ZERO
    owed: Decimal = ZERO

    @property
    def covered(self) -> Decimal:
        """Credits the grants paid."""
        return sum((part.amount for part in self.parts), ZERO)


@dataclass(slots=True)
class Reservation:
    """A hold: its pins in burn order, until when, and the terms use above them is judged by."""

    id: Id
    amount: Decimal
    parts: tuple[Part, ...]
    expires_at: datetime
    meter: Id | None
    project: Id | None
    policy: Policy
    debt_limit: Decimal
    state: str = "open"

    @property
    def covered(self) -> Decimal:
        """Credits pinned."""
        return sum((part.amount for part in self.parts), ZERO)


@dataclass(slots=True)
class Book:
    """One customer's lots, holds and debt. Each method is a door; a Refused one changes nothing.

    As in the database, a door first brings the customer up to its instant.
    """

    lots: dict[Id, Lot] = field(default_factory=dict)
    holds: dict[Id, Reservation] = field(default_factory=dict)
    debt: Decimal = ZERO
    swept_at: datetime | None = None

    @property
    def available(self) -> Decimal:
        """Every posted credit that is not held, of grants not yet in effect too."""
        return sum((lot.free for lot in self.lots.values()), ZERO)

    @property
    def held(self) -> Decimal:
        """Every credit pinned by an open hold."""
        return sum((lot.held for lot in self.lots.values()), ZERO)

    def spendable(
        self, at: datetime, *, meter: Id | None = None, project: Id | None = None
    ) -> Decimal:
        """What could be spent at `at` for this meter and project."""
        matching = (
            lot for lot in self.lots.values() if pays_for(lot, at, meter=meter, project=project)
        )
        return sum((lot.free for lot in matching), ZERO)

    def spendable_in_all(self, at: datetime) -> Decimal:
        """What could be spent at `at`, whatever each lot's scope is."""
        return sum(
            (
                lot.free
                for lot in self.lots.values()
                if is_active(
                    at,
                    effective_at=lot.effective_at,
                    expires_at=lot.expires_at,
                    voided_at=lot.voided_at,
                )
            ),
            ZERO,
        )

    def grant(self, lot: Lot, at: datetime) -> Decimal:
        """Add a lot; a paid one without scope repays debt first. Returns what it repaid."""
        _positive(lot.amount)
        self.catch_up(at)
        self.lots[lot.id] = lot
        if lot.created_at is None:
            lot.created_at = at
        repaid = ZERO
        if lot.is_paid and pays_for(lot, at) and lot.meters is None and lot.projects is None:
            repaid = min(self.debt, lot.rest)
            lot.remaining = lot.rest - repaid
            self.debt -= repaid
        self.catch_up(at)
        return repaid

    def spend(
        self,
        amount: Decimal,
        at: datetime,
        *,
        meter: Id | None = None,
        project: Id | None = None,
        policy: Policy = "block",
        debt_limit: Decimal = ZERO,
    ) -> Paid:
        """Pay for use; what the grants lack goes by the policy."""
        _positive(amount)
        self.catch_up(at)
        return self._pay(amount, at, meter, project, policy, debt_limit)

    def hold(
        self,
        hold: Id,
        amount: Decimal,
        at: datetime,
        expires_at: datetime,
        *,
        meter: Id | None = None,
        project: Id | None = None,
        policy: Policy = "block",
        debt_limit: Decimal = ZERO,
    ) -> Reservation:
        """Pin credits until `expires_at`."""
        _positive(amount)
        self.catch_up(at)
        parts, short = self._pick(amount, at, meter, project)
        if short and (policy == "block" or (policy == "debt" and self.debt + short > debt_limit)):
            raise Refused("insufficient_credit", needed=amount, available=amount - short)
        self._reopen(parts)
        for part in parts:
            self.lots[part.lot].held += part.amount
        made = Reservation(
            hold, amount, tuple(parts), expires_at, meter, project, policy, debt_limit
        )
        self.holds[hold] = made
        return made

    def settle(self, hold: Id, amount: Decimal, at: datetime) -> Paid:
        """Spend from the pins in their order, give the rest back, pay what is above them."""
        _positive(amount)
        self.catch_up(at)
        made = self._open(hold)
        above = amount - min(amount, made.covered)
        if above:
            self._judge_growth(made, above, at)
        spent = self._resolve(made, min(amount, made.covered), at, "settled")
        if not above:
            return Paid(tuple(spent))
        grown = self._pay(above, at, made.meter, made.project, made.policy, made.debt_limit)
        return Paid((*spent, *grown.parts), grown.overage, grown.owed)

    def release(self, hold: Id, at: datetime) -> None:
        """Give a hold back; what is released or lapsed already stays so."""
        self.catch_up(at)
        if self.holds[hold].state not in ("released", "lapsed"):
            self._resolve(self._open(hold), ZERO, at, "released")

    def void(self, lot_id: Id, at: datetime) -> Decimal:
        """Take back the unheld rest of a lot; again is a no-op."""
        self.catch_up(at)
        lot = self.lots[lot_id]
        if lot.voided_at is not None:
            return ZERO
        taken = rest_to_void(
            amount=lot.rest, consumed=ZERO, held=lot.held, at=at, expires_at=lot.expires_at
        )
        lot.remaining = lot.held
        lot.voided_at = at
        return taken

    def reverse(self, parts: Sequence[Part], amount: Decimal, at: datetime) -> list[Part]:
        """Give credits back to the lots that paid, last part first; to a dead lot they end."""
        _positive(amount)
        self.catch_up(at)
        back = []
        for part in reversed(parts):
            take = min(amount, part.amount)
            if take:
                back.append(Part(part.lot, take))
                amount -= take
        if amount:
            raise Refused("illegal_transition")
        for part in back:
            self.lots[part.lot].remaining = self.lots[part.lot].rest + part.amount
        self._end_returned(back, at)
        return back

    def catch_up(self, at: datetime) -> None:
        """Let grants expire and holds lapse up to `at`, in the order they were due."""
        due: list[tuple[datetime, int, Id]] = [
            (lot.expires_at, 1, lot.id)
            for lot in self.lots.values()
            if lot.rest and lot.expires_at is not None and lot.expires_at <= at
        ]
        due += [
            (made.expires_at, 2, made.id)
            for made in self.holds.values()
            if made.state == "open" and made.expires_at <= at
        ]
        for instant, place, key in sorted(due):
            if place == 1:
                lot = self.lots[key]
                if lot.free:
                    lot.expired += lot.free
                    lot.remaining = lot.held
                    self.swept_at = max(self.swept_at or instant, instant)
            else:
                self._resolve(self.holds[key], ZERO, instant, "lapsed")

    def _pick(
        self, amount: Decimal, at: datetime, meter: Id | None, project: Id | None
    ) -> tuple[list[Part], Decimal]:
        """As `pay`; late use also finds what has expired since."""
        if self.swept_at is None or at >= self.swept_at:
            return pay(self.lots.values(), amount, at, meter=meter, project=project)
        then = [
            replace(lot, remaining=lot.free + lot.expired, held=ZERO) for lot in self.lots.values()
        ]
        return pay(then, amount, at, meter=meter, project=project)

    def _reopen(self, parts: Iterable[Part]) -> None:
        """Bring back what late use takes of lots that have expired since."""
        for part in parts:
            lot = self.lots[part.lot]
            back = max(part.amount - lot.free, ZERO)
            lot.expired -= back
            lot.remaining = lot.rest + back

    def _pay(
        self,
        amount: Decimal,
        at: datetime,
        meter: Id | None,
        project: Id | None,
        policy: Policy,
        debt_limit: Decimal,
    ) -> Paid:
        parts, short = self._pick(amount, at, meter, project)
        overage = short if policy == "invoice" else ZERO
        owed = short if policy == "debt" else ZERO
        if short and (policy == "block" or self.debt + owed > max(debt_limit, self.debt)):
            raise Refused("insufficient_credit", needed=amount, available=amount - short)
        self._reopen(parts)
        for part in parts:
            self.lots[part.lot].remaining = self.lots[part.lot].rest - part.amount
        self.debt += owed
        return Paid(tuple(parts), overage, owed)

    def _judge_growth(self, made: Reservation, above: Decimal, at: datetime) -> None:
        """Refuse growth beforehand, so that a refused settlement leaves the hold open.

        The pins of the hold itself are all spent by then, so they cannot pay for its growth.
        """
        if made.policy == "invoice":
            return
        _, short = self._pick(above, at, made.meter, made.project)
        if short and (made.policy == "block" or self.debt + short > made.debt_limit):
            raise Refused("insufficient_credit", needed=above, available=above - short)

    def _open(self, hold: Id) -> Reservation:
        made = self.holds[hold]
        if made.state != "open":
            raise Refused("illegal_transition")
        return made

    def _resolve(self, made: Reservation, spend: Decimal, at: datetime, state: str) -> list[Part]:
        spent, back = [], []
        for pin in made.parts:
            take = min(spend, pin.amount)
            lot = self.lots[pin.lot]
            lot.held -= pin.amount
            lot.remaining = lot.rest - take
            spend -= take
            if take:
                spent.append(Part(pin.lot, take))
            if take < pin.amount:
                back.append(Part(pin.lot, pin.amount - take))
        made.state = state
        self._end_returned(back, at)
        return spent

    def _end_returned(self, back: Iterable[Part], at: datetime) -> None:
        now = max(at, self.swept_at or at)  # what is booked as expired does not live again
        for part in back:
            lot = self.lots[part.lot]
            if lot.voided_at is not None or (lot.expires_at is not None and lot.expires_at <= now):
                lot.remaining = lot.rest - part.amount
                if lot.voided_at is None:
                    lot.expired += part.amount


def _positive(amount: Decimal) -> None:
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"credits must be positive and finite: {amount}")


# ── A timeline, projected ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A grant whose balance returns to its amount at anchor + k · interval."""

    interval: Interval
    count: int
    anchor: datetime

    def instants(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The recurrences in `(after, until]`, in order."""
        k = 0
        while boundary(self.anchor, self.interval, self.count, k) > after:
            k -= 1
        while (instant := boundary(self.anchor, self.interval, self.count, k)) <= until:
            if instant > after:
                yield instant
            k += 1


@dataclass(frozen=True, slots=True)
class Term:
    """A grant on a timeline: its lot, and what recurrences and resets do to its balance.

    keep: the least and the most that survives a reset; None survives with nothing.
    """

    lot: Lot
    recurrence: Recurrence | None = None
    keep: tuple[Decimal, Decimal] | None = None


@dataclass(frozen=True, slots=True)
class Reset:
    """The start of a new usage period; its overage is forgotten, or burns the new balances."""

    at: datetime
    preserve_overage: bool = False


@dataclass(frozen=True, slots=True)
class Burn:
    """Use of some credits at an instant."""

    at: datetime
    amount: Decimal
    meter: Id | None = None
    project: Id | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Balances at an instant, before any use at that very instant."""

    balances: Mapping[Id, Decimal]
    total: Decimal
    overage: Decimal
    used_in_period: Decimal


@dataclass(slots=True)
class _Open:
    """Overage not yet absorbed, by what it was used for."""

    burn: Burn
    left: Decimal


def run(
    terms: Sequence[Term],
    burns: Iterable[Burn],
    query_at: Sequence[datetime],
    *,
    start: datetime,
    resets: Iterable[Reset] = (),
    opening: Mapping[Id, Decimal] | None = None,
    opening_overage: Decimal = ZERO,
) -> dict[datetime, Standing]:
    """Walk a timeline from `start` and tell how things stand at each query.

    A grant begins with its amount (or its `opening` balance at the start), and what it holds is
    gone at its end. Use nothing covers is overage; inside its period any grant that begins or
    recurs later absorbs it first.
    """
    ends = max((start, *query_at))
    steps: list[tuple[datetime, int, _Step]] = [
        step for term in terms for step in _turns(term, start, ends)
    ]
    steps += [(reset.at, _RESET, reset) for reset in resets]
    steps += [(instant, _QUERY, instant) for instant in query_at]
    steps += [(burn.at, _BURN, burn) for burn in burns]

    walk = _Walk(terms, start, opening or {}, opening_overage)
    standings: dict[datetime, Standing] = {}
    for at, rank, what in sorted(steps, key=lambda step: step[:2]):
        if not start <= at <= ends:
            continue
        if isinstance(what, Burn):
            walk.burn(what)
        elif isinstance(what, Reset):
            walk.reset(what, at)
        elif isinstance(what, datetime):
            standings[what] = walk.standing()
        else:
            walk.turn(what, at, ZERO if rank == _END else what.lot.amount)
    return standings


def _turns(term: Term, start: datetime, ends: datetime) -> Iterator[tuple[datetime, int, Term]]:
    """When a grant ends, begins and recurs."""
    begins, over = window(term.lot.effective_at, term.lot.expires_at, term.lot.voided_at)
    if over is not None:
        yield over, _END, term
    if begins > start and (over is None or begins < over):
        yield begins, _BEGIN, term
    if term.recurrence is not None:
        for instant in term.recurrence.instants(max(begins, start), ends):
            if over is None or instant < over:
                yield instant, _RECUR, term


_Step = Term | Reset | Burn | datetime
_END, _RESET, _BEGIN, _RECUR, _QUERY, _BURN = range(6)  # the order at one instant


class _Walk:
    """The balances while a timeline is walked."""

    def __init__(
        self,
        terms: Sequence[Term],
        start: datetime,
        opening: Mapping[Id, Decimal],
        overage: Decimal,
    ) -> None:
        self.terms = terms
        self.used = ZERO
        self.open = [_Open(Burn(start, overage), overage)] if overage else []
        self.balances: dict[Id, Decimal] = {}
        for term in terms:
            lot = term.lot
            alive = is_active(
                start,
                effective_at=lot.effective_at,
                expires_at=lot.expires_at,
                voided_at=lot.voided_at,
            )
            self.balances[lot.id] = opening.get(lot.id, lot.amount) if alive else ZERO

    def turn(self, term: Term, at: datetime, balance: Decimal) -> None:
        """A grant begins, recurs or ends: its balance becomes what it is then."""
        self.balances[term.lot.id] = balance
        self._absorb(at)

    def reset(self, reset: Reset, at: datetime) -> None:
        """A new period: each balance keeps what it may, and overage is kept or forgotten."""
        self.used = ZERO
        if not reset.preserve_overage:
            self.open = []
        for term in self.terms:
            lot = term.lot
            if is_active(
                at,
                effective_at=lot.effective_at,
                expires_at=lot.expires_at,
                voided_at=lot.voided_at,
            ):
                least, most = term.keep or (ZERO, ZERO)
                balance = self.balances[lot.id]
                self.balances[lot.id] = min(most, max(least, balance))
        self._absorb(at)

    def burn(self, burn: Burn) -> None:
        """Use some credits; what nobody covers stays open for later grants."""
        self.used += burn.amount
        if burn.amount:
            self.open.append(_Open(burn, burn.amount))
            self._absorb(burn.at)

    def standing(self) -> Standing:
        """How things stand now."""
        return Standing(
            balances=dict(self.balances),
            total=sum(self.balances.values(), ZERO),
            overage=sum((item.left for item in self.open), ZERO),
            used_in_period=self.used,
        )

    def _absorb(self, at: datetime) -> None:
        for item in self.open:
            lots = [
                replace(term.lot, remaining=self.balances[term.lot.id], held=ZERO)
                for term in self.terms
                if self.balances[term.lot.id]
            ]
            parts, item.left = pay(
                lots, item.left, at, meter=item.burn.meter, project=item.burn.project
            )
            for part in parts:
                self.balances[part.lot] -= part.amount
        self.open = [item for item in self.open if item.left]
