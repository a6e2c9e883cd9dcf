"""The credit ledger: the only way credits move. Each function is one database door, one round trip.

A door takes the customer's lock, brings the customer up to `at` (lapsed grants expire, lapsed
holds are released) and judges by what the matching grants have free at that instant. `key` makes
it idempotent per customer: the same key with the same request gives back the first result, with
another request it raises IdempotencyConflict; `at`, actor, reason and request id may differ
between tries. Amounts are credits, positive, of at most six decimals. `booked_at` is the
accounting instant and defaults to `at`.

Called outside a transaction a door commits by itself and restarts on a deadlock; inside one it
joins it. A refusal inside a transaction aborts that transaction, as any database error does: where
a service wants to go on after one, it asks with `spend_many`, which returns refusals.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from django.db import DatabaseError, connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper

from billing.errors import (
    BillingError,
    IdempotencyConflict,
    IllegalTransition,
    InsufficientCredit,
)
from billing.models import CreditGrant
from billing.models.credits import OveragePolicy
from billing.transactions import retried, sqlstate

HOLD_LASTS = timedelta(hours=24)
PRIORITY = 100  # the usual place of a grant; lower is spent first


@dataclass(frozen=True, slots=True)
class Granted:
    """A lot of credits that was granted, and how much of it repaid debt at once."""

    grant_id: int
    entry_id: int
    repaid: Decimal
    replayed: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """What one use cost: by grants (`covered`), as debt (`owed`), beyond both (`overage`).

    `refused` is empty, or the code of the refusal; only `spend_many` returns one.
    """

    entry_id: int | None
    covered: Decimal
    overage: Decimal
    owed: Decimal
    replayed: bool
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation: `covered` is pinned on grants, `uncovered` is judged when it is settled."""

    hold_id: int
    entry_id: int | None
    covered: Decimal
    uncovered: Decimal
    replayed: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What a hold really cost, and what of it was given back."""

    entry_id: int | None
    covered: Decimal
    overage: Decimal
    owed: Decimal
    released: Decimal
    replayed: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """The one entry a release, void or reversal made, and its credits."""

    entry_id: int | None
    amount: Decimal
    replayed: bool


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Credits that expired and credits that lapsed holds gave back."""

    expired: Decimal
    released: Decimal


