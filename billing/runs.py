"""Invoice runs: a batch as an object, worked off in chunks under leases kept in PostgreSQL.

A message is only a nudge: `advance` takes whatever work the rows say is open. A worker that dies
costs the time until its lease ends, never an invoice; a customer that cannot be billed is set
aside with its reason while the others go on.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Count, F, Max, Q, QuerySet, Sum

from billing import approvals, audit, invoicing
from billing.errors import BillingError, IllegalTransition, MissingData, NotPermitted
from billing.failpoints import failpoint
from billing.models import (
    Approval,
    ApprovalDecision,
    Customer,
    Invoice,
    InvoiceDocument,
    InvoiceRun,
    LegalEntity,
    RunItem,
)
from billing.rules import states
from billing.rules.zones import begins
from billing.transactions import retried, sqlstate

log = logging.getLogger(__name__)

CHUNK: Final = 1000
ATTEMPTS_MAX: Final = 3
WORKING: Final = (
    InvoiceRun.State.DRAFTING,
    InvoiceRun.State.ISSUING,
    InvoiceRun.State.DELIVERING,
)
State = InvoiceRun.State


@transaction.atomic
def plan(
    *,
    legal_entity_id: int,
    period_from: date,
    period_to: date,
    author_id: int,
    plan_id: int | None = None,
    issue_on: date | None = None,
) -> InvoiceRun:
    """The run of one seller for the days `[period_from, period_to)`, made on first asking.

    A second click, a second clock or a repeated message gets the same run.
    Raises MissingData for an empty period.
    """
    if period_to <= period_from:
        raise MissingData("The period of a run ends after it starts.")
    entity = LegalEntity.objects.get(pk=legal_entity_id)
    run, is_new = InvoiceRun.objects.get_or_create(
        scope_key=f"{entity.code}:{period_from}:{period_to}:{plan_id or 'all'}",
        defaults={
            "legal_entity": entity,
            "plan_id": plan_id,
            "period": (period_from, period_to),
            "issue_on": issue_on,
            "author_id": author_id,
        },
    )
    if is_new:
        audit.record("run planned", subject=f"run:{run.pk}", actor_id=author_id)
        run.refresh_from_db()
    return run


@transaction.atomic
def start(run_id: int, *, at: datetime, actor_id: int | None = None) -> None:
    """List the customers of the run and begin to draft. Starting again adds nothing."""
    run = _lock(run_id)
    if run.state != State.PLANNED:
        return
    _must_be_over(run, at)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_runitem (run_id, customer_id, state, reason, attempts)
            SELECT %s, customer.id, 'waiting', '', 0
            FROM billing_customer customer
            WHERE customer.legal_entity_id = %s AND EXISTS (
                SELECT 1 FROM billing_subscription s
                JOIN billing_planversion v ON v.id = s.plan_version_id
                WHERE s.customer_id = customer.id AND s.started_on < %s
                  AND (%s::bigint IS NULL OR v.plan_id = %s))
            ORDER BY customer.id
            ON CONFLICT (run_id, customer_id) DO NOTHING
            """,
            [run.pk, run.legal_entity_id, run.period.upper, run.plan_id, run.plan_id],
        )
    _move(run, State.DRAFTING, actor_id=actor_id)
    InvoiceRun.objects.filter(pk=run.pk).update(started_at=at)


def _must_be_over(run: InvoiceRun, at: datetime) -> None:
    """Use can still happen in a period that is not over, and would never be billed."""
    zones = (
        Customer.objects.filter(legal_entity_id=run.legal_entity_id)
        .values_list("time_zone", flat=True)
        .distinct()
        .order_by()
    )
    known = available_timezones()  # an unknown zone sets its customer aside later, with a reason
    over_at = max((begins(run.period.upper, zone) for zone in zones if zone in known), default=None)
    if over_at is not None and at < over_at:
        raise MissingData(
            f"The period ends on {run.period.upper}, in the last of the customers' time zones at "
            f"{over_at:%Y-%m-%d %H:%M} UTC. Start the run then: use until then belongs to it."
        )


