"""The first page: what needs somebody first, then the figures, each with the way to its rows.

Every figure is a query over the rows the reader may see, in a fixed number of queries. Amounts of
different currencies are never added.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.core.cache import cache
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth
from django.urls import reverse

from billing.admin import charts
from billing.admin.scope import Scope
from billing.models import (
    Approval,
    Charge,
    CreditBalance,
    CreditGrant,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceRun,
    RunItem,
)
from billing.templatetags.billing_format import amount, count, credit_amount, day, money_places

EXPIRING_DAYS: Final = 14
MONTHS: Final = 12
RECENT_RUNS: Final = 12
CHART_SECONDS: Final = 300  # the house's charts read every row of a year, so they are kept a while
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Sums:
    """Money in one currency, ready to show."""

    currency: str
    text: str


@dataclass(frozen=True, slots=True)
class Todo:
    """One thing that waits for a person."""

    number: int
    kind: str  # "", "warn" or "bad"
    title: str
    note: str
    url: str
    button: str
    sums: Sequence[Sums] = ()


@dataclass(frozen=True, slots=True)
class Kpi:
    """One key figure; `currency` is empty for credits and counts."""

    title: str
    value: str
    currency: str
    note: str
    url: str = ""
    more: Sequence[Sums] = ()


@dataclass(frozen=True, slots=True)
class Ages:
    """What is outstanding in one currency, by how late it is."""

    currency: str
    total: str
    parts: Sequence[charts.Part]
    text: str
    legend: Sequence[tuple[str, str, str]]


@dataclass(slots=True)
class Dashboard:
    """Everything the first page shows."""

    todo: list[Todo] = field(default_factory=list)
    kpis: list[Kpi] = field(default_factory=list)
    ages: list[Ages] = field(default_factory=list)
    columns: list[charts.Chart] = field(default_factory=list)
    runs: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """How many kinds of things wait."""
        return len(self.todo)


def build(scope: Scope, *, at: datetime) -> Dashboard:
    """The dashboard of one reader."""
    today = at.date()
    ages = _ages(scope, today)
    board = Dashboard()
    board.todo = [
        *_runs_todo(scope),
        *_invoices_todo(scope),
        *_overdue_todo(scope, today),
        *_documents_todo(scope),
        *_approvals_todo(scope),
        *_expiring_todo(scope, at),
    ]
    board.kpis = [
        *_outstanding_kpis(ages),
        _invoiced_kpi(scope, today),
        _credits_kpi(scope),
    ]
    board.ages = [_age_bar(currency, sums) for currency, sums in ages.items()]
    board.columns = _charts(scope, today)
    board.runs = _runs(scope)
    return board


def _list(model: str, query: str = "") -> str:
    return reverse(f"admin:billing_{model}_changelist") + (f"?{query}" if query else "")


def _sums(rows: Sequence[dict[str, Any]]) -> list[Sums]:
    ordered = sorted(rows, key=lambda row: -row["total"])
    return [Sums(row["currency"], amount(row["total"], row["currency"])) for row in ordered[:3]]


def _by_currency(queryset: QuerySet[Any], name: str) -> list[dict[str, Any]]:
    rows = queryset.order_by().values("currency").annotate(total=Sum(name), number=Count("pk"))
    return list(rows)


# --- What needs somebody -----------------------------------------------------------------------


def _runs_todo(scope: Scope) -> list[Todo]:
    if not scope.sees_runs:
        return []
    found = []
    waiting = list(
        InvoiceRun.objects.filter(state=InvoiceRun.State.IN_REVIEW).select_related("legal_entity")[
            :20
        ]
    )
    if waiting:
        only = waiting[0]
        found.append(
            Todo(
                number=len(waiting),
                kind="warn",
                title=f"Run to approve: {only}" if len(waiting) == 1 else "Runs to approve",
                note="Nothing is issued before another person has approved it.",
                url=reverse("admin:billing_invoicerun_change", args=[only.pk])
                if len(waiting) == 1
                else _list("invoicerun", "state__exact=in_review"),
                button="Review",
            )
        )
    parked = (
        RunItem.objects.filter(run_id__in=_recent_runs(), state=RunItem.State.PARKED)
        .order_by()
        .aggregate(number=Count("pk"), run=Max("run_id"))
    )
    if parked["number"]:
        found.append(
            Todo(
                number=parked["number"],
                kind="bad",
                title="Customers set aside by a run",
                note="Each names its reason and the place that mends it.",
                url=reverse("admin:billing_invoicerun_change", args=[parked["run"]]),
                button="Mend",
            )
        )
    return found


def _recent_runs() -> list[int]:
    """Only the latest runs are asked for what they set aside; older ones are history."""
    return list(InvoiceRun.objects.order_by("-pk").values_list("pk", flat=True)[:RECENT_RUNS])


def _invoices_todo(scope: Scope) -> list[Todo]:
    if not scope.holds("approve", "draft_invoices", "issue_invoices"):
        return []
    states = (Invoice.State.DRAFT, Invoice.State.IN_REVIEW)
    drafts = scope.limit(Invoice.objects.filter(state__in=states), "view_invoices")
    rows = _by_currency(drafts, "payable")
    number = sum(row["number"] for row in rows)
    if not number:
        return []
    oldest = drafts.order_by().aggregate(oldest=Min("created_at"))["oldest"]
    return [
        Todo(
            number=number,
            kind="",
            title="Invoices to approve",
            note=f"The oldest waits since {day(oldest)}.",
            url=_list("invoice", "view=to_approve"),
            button="Review",
            sums=_sums(rows),
        )
    ]


def _overdue_todo(scope: Scope, today: date) -> list[Todo]:
    late = scope.limit(InvoiceBalance.objects.filter(due__gt=0, due_on__lt=today), "view_invoices")
    rows = _by_currency(late, "due")
    number = sum(row["number"] for row in rows)
    if not number:
        return []
    month_late = late.filter(due_on__lt=today - timedelta(days=30)).count()
    return [
        Todo(
            number=number,
            kind="bad",
            title="Invoices overdue",
            note=f"{count(month_late)} of them more than 30 days late."
            if month_late
            else "None is more than 30 days late.",
            url=_list("invoice", "view=overdue"),
            button="Look",
            sums=_sums(rows),
        )
    ]


def _documents_todo(scope: Scope) -> list[Todo]:
    documents = scope.limit(
        InvoiceDocument.objects.exclude(state=InvoiceDocument.State.READY), "view_invoices"
    )
    figures = documents.order_by().aggregate(
        waiting=Count("pk", filter=Q(state=InvoiceDocument.State.WAITING)),
        parked=Count("pk", filter=Q(state=InvoiceDocument.State.PARKED)),
    )
    found = []
    if figures["parked"]:
        found.append(
            Todo(
                number=figures["parked"],
                kind="bad",
                title="PDFs that could not be made",
                note="Each names its reason.",
                url=_list("invoicedocument", "state__exact=parked"),
                button="Look",
            )
        )
    if figures["waiting"]:
        found.append(
            Todo(
                number=figures["waiting"],
                kind="",
                title="PDFs still to be made",
                note="They are made in the background; nobody has to wait here.",
                url=_list("invoicedocument", "state__exact=waiting"),
                button="Look",
            )
        )
    return found


def _approvals_todo(scope: Scope) -> list[Todo]:
    number = scope.limit(Approval.objects.filter(decision__isnull=True), "approve").count()
    if not number:
        return []
    return [
        Todo(
            number=number,
            kind="warn",
            title="Requests that wait for a decision",
            note="Nobody decides on their own request.",
            url=_list("approval"),
            button="Decide",
        )
    ]


def _expiring_todo(scope: Scope, at: datetime) -> list[Todo]:
    until = at + timedelta(days=EXPIRING_DAYS)
    figures = (
        scope.limit(
            CreditGrant.objects.filter(is_open=True, expires_at__gt=at, expires_at__lte=until),
            "view_credits",
        )
        .order_by()
        .aggregate(
            number=Count("pk"), left=Sum("remaining"), customers=Count("customer", distinct=True)
        )
    )
    if not figures["number"]:
        return []
    who = charts.people_count(figures["customers"], "customer", "customers")
    return [
        Todo(
            number=figures["number"],
            kind="",
            title=f"Credit grants that expire by {until.day} {until:%B}",
            note=f"{credit_amount(figures['left'])} credits at {who}.",
            url=_list("creditgrant", "view=expiring"),
            button="Look",
        )
    ]


# --- Figures -----------------------------------------------------------------------------------

_AGES: Final = (
    ("b0", "Not due yet", None, 0),
    ("b1", "1–30 days", 0, 30),
    ("b2", "31–60 days", 30, 60),
    ("b3", "61–90 days", 60, 90),
    ("b4", "Over 90 days", 90, None),
)


def _ages(scope: Scope, today: date) -> dict[str, list[tuple[Decimal, int]]]:
    """Currency to (amount, invoices) in each age, the biggest currency first."""
    sums: dict[str, Sum | Count] = {}
    for css, _, later_than, at_most in _AGES:
        late = Q()
        if later_than is not None:
            late &= Q(due_on__lt=today - timedelta(days=later_than))
        if at_most is not None:
            late &= Q(due_on__gte=today - timedelta(days=at_most))
        sums[css] = Sum("due", filter=late, default=_ZERO)
        sums[f"{css}_number"] = Count("pk", filter=late)
    rows: Any = (
        scope.limit(InvoiceBalance.objects.filter(due__gt=0), "view_invoices")
        .order_by()
        .values("currency")
        .annotate(total=Sum("due"), **sums)
        .order_by("-total")
    )
    return {
        row["currency"]: [(row[css], row[f"{css}_number"]) for css, *_ in _AGES] for row in rows
    }


def _age_bar(currency: str, sums: Sequence[tuple[Decimal, int]]) -> Ages:
    described = [
        (css, label, value, amount(value, currency))
        for (css, label, *_), (value, _) in zip(_AGES, sums, strict=True)
    ]
    total = sum((value for value, _ in sums), _ZERO)
    return Ages(
        currency=currency,
        total=amount(total, currency),
        parts=charts.bar(described),
        text=", ".join(f"{label} {text}" for _, label, _, text in described),
        legend=[(css, label, text) for css, label, _, text in described],
    )


def _outstanding_kpis(ages: dict[str, list[tuple[Decimal, int]]]) -> list[Kpi]:
    totals = {currency: sum((v for v, _ in sums), _ZERO) for currency, sums in ages.items()}
    late = {currency: sum((v for v, _ in sums[1:]), _ZERO) for currency, sums in ages.items()}
    invoices = sum(number for sums in ages.values() for _, number in sums)
    late_invoices = sum(number for sums in ages.values() for _, number in sums[1:])
    return [
        _money_kpi(
            "Outstanding",
            totals,
            charts.people_count(invoices, "invoice", "invoices"),
            _list("invoice", "view=open"),
        ),
        _money_kpi(
            "Overdue",
            late,
            charts.people_count(late_invoices, "invoice", "invoices"),
            _list("invoice", "view=overdue"),
        ),
    ]


def _money_kpi(title: str, totals: dict[str, Decimal], note: str, url: str = "") -> Kpi:
    """The biggest currency as the figure, the others beside it; they are never added."""
    ordered = sorted(totals.items(), key=lambda item: -item[1])
    first = ordered[0] if ordered else ("", _ZERO)
    others = [Sums(code, amount(value, code)) for code, value in ordered[1:] if value]
    more = f", and {charts.people_count(len(others), 'currency', 'currencies')} more"
    return Kpi(
        title=title,
        value=amount(first[1], first[0]) if first[0] else "0.00",
        currency=first[0],
        note=note + (more if others else ""),
        url=url,
        more=others,
    )


def _invoiced_kpi(scope: Scope, today: date) -> Kpi:
    issued = scope.limit(
        Invoice.objects.filter(
            state=Invoice.State.ISSUED, issued_on__gte=today.replace(day=1), issued_on__lte=today
        ).exclude(kind=Invoice.Kind.CREDIT_NOTE),
        "view_invoices",
    )
    rows = _by_currency(issued, "net")
    number = sum(row["number"] for row in rows)
    return _money_kpi(
        f"Invoiced in {today:%B}",
        {row["currency"]: row["total"] for row in rows},
        f"{charts.people_count(number, 'invoice', 'invoices')}, net",
        _list("invoice", "view=this_month"),
    )


def _credits_kpi(scope: Scope) -> Kpi:
    owed = scope.limit(CreditBalance.objects.all(), "view_credits").aggregate(
        total=Sum(F("available") + F("held"), default=_ZERO)
    )["total"]
    paid = (
        scope.limit(
            CreditGrant.objects.filter(is_open=True, kind=CreditGrant.Kind.PURCHASED),
            "view_credits",
        )
        .order_by()
        .aggregate(total=Sum("remaining", default=_ZERO))["total"]
    )
    return Kpi(
        title="Credits customers still have",
        value=credit_amount(owed),
        currency="",
        note=f"{credit_amount(paid)} of them were bought",
        url=_list("creditgrant", "view=open"),
    )


# --- Charts ------------------------------------------------------------------------------------


def _month_back(month: date, months: int) -> date:
    number = month.year * 12 + month.month - 1 - months
    return date(number // 12, number % 12 + 1, 1)


def _months_to(last: date) -> list[date]:
    return [_month_back(last, back) for back in range(MONTHS - 1, -1, -1)]


def _charts(scope: Scope, today: date) -> list[charts.Chart]:
    """Both charts; those of the whole house are kept for five minutes."""

    def drawn() -> list[charts.Chart]:
        return [*_invoiced_chart(scope, today), *_used_chart(scope, today)]

    if not (scope.sees_runs and scope.covers("view_credits", None)):
        return drawn()
    return cache.get_or_set(f"house-charts-{today}", drawn, CHART_SECONDS) or []


def _invoiced_chart(scope: Scope, today: date) -> list[charts.Chart]:
    issued = scope.limit(
        Invoice.objects.filter(state=Invoice.State.ISSUED, issued_on__lte=today).exclude(
            kind=Invoice.Kind.CREDIT_NOTE
        ),
        "view_invoices",
    ).order_by()
    latest = issued.aggregate(latest=Max("issued_on"))["latest"]
    if latest is None:
        return []
    months = _months_to(latest.replace(day=1))
    sums: dict[str, dict[date, Decimal]] = defaultdict(dict)
    rows = (
        issued.filter(issued_on__gte=months[0])
        .annotate(month=TruncMonth("issued_on"))
        .values("currency", "month")
        .annotate(total=Sum("net"))
    )
    for row in rows:
        sums[row["currency"]][row["month"]] = row["total"]
    currency = max(sums, key=lambda code: sum(sums[code].values(), _ZERO))
    return [
        charts.columns(
            name="invoiced",
            title=f"Invoiced by month, net, in {currency}",
            unit=currency,
            months=[(f"{m:%b}", sums[currency].get(m, _ZERO)) for m in months],
            places=money_places(currency),
        )
    ]


def _used_chart(scope: Scope, today: date) -> list[charts.Chart]:
    used = scope.limit(Charge.objects.filter(booked_on__lte=today), "view_credits").order_by()
    latest = used.aggregate(latest=Max("booked_on"))["latest"]
    if latest is None:
        return []
    months = _months_to(latest.replace(day=1))
    rows = (
        used.filter(booked_on__gte=months[0])
        .annotate(month=TruncMonth("booked_on"))
        .values_list("month")
        .annotate(total=Sum(F("credits") + F("overage")))
    )
    sums = dict(rows)
    return [
        charts.columns(
            name="used",
            title="Credits used by month",
            unit="credits",
            months=[(f"{m:%b}", sums.get(m, _ZERO)) for m in months],
            places=0,
        )
    ]


def _runs(scope: Scope) -> list[tuple[str, str, str]]:
    """(when, what, address) of the run that goes on and the last one that ended."""
    if not scope.sees_runs:
        return []
    shown = []
    recent = InvoiceRun.objects.select_related("legal_entity").order_by("-pk")
    running = recent.exclude(state__in=(InvoiceRun.State.DONE, InvoiceRun.State.STOPPED)).first()
    ended = recent.filter(state=InvoiceRun.State.DONE).first()
    for label, run in (("Now", running), ("Last", ended)):
        if run is not None:
            text = f"{run}, {run.get_state_display()}"
            url = reverse("admin:billing_invoicerun_change", args=[run.pk])
            shown.append((label, text, url))
    return shown