@dataclass(frozen=True, slots=True)
class NewGrant:
    """One row for `grant_many`; the fields mean what they mean in `grant`."""

    customer_id: int
    key: str
    kind: str
    amount: Decimal
    at: datetime
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = PRIORITY
    label: str = ""
    subscription_id: int | None = None
    parent_id: int | None = None
    booked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One row for `spend_many`."""

    customer_id: int
    key: str
    amount: Decimal
    at: datetime
    meter_id: int | None = None
    project_id: int | None = None
    subscription_id: int | None = None
    overage_policy: str = OveragePolicy.BLOCK
    debt_limit: Decimal = Decimal(0)
    booked_at: datetime | None = None


@retried
def grant(
    customer_id: int,
    *,
    key: str,
    kind: str,
    amount: Decimal,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    priority: int = PRIORITY,
    label: str = "",
    meter_ids: Sequence[int] | None = None,
    project_ids: Sequence[int] | None = None,
    subscription_id: int | None = None,
    parent_id: int | None = None,
    sale_line_id: int | None = None,
    cost_total: Decimal = Decimal(0),
    currency: str = "",
    tax_treatment: str = CreditGrant.TaxTreatment.NONE,
    booked_at: datetime | None = None,
) -> Granted:
    """Give a customer a lot of credits; it pays for use in `[effective_at, expires_at)`.

    A purchased grant without scope repays debt first. `cost_total` is what all its credits were
    sold for, in `currency`. Granted after its expiry, it expires at once.
    """
    row = _call(
        "ledger_grant",
        customer_id,
        key,
        kind,
        amount,
        at,
        effective_at,
        expires_at,
        priority,
        label,
        _ids(meter_ids),
        _ids(project_ids),
        subscription_id,
        parent_id,
        sale_line_id,
        cost_total,
        currency,
        tax_treatment,
        booked_at,
        actor,
        reason,
        request_id,
    )
    return Granted(*row)


@retried
def grant_many(
    grants: Sequence[NewGrant], *, actor: str, reason: str, request_id: str
) -> list[Granted]:
    """Give many lots in one round trip, all or none; the results stand in the order of `grants`.

    Raises IdempotencyConflict when one of the keys was used for a different grant.
    """
    if not grants:
        return []
    # Customers are locked in the order of their ids, so that two batches cannot deadlock.
    order = sorted(range(len(grants)), key=lambda place: (grants[place].customer_id, place))
    columns = [
        list(column) for column in zip(*(_grant_row(grants[place]) for place in order), strict=True)
    ]
    rows = _rows(
        """SELECT g.granted, g.entry, g.repaid, g.replayed
           FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::numeric[], %s::timestamptz[],
                       %s::timestamptz[], %s::timestamptz[], %s::integer[], %s::text[],
                       %s::bigint[], %s::bigint[], %s::timestamptz[])
             WITH ORDINALITY AS i (customer, key, kind, amount, at, effective_at, expires_at,
                                   priority, label, subscription, parent, booked_at, place)
           CROSS JOIN LATERAL ledger_grant(
             i.customer, i.key, i.kind, i.amount, i.at, i.effective_at, i.expires_at, i.priority,
             i.label, NULL, NULL, i.subscription, i.parent, NULL, 0, '', 'none', i.booked_at,
             %s, %s, %s) g
           ORDER BY i.place""",
        (*columns, actor, reason, request_id),
    )
    results = dict(zip(order, (Granted(*row) for row in rows), strict=True))
    return [results[place] for place in range(len(grants))]


@retried
def spend(
    customer_id: int,
    *,
    key: str,
    amount: Decimal,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    meter_id: int | None = None,
    project_id: int | None = None,
    subscription_id: int | None = None,
    overage_policy: str = OveragePolicy.BLOCK,
    debt_limit: Decimal = Decimal(0),
    booked_at: datetime | None = None,
) -> Spent:
    """Pay for use from the matching grants in burn order.

    What they lack is refused (block: InsufficientCredit, nothing is written), returned as overage
    (invoice), or owed up to `debt_limit` (debt). Use before an expiry that is booked already is
    late use: what expired since is brought back as far as it is needed.
    """
    row = _call(
        "ledger_spend",
        customer_id,
        key,
        amount,
        at,
        meter_id,
        project_id,
        subscription_id,
        overage_policy,
        debt_limit,
        booked_at,
        actor,
        reason,
        request_id,
    )
    return Spent(*row)


@retried
def spend_many(uses: Sequence[Use], *, actor: str, reason: str, request_id: str) -> list[Spent]:
    """Pay for many uses in one round trip; the outcomes stand in the order of `uses`.

    The uses of one customer are applied in that order. Nothing is raised for a single row: a
    refusal is an outcome (`refused`), and the rows after it are judged on their own.
    """
    if not uses:
        return []
    columns: list[list[Any]] = [list(column) for column in zip(*map(_use_row, uses), strict=True)]
    rows = _rows(
        """SELECT * FROM ledger_spend_many(%s::bigint[], %s::text[], %s::numeric[],
           %s::timestamptz[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::numeric[],
           %s::timestamptz[], %s, %s, %s)""",
        (*columns, actor, reason, request_id),
    )
    outcomes: list[Spent | None] = [None] * len(uses)
    for place, entry_id, covered, overage, owed, replayed, refused in rows:
        outcomes[place - 1] = Spent(entry_id, covered, overage, owed, replayed, refused or "")
    return [outcome for outcome in outcomes if outcome is not None]


@retried
def hold(
    customer_id: int,
    *,
    key: str,
    amount: Decimal,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    expires_at: datetime | None = None,
    meter_id: int | None = None,
    project_id: int | None = None,
    subscription_id: int | None = None,
    overage_policy: str = OveragePolicy.BLOCK,
    debt_limit: Decimal = Decimal(0),
) -> Held:
    """Reserve credits until `expires_at`, a day by default; then the hold lapses by itself.

    The parts are pinned per grant in today's burn order and outlive the grant's expiry. Under
    block everything must be covered, else InsufficientCredit.
    """
    row = _call(
        "ledger_hold",
        customer_id,
        key,
        amount,
        at,
        expires_at or at + HOLD_LASTS,
        meter_id,
        project_id,
        subscription_id,
        overage_policy,
        debt_limit,
        actor,
        reason,
        request_id,
    )
    return Held(*row)


@retried
def settle(
    customer_id: int,
    *,
    key: str,
    hold_id: int,
    amount: Decimal,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    booked_at: datetime | None = None,
) -> Settled:
    """Spend what a job really used and end its hold.

    Up to what is pinned comes from the pins, the rest of them is released; more than that is paid
    from today's grants and then by the hold's overage policy. Raises IllegalTransition for a hold
    that is over, also when its time limit has just passed. For nothing used, call `release`.
    """
    row = _call(
        "ledger_settle",
        customer_id,
        key,
        hold_id,
        amount,
        at,
        booked_at,
        actor,
        reason,
        request_id,
    )
    return Settled(*row)


@retried
def release(
    customer_id: int,
    *,
    key: str,
    hold_id: int,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    booked_at: datetime | None = None,
) -> Moved:
    """Give a hold back. Released or lapsed already is a no-op; settled is an IllegalTransition."""
    row = _call(
        "ledger_release", customer_id, key, hold_id, at, booked_at, actor, reason, request_id
    )
    return Moved(*row)


@retried
def void(
    customer_id: int,
    *,
    key: str,
    grant_id: int,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    amount: Decimal | None = None,
    booked_at: datetime | None = None,
) -> Moved:
    """Take back the unheld rest of a grant, or `amount` of it.

    A grant that is void already is a no-op; one that is used up, expired or wholly held is refused
    with IllegalTransition.
    """
    row = _call(
        "ledger_void",
        customer_id,
        key,
        grant_id,
        amount,
        at,
        booked_at,
        actor,
        reason,
        request_id,
    )
    return Moved(*row)


@retried
def reverse(
    customer_id: int,
    *,
    key: str,
    entry_id: int,
    at: datetime,
    actor: str,
    reason: str,
    request_id: str,
    amount: Decimal | None = None,
    booked_at: datetime | None = None,
) -> Moved:
    """Give back what a spend, settle or debt entry used, all of it or `amount`.

    Credits return to the same grants in reverse order; to an expired or voided grant they end at
    once. Raises IllegalTransition when less than that is left to give back.
    """
    row = _call(
        "ledger_reverse",
        customer_id,
        key,
        entry_id,
        amount,
        at,
        booked_at,
        actor,
        reason,
        request_id,
    )
    return Moved(*row)


@retried
def expire(customer_id: int, *, at: datetime, request_id: str) -> CaughtUp:
    """Bring one customer up to `at`: lapsed grants expire, lapsed holds are released."""
    return CaughtUp(*_call("ledger_expire", customer_id, at, request_id))


@retried
def sweep(*, at: datetime, limit: int, request_id: str) -> int:
    """Bring up to `limit` due customers up to `at`; returns how many, 0 when none is left.

    Customers another transaction is working on are skipped, so any number of sweeps may run.
    """
    (done,) = _call("ledger_sweep", at, limit, request_id)
    return int(done)


def _grant_row(new: NewGrant) -> tuple[Any, ...]:
    return (
        new.customer_id,
        new.key,
        str(new.kind),
        new.amount,
        new.at,
        new.effective_at,
        new.expires_at,
        new.priority,
        new.label,
        new.subscription_id,
        new.parent_id,
        new.booked_at,
    )


def _use_row(use: Use) -> tuple[Any, ...]:
    return (
        use.customer_id,
        use.key,
        use.amount,
        use.at,
        use.meter_id,
        use.project_id,
        use.subscription_id,
        str(use.overage_policy),
        use.debt_limit,
        use.booked_at,
    )


def _ids(values: Sequence[int] | None) -> list[int] | None:
    return sorted(values) if values else None


# Casts, because a bare NULL or a small integer would not find the door's signature. The SQL is
# made of these constants alone.
_CASTS = {
    "ledger_grant": "bigint text text numeric timestamptz timestamptz timestamptz integer text"
    " bigint[] bigint[] bigint bigint bigint numeric text text timestamptz text text text",
    "ledger_spend": "bigint text numeric timestamptz bigint bigint bigint text numeric timestamptz"
    " text text text",
    "ledger_hold": "bigint text numeric timestamptz timestamptz bigint bigint bigint text numeric"
    " text text text",
    "ledger_settle": "bigint text bigint numeric timestamptz timestamptz text text text",
    "ledger_release": "bigint text bigint timestamptz timestamptz text text text",
    "ledger_void": "bigint text bigint numeric timestamptz timestamptz text text text",
    "ledger_reverse": "bigint text bigint numeric timestamptz timestamptz text text text",
    "ledger_expire": "bigint timestamptz text",
    "ledger_sweep": "timestamptz integer text",
}
_CALLS = {
    door: f"SELECT * FROM {door}({', '.join(f'%s::{cast}' for cast in casts.split())})"  # noqa: S608  # nosec B608
    for door, casts in _CASTS.items()
}


def _call(door: str, *arguments: Any) -> tuple[Any, ...]:
    (row,) = _rows(_CALLS[door], arguments)
    return row


def _rows(sql: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
    try:
        with _cursor() as cursor:
            cursor.execute(sql, arguments)
            return cursor.fetchall()
    except DatabaseError as error:
        _refuse(error)


def _cursor() -> CursorWrapper:
    """Django's cursor, but bound and prepared in the server.

    Django writes the values into the text, and the server reads and plans that text anew for each
    call: a fifth of a debit's time.
    """
    connection.ensure_connection()
    bound: Any = ServerBindingCursor  # its stub knows no constructor
    cursor = bound(connection.connection)
    if connection.queries_logged:
        return connection.make_debug_cursor(cursor)
    return connection.make_cursor(cursor)


def _refuse(error: DatabaseError) -> NoReturn:
    """Say a door's refusal in the words of `billing.errors`; anything else goes on as it came."""
    state = sqlstate(error)
    if not state.startswith("KT"):
        raise error
    cause: Any = error.__cause__
    detail = json.loads(cause.diag.message_detail or "{}")
    if state == "KT001":
        raise InsufficientCredit(
            customer_id=detail["customer_id"],
            needed=Decimal(detail["needed"]),
            available=Decimal(detail["available"]),
        ) from error
    if state == "KT002":
        raise IdempotencyConflict(cause.diag.message_primary) from error
    if state == "KT003":
        raise IllegalTransition(**detail) from error
    raise BillingError(cause.diag.message_primary) from error