def advance(run_id: int, *, at: datetime, chunk: int = CHUNK) -> bool:
    """Do one chunk of whatever the run needs; True when there may be more to do at once.

    Any number of workers may call this at the same time.
    """
    run = InvoiceRun.objects.select_related("legal_entity").get(pk=run_id)
    if run.state == State.DRAFTING:
        return _work(run, RunItem.State.WAITING, _draft, at, chunk) or _drafted(run_id, at)
    if run.state == State.ISSUING and not _is_early(run, at):
        return _work(run, RunItem.State.DRAFTED, _issue, at, chunk) or _issued(run_id)
    if run.state == State.DELIVERING:
        _delivered(run_id, at)
    return False


@transaction.atomic
def approve(run_id: int, *, by_id: int, at: datetime, reason: str = "") -> None:
    """Approve every draft of a run in review.

    Raises NotPermitted for the author and IllegalTransition outside review.
    """
    run = _lock(run_id)
    _must(run, State.APPROVED)
    if run.author_id == by_id:
        raise NotPermitted("Another person must approve this run: its author cannot.")
    approval = _open_request(run)
    approvals.decide(approval.pk, decided_by_id=by_id, is_approved=True, reason=reason)
    invoicing.approve_many(
        list(
            RunItem.objects.filter(run=run, state=RunItem.State.DRAFTED).values_list(
                "invoice_id", flat=True
            )
        ),
        approved_by_id=by_id,
    )
    InvoiceRun.objects.filter(pk=run.pk).update(
        state=State.APPROVED, approved_by_id=by_id, approved_at=at
    )
    audit.record("run approved", subject=f"run:{run.pk}", actor_id=by_id, reason=reason)


@transaction.atomic
def issue(run_id: int, *, actor_id: int | None) -> None:
    """Begin to number and freeze the approved invoices. Again is a no-op while it is under way.

    A run whose invoice date is still to come waits for it.
    """
    run = _lock(run_id)
    if run.state in (State.ISSUING, State.DELIVERING):
        return
    _move(run, State.ISSUING, actor_id=actor_id)


@transaction.atomic
def stop(run_id: int, *, actor_id: int, reason: str) -> None:
    """Halt a run after the chunk in hand; nothing is undone. `resume` goes on where it was."""
    run = _lock(run_id)
    if run.state == State.STOPPED:
        return
    before = run.state
    _move(run, State.STOPPED, actor_id=actor_id, reason=reason)
    InvoiceRun.objects.filter(pk=run.pk).update(resume_state=before)


@transaction.atomic
def resume(run_id: int, *, actor_id: int) -> None:
    """Go on with a stopped run."""
    run = _lock(run_id)
    if run.state != State.STOPPED:
        raise IllegalTransition(subject="The run", state=run.get_state_display(), target="resumed")
    _move(run, State(run.resume_state), actor_id=actor_id)
    InvoiceRun.objects.filter(pk=run.pk).update(resume_state="")


@transaction.atomic
def retry_failed(run_id: int, *, actor_id: int) -> int:
    """Take up the customers set aside, and only those; returns how many.

    Drafts already approved go on to be issued, unless the customer's tax treatment has changed;
    those and the others are drafted and reviewed again.
    Raises IllegalTransition for a stopped run: resume it first.
    """
    run = _lock(run_id)
    if run.state == State.STOPPED:
        raise IllegalTransition(subject="The run", state=run.get_state_display(), target="retried")
    parked = RunItem.objects.filter(run=run, state=RunItem.State.PARKED)
    _discard_outdated(run, parked, actor_id)
    fresh = {"attempts": 0, "lease_until": None, "reason": ""}
    to_issue = parked.filter(invoice__state=Invoice.State.APPROVED).update(
        state=RunItem.State.DRAFTED, **fresh
    )
    to_draft = parked.filter(invoice__isnull=True).update(state=RunItem.State.WAITING, **fresh)
    if not to_issue and not to_draft:
        return 0
    before = run.state
    target = State.DRAFTING if to_draft else State.ISSUING
    InvoiceRun.objects.filter(pk=run.pk).update(state=target, finished_at=None)
    audit.record(
        "run retried",
        subject=f"run:{run.pk}",
        actor_id=actor_id,
        before={"state": before},
        after={"state": target.value, "customers": to_issue + to_draft},
    )
    return to_issue + to_draft


