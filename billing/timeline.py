"""One customer's story in one line: invoices, payments and every movement of credits.

Read only, newest first, paged by a cursor instead of an offset. Days and instants stand on one
axis: what is dated by a day (an invoice, a payment) stands at the start of that day, before the
credits it brought. `available` is what the customer had after the row: the sum of all movements
into and out of the available bucket up to it, so it needs no cached figure.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final, Literal, Self

from django.db.models import Case, DecimalField, F, Q, Sum, When, Window

from billing.models import Allocation, Charge, Invoice, LedgerEntry, Payment
from billing.rules.money import plain

PAGE_ROWS: Final = 20
_ZERO: Final = Decimal(0)
_INVOICE, _PAYMENT, _LEDGER = 0, 1, 2  # order of rows that share an instant

Source = Literal["invoices", "payments", "credits"]
_Kind = LedgerEntry.Kind
_Bucket = LedgerEntry.Bucket


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The place of a row in the story; rows before it are older."""

    at: datetime
    rank: int
    row: int

    def __str__(self) -> str:
        return f"{self.at.isoformat()}_{self.rank}_{self.row}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The cursor a page was asked for with; None for anything that is not one."""
        try:
            at_text, rank, row = text.rsplit("_", 2)
            at = datetime.fromisoformat(at_text)
            return cls(at=at, rank=int(rank), row=int(row)) if at.tzinfo else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a row is about, for a link: a model's name in small letters and a primary key."""

    model: str
    pk: int


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """One thing that happened."""

    cursor: Cursor
    has_time: bool  # False: only the day is known
    kind: str  # invoice, credit_note, payment, or the kind of a ledger entry
    title: str
    note: str
    subject: Subject
    money: Decimal | None = None  # currency units
    currency: str = ""
    credits: Decimal | None = None  # signed movement of the available credits
    available: Decimal | None = None  # credits after it

    @property
    def at(self) -> datetime:
        """The instant, or the start of the day."""
        return self.cursor.at


@dataclass(frozen=True, slots=True)
class TimelinePage:
    """Some rows, newest first, and the cursor of the page after them."""

    rows: tuple[TimelineRow, ...]
    older: Cursor | None


def page(
    *,
    customer_id: int,
    before: Cursor | None = None,
    rows_max: int = PAGE_ROWS,
    only: Collection[Source] = ("invoices", "payments", "credits"),
) -> TimelinePage:
    """The newest `rows_max` rows older than `before`, in a fixed number of queries.

    only: the sources a reader may see; without "credits" no row says what was available.
    """
    wanted = rows_max + 1  # one more tells whether there is an older page
    sources: Mapping[Source, Callable[[int, Cursor | None, int], list[TimelineRow]]] = {
        "invoices": _invoices,
        "payments": _payments,
        "credits": _movements,
    }
    found = [row for name in only for row in sources[name](customer_id, before, wanted)]
    found.sort(key=lambda row: row.cursor, reverse=True)
    shown = (_with_available(found) if "credits" in only else found)[:rows_max]
    has_older = len(found) > rows_max
    return TimelinePage(rows=tuple(shown), older=shown[-1].cursor if has_older else None)


def _with_available(rows: list[TimelineRow]) -> list[TimelineRow]:
    """Give invoices and payments the credits of the movement just before them."""
    available = _ZERO
    filled = []
    for row in reversed(rows):
        available = available if row.available is None else row.available
        filled.append(replace(row, available=available))
    return filled[::-1]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _days_before(field: str, rank: int, before: Cursor | None) -> Q:
    """Rows dated by a day that are older than the cursor."""
    if before is None:
        return Q()
    at = before.at.astimezone(UTC)
    day = at.date()
    if at > _midnight(day) or rank < before.rank:
        return Q(**{f"{field}__lte": day})
    if rank == before.rank:
        return Q(**{f"{field}__lt": day}) | Q(**{field: day}, pk__lt=before.row)
    return Q(**{f"{field}__lt": day})


def _invoices(customer_id: int, before: Cursor | None, rows_max: int) -> list[TimelineRow]:
    invoices = (
        Invoice.objects.filter(
            _days_before("issued_on", _INVOICE, before),
            customer_id=customer_id,
            issued_on__isnull=False,
        )
        .order_by("-issued_on", "-pk")
        .only("kind", "number", "issued_on", "due_on", "payable", "currency", "state")[:rows_max]
    )
    return [_invoice_row(invoice, invoice.issued_on) for invoice in invoices if invoice.issued_on]


def _invoice_row(invoice: Invoice, issued_on: date) -> TimelineRow:
    is_note = invoice.kind == Invoice.Kind.CREDIT_NOTE
    note = f"Due {invoice.due_on:%-d %B %Y}" if invoice.due_on and not is_note else ""
    if invoice.state == Invoice.State.VOID:
        note = "Void: credited in full"
    return TimelineRow(
        cursor=Cursor(_midnight(issued_on), _INVOICE, invoice.pk),
        has_time=False,
        kind=invoice.kind,
        title=f"{invoice.number} issued",
        note=note,
        subject=Subject("invoice", invoice.pk),
        money=invoice.payable,
        currency=invoice.currency,
    )