def _discard_outdated(run: InvoiceRun, parked: QuerySet[RunItem], actor_id: int | None) -> None:
    """Take back the drafts of set-aside customers that cannot be issued as they stand."""
    drafts = Invoice.objects.filter(
        run_item__in=parked, state__in=("draft", "in_review", "approved")
    ).select_related("customer")
    outdated = [
        draft.pk
        for draft in drafts.prefetch_related("taxes")
        if draft.state != Invoice.State.APPROVED
        or invoicing.treatment_changes(draft, run.legal_entity, list(draft.taxes.all()))
    ]
    invoicing.discard_many(outdated, actor_id=actor_id, reason="drafted again by the run")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; counts are customers, documents are files."""

    state: str
    customers: int
    waiting: int
    drafted: int
    issued: int
    nothing: int
    parked: int
    documents: int
    documents_ready: int
    documents_parked: int
    per_second: Decimal | None  # customers in the present step
    seconds_left: int | None

    @property
    def share_done(self) -> int:
        """Percent of the present step."""
        if self.state == State.DELIVERING and self.documents:
            return 100 * (self.documents_ready + self.documents_parked) // self.documents
        if self.state == State.ISSUING:
            whole = self.issued + self.drafted
            return 100 * self.issued // whole if whole else 100
        if self.state == State.DRAFTING:
            return (
                100 * (self.customers - self.waiting) // self.customers if self.customers else 100
            )
        return 100 if self.state in (State.DONE, State.IN_REVIEW, State.APPROVED) else 0


def progress(run_id: int) -> Progress:
    """Counts of a run, its speed over the present step and the time left; two queries."""
    run = InvoiceRun.objects.get(pk=run_id)
    item = RunItem.State
    counts = RunItem.objects.filter(run_id=run_id).aggregate(
        customers=Count("pk"),
        **{
            state.value: Count("pk", filter=Q(state=state))
            for state in (item.WAITING, item.DRAFTED, item.ISSUED, item.NOTHING, item.PARKED)
        },
        last=Max("updated_at", filter=~Q(state=item.WAITING)),
    )
    documents = InvoiceDocument.objects.filter(invoice__run_id=run_id).aggregate(
        documents=Count("pk"),
        documents_ready=Count("pk", filter=Q(state=InvoiceDocument.State.READY)),
        documents_parked=Count("pk", filter=Q(state=InvoiceDocument.State.PARKED)),
    )
    first, last = run.started_at, counts.pop("last")
    speed = None
    left = None
    worked = counts["customers"] - counts["waiting"]
    if first and last and last > first:
        speed = Decimal(worked) / Decimal(str((last - first).total_seconds()))
        todo = counts["waiting"] if run.state == State.DRAFTING else counts["drafted"]
        left = int(todo / speed) if speed and run.state in WORKING else None
    return Progress(state=run.state, **counts, **documents, per_second=speed, seconds_left=left)


def totals(run_id: int) -> list[tuple[str, int, Decimal, Decimal, Decimal]]:
    """(currency, invoices, net, VAT, total) of a run's invoices, one row a currency."""
    return [
        (row["currency"], row["invoices"], row["net"], row["tax"], row["gross"])
        for row in Invoice.objects.filter(run_id=run_id)
        .values("currency")
        .annotate(
            invoices=Count("pk"),
            net=Sum("net", default=0),
            tax=Sum("tax", default=0),
            gross=Sum("gross", default=0),
        )
        .order_by("currency")
    ]


def active_ids() -> list[int]:
    """Runs with work to do, oldest first."""
    return list(
        InvoiceRun.objects.filter(state__in=WORKING).order_by("pk").values_list("pk", flat=True)
    )


# --- one chunk -------------------------------------------------------------------------------


Act = Callable[[InvoiceRun, Sequence[RunItem], datetime], None]


def _work(run: InvoiceRun, state: RunItem.State, act: Act, at: datetime, chunk: int) -> bool:
    """Claim a chunk and do it; False when there was nothing to claim."""
    claimed = _claim(run.pk, state, at, chunk)
    if claimed is None:
        return False
    failpoint("run.after_claim")
    try:
        _do(run, claimed, state, act, at)
    except (OperationalError, InterfaceError):
        _give_back(claimed, state, at)
        raise
    failpoint("run.after_chunk")
    return True


def _do(
    run: InvoiceRun, item_ids: Sequence[int], state: RunItem.State, act: Act, at: datetime
) -> None:
    """Do some items in one transaction; on a failure do each half, down to the culprit.

    A failure of the database itself is nobody's fault: it goes on to the caller.
    """
    if not item_ids:
        return
    try:
        _act(run, item_ids, state, act, at)
    except Exception as failure:
        if _is_passing(failure):
            raise
        if len(item_ids) == 1:
            _park(item_ids[0], state, failure)
            return
        log.warning("run %s: %s customers failed together: %s", run.pk, len(item_ids), failure)
        half = len(item_ids) // 2
        _do(run, item_ids[:half], state, act, at)
        _do(run, item_ids[half:], state, act, at)


def _give_back(item_ids: Sequence[int], state: RunItem.State, at: datetime) -> None:
    """Undo a claim the database cut short, so that it does not count against the customers.

    Without a database their lease ends by itself.
    """
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    with suppress(DatabaseError):
        RunItem.objects.filter(
            pk__in=item_ids, state=state, lease_until=_lease_until(at), attempts__gt=0
        ).update(lease_until=None, attempts=F("attempts") - 1)


@retried
def _act(
    run: InvoiceRun, item_ids: Sequence[int], state: RunItem.State, act: Act, at: datetime
) -> None:
    with transaction.atomic():
        act(run, _still_ours(item_ids, state), at)


def _is_passing(failure: Exception) -> bool:
    """Whether the database, and not an item's data, is why it failed."""
    if isinstance(failure, InterfaceError):
        return True
    state = sqlstate(failure)
    # No state: the connection is gone. 08 connection, 40 restart, 53 resources, 57P shutdown,
    # 55P03 somebody held a lock for too long.
    passing = not state or state[:2] in {"08", "40", "53"} or state[:3] == "57P"
    return isinstance(failure, OperationalError) and (passing or state == "55P03")


def _claim(run_id: int, state: RunItem.State, at: datetime, chunk: int) -> list[int] | None:
    """Lease open items, None when there are none: fresh ones in bulk, then those of a worker
    that died, in ever smaller lots, so that the one that kills it is found and set aside.

    The claim commits by itself, so that attempts are counted even when the worker is killed.
    """
    for tried, limit in (((0, 0), chunk), ((1, 1), max(chunk // 20, 1)), ((2, 32767), 1)):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                """
                UPDATE billing_runitem SET lease_until = %s, attempts = attempts + 1
                WHERE id IN (
                    SELECT id FROM billing_runitem
                    WHERE run_id = %s AND state = %s AND attempts BETWEEN %s AND %s
                      AND (lease_until IS NULL OR lease_until < %s)
                    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
                RETURNING id, attempts
                """,
                [_lease_until(at), run_id, state.value, *tried, at, limit],
            )
            rows = cursor.fetchall()
        for item_id, attempts in rows:
            if attempts > ATTEMPTS_MAX:
                tired = BillingError("It stopped the worker three times; look at its data.")
                _park(item_id, state, tired)
        if rows:
            return sorted(item_id for item_id, attempts in rows if attempts <= ATTEMPTS_MAX)
    return None


def _lease_until(at: datetime) -> datetime:
    return at + timedelta(seconds=settings.RUN_LEASE_SECONDS)


def _still_ours(item_ids: Sequence[int], state: RunItem.State) -> list[RunItem]:
    """The claimed items under lock, less those another worker finished after our lease ended."""
    return list(
        RunItem.objects.select_for_update().filter(pk__in=item_ids, state=state).order_by("pk")
    )


def _draft(run: InvoiceRun, items: Sequence[RunItem], at: datetime) -> None:
    outcomes = invoicing.draft_many(
        [item.customer_id for item in items],
        legal_entity_id=run.legal_entity_id,
        through=run.period.upper,
        issue_on=run.issue_on or run.period.upper,
        key_prefix=f"run:{run.pk}",
        run_id=run.pk,
        plan_id=run.plan_id,
        created_by_id=run.author_id,
    )
    _save(
        [
            (item.pk, outcome.state, outcome.reason, outcome.invoice_id)
            for item, outcome in zip(items, outcomes, strict=True)
        ],
    )
    failpoint("draft.before_commit")


def _issue(run: InvoiceRun, items: Sequence[RunItem], at: datetime) -> None:
    invoicing.issue_many(
        [item.invoice_id for item in items if item.invoice_id],
        at=at,
        issue_on=_issue_day(run),
        actor_id=run.approved_by_id,
        document_priority=50,
    )
    _save(
        [
            (item.pk, RunItem.State.ISSUED.value, "", item.invoice_id)
            if item.invoice_id
            else (item.pk, RunItem.State.NOTHING.value, "Its draft was discarded.", None)
            for item in items
        ]
    )
    failpoint("issue.before_commit")


def _issue_day(run: InvoiceRun) -> date | None:
    """The day asked for, or the latest the series has given since: dates only run forward."""
    if run.issue_on is None:
        return None
    last_on = invoicing.last_issue(run.legal_entity_id, Invoice.Kind.INVOICE.value)
    return max(run.issue_on, last_on or run.issue_on)


def _is_early(run: InvoiceRun, at: datetime) -> bool:
    """Whether the day its invoices are to carry has not come yet where the seller is."""
    today = at.astimezone(ZoneInfo(run.legal_entity.time_zone)).date()
    return run.issue_on is not None and run.issue_on > today


def _save(rows: Sequence[tuple[int, str, str, int | None]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE billing_runitem AS item
            SET state = fresh.state, reason = fresh.reason, invoice_id = fresh.invoice_id,
                attempts = 0, lease_until = NULL, updated_at = clock_timestamp()
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[])
                 AS fresh (id, state, reason, invoice_id)
            WHERE item.id = fresh.id
            """,
            [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], [], []],
        )


def _park(item_id: int, state: RunItem.State, failure: Exception) -> None:
    """Set a customer aside, unless another worker finished it meanwhile."""
    if isinstance(failure, BillingError):
        reason = str(failure)
    else:
        log.error("run item %s failed", item_id, exc_info=failure)
        reason = f"It could not be worked on ({type(failure).__name__}); the log has the details."
    RunItem.objects.filter(pk=item_id, state=state).update(
        state=RunItem.State.PARKED, reason=reason[:300], lease_until=None
    )


# --- the state of the run --------------------------------------------------------------------


@transaction.atomic
def _drafted(run_id: int, at: datetime) -> bool:
    """Nothing waits: on to review, or done when nobody owes anything."""
    run = _lock(run_id)
    items = RunItem.objects.filter(run=run)
    if run.state != State.DRAFTING or items.filter(state=RunItem.State.WAITING).exists():
        return False
    if not items.filter(state=RunItem.State.DRAFTED).exists():
        _move(run, State.DONE)
        InvoiceRun.objects.filter(pk=run.pk).update(finished_at=at)
        return False
    _move(run, State.IN_REVIEW)
    _open_request(run)
    return False


@transaction.atomic
def _issued(run_id: int) -> bool:
    run = _lock(run_id)
    if run.state != State.ISSUING:
        return False
    if RunItem.objects.filter(run=run, state=RunItem.State.DRAFTED).exists():
        return False
    _move(run, State.DELIVERING)
    return False


@transaction.atomic
def _delivered(run_id: int, at: datetime) -> None:
    run = _lock(run_id)
    waiting = InvoiceDocument.objects.filter(
        invoice__run_id=run.pk, state=InvoiceDocument.State.WAITING
    )
    if run.state == State.DELIVERING and not waiting.exists():
        _move(run, State.DONE)
        InvoiceRun.objects.filter(pk=run.pk).update(finished_at=at)


def _open_request(run: InvoiceRun) -> Approval:
    """The undecided request of a run; each review after a retry asks anew."""
    decided = ApprovalDecision.objects.filter(
        approval__subject__startswith=f"run:{run.pk}:"
    ).count()
    if run.author_id is None:
        raise MissingData("A run has an author who asks for its approval.")
    return approvals.request(
        subject=f"run:{run.pk}:{decided + 1}",
        summary=f"Issue the invoices of {run}",
        legal_entity_id=run.legal_entity_id,
        requested_by_id=run.author_id,
    )


def _lock(run_id: int) -> InvoiceRun:
    return (
        InvoiceRun.objects.select_for_update(of=("self",))
        .select_related("legal_entity")
        .get(pk=run_id)
    )


def _must(run: InvoiceRun, target: State) -> None:
    if not states.may(states.RUN, run.state, target.value):
        raise IllegalTransition(
            subject=f"The run {run}", state=run.get_state_display(), target=target.label
        )


def _move(run: InvoiceRun, target: State, *, actor_id: int | None = None, reason: str = "") -> None:
    _must(run, target)
    InvoiceRun.objects.filter(pk=run.pk).update(state=target)
    audit.record(
        "run " + target.label,
        subject=f"run:{run.pk}",
        actor_id=actor_id,
        reason=reason,
        before={"state": run.state},
        after={"state": target.value},
    )