def _payments(customer_id: int, before: Cursor | None, rows_max: int) -> list[TimelineRow]:
    payments = list(
        Payment.objects.filter(
            _days_before("received_on", _PAYMENT, before), customer_id=customer_id
        ).order_by("-received_on", "-pk")[:rows_max]
    )
    settled = _settled_numbers(payment.pk for payment in payments)
    return [_payment_row(payment, settled.get(payment.pk, [])) for payment in payments]


def _settled_numbers(payment_ids: Iterable[int]) -> dict[int, list[str]]:
    numbers: dict[int, list[str]] = {}
    allocations = (
        Allocation.objects.filter(payment_id__in=list(payment_ids), reversal__isnull=True)
        .filter(amount__gt=0)
        .order_by("pk")
        .values_list("payment_id", "invoice__number")
    )
    for payment_id, number in allocations:
        numbers.setdefault(payment_id, []).append(number or "")
    return numbers


def _payment_row(payment: Payment, settles: list[str]) -> TimelineRow:
    note = f"Settles {', '.join(settles)}" if settles else payment.reference
    if payment.reverses_id is not None:
        note = "Takes an earlier payment back"
    return TimelineRow(
        cursor=Cursor(_midnight(payment.received_on), _PAYMENT, payment.pk),
        has_time=False,
        kind="payment",
        title=f"Received by {payment.get_method_display()}",
        note=note,
        subject=Subject("payment", payment.pk),
        money=payment.amount,
        currency=payment.currency,
    )


# What an entry did to the available credits.
_MOVED: Final = Case(
    When(target=_Bucket.AVAILABLE, then=F("amount")),
    When(source=_Bucket.AVAILABLE, then=-F("amount")),
    default=_ZERO,
    output_field=DecimalField(max_digits=20, decimal_places=6),
)


def _movements(customer_id: int, before: Cursor | None, rows_max: int) -> list[TimelineRow]:
    entries = list(
        LedgerEntry.objects.filter(_instants_before(before), customer_id=customer_id)
        .annotate(
            moved=_MOVED,
            available_after=Window(Sum("moved"), order_by=[F("occurred_at"), F("seq")]),
        )
        .select_related("grant", "meter")
        .order_by("-occurred_at", "-seq")[:rows_max]
    )
    spends = [entry.pk for entry in entries if entry.kind in (_Kind.SPEND, _Kind.SETTLE)]
    charges = {
        charge.entry_id: charge
        for charge in Charge.objects.filter(entry_id__in=spends).select_related(
            "usage_event__meter", "price"
        )
    }
    return [_movement_row(entry, charges.get(entry.pk)) for entry in entries]


def _instants_before(before: Cursor | None) -> Q:
    if before is None:
        return Q()
    older = Q(occurred_at__lt=before.at)
    if before.rank == _LEDGER:
        older |= Q(occurred_at=before.at, seq__lt=before.row)
    return older


def _movement_row(entry: LedgerEntry, charge: Charge | None) -> TimelineRow:
    moved: Decimal = entry.moved  # type: ignore[attr-defined]
    available: Decimal = entry.available_after  # type: ignore[attr-defined]
    title, note = _movement_words(entry, charge)
    return TimelineRow(
        cursor=Cursor(entry.occurred_at, _LEDGER, entry.seq),
        has_time=True,
        kind=entry.kind,
        title=title,
        note=note,
        subject=Subject("charge", charge.pk) if charge else Subject("ledgerentry", entry.pk),
        credits=moved or None,
        available=available,
    )


def _movement_words(entry: LedgerEntry, charge: Charge | None) -> tuple[str, str]:
    if charge is not None:
        note = charge.price.label
        if charge.overage:
            note = f"{plain(charge.overage)} credits beyond what was available"
        return f"{charge.usage_event.meter.name}: {plain(charge.quantity)}", note
    if entry.grant is not None and entry.kind == _Kind.GRANT:
        expires = entry.grant.expires_at
        return str(entry.grant), f"Expires {expires:%-d %B %Y}" if expires else "Never expires"
    if entry.grant is not None and entry.kind in (_Kind.EXPIRE, _Kind.VOID):
        return str(entry.grant), entry.reason
    words = {
        _Kind.HOLD: "Held",
        _Kind.SETTLE: "Hold settled",
        _Kind.RELEASE: "Hold released",
        _Kind.REVERSE: "Given back",
        _Kind.DEBT: "Carried as debt",
        _Kind.REPAY: "Debt repaid",
        _Kind.SPEND: "Used",
    }
    subject = words.get(_Kind(entry.kind), entry.get_kind_display().capitalize())
    return (f"{subject}, {entry.meter.name}" if entry.meter else subject), entry.reason
