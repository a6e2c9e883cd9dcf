"""The left menu: pages grouped by theme, with counts of what waits.

A page is in the menu when its admin says the reader may open it. Counts stop at a thousand, so a
menu never costs more than its page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from django.contrib.admin import AdminSite
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from billing.admin.scope import Scope
from billing.models import (
    Approval,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceRun,
)

COUNTED_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """One page of the menu."""

    label: str
    url: str
    model_label: str
    is_current: bool
    waiting: str = ""
    waiting_text: str = ""
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The pages of one theme."""

    title: str
    items: list[Item]


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a page counts what waits on it, and in which words."""

    rows: Callable[[Scope, date], QuerySet[Any]]
    text: str
    is_late: bool = False


def _to_approve(scope: Scope, _today: date) -> QuerySet[Any]:
    if not scope.holds("approve", "draft_invoices", "issue_invoices"):
        return Invoice.objects.none()
    states = (Invoice.State.DRAFT, Invoice.State.IN_REVIEW)
    return scope.limit(Invoice.objects.filter(state__in=states), "view_invoices")


def _overdue(scope: Scope, today: date) -> QuerySet[Any]:
    late = InvoiceBalance.objects.filter(due__gt=0, due_on__lt=today)
    return scope.limit(late, "view_invoices")


def _documents(scope: Scope, _today: date) -> QuerySet[Any]:
    waiting = InvoiceDocument.objects.filter(state=InvoiceDocument.State.WAITING)
    return scope.limit(waiting, "view_invoices")


def _runs(_scope: Scope, _today: date) -> QuerySet[Any]:
    ended = (InvoiceRun.State.DONE, InvoiceRun.State.STOPPED)
    return InvoiceRun.objects.exclude(state__in=ended)


def _approvals(scope: Scope, _today: date) -> QuerySet[Any]:
    return scope.limit(Approval.objects.filter(decision__isnull=True), "approve")


# (label, model, query of the page, what waits)
_Page = tuple[str, str, str, Waiting | None]
_PAGES: Final[Sequence[tuple[str, Sequence[_Page]]]] = (
    (
        "Overview",
        (("Invoice runs", "billing.invoicerun", "", Waiting(_runs, "not finished")),),
    ),
    (
        "Customers",
        (
            ("Customers", "billing.customer", "", None),
            ("Contacts", "billing.contact", "", None),
            ("Projects", "billing.project", "", None),
        ),
    ),
    (
        "Plans & prices",
        (
            ("Plans", "billing.plan", "", None),
            ("Plan versions", "billing.planversion", "", None),
            ("Subscriptions", "billing.subscription", "", None),
            ("Credit packs", "billing.creditpack", "", None),
            ("Meters", "billing.meter", "", None),
            ("VAT rates", "billing.taxrate", "", None),
        ),
    ),
    (
        "Credits",
        (
            ("Balances", "billing.creditbalance", "", None),
            ("Grants", "billing.creditgrant", "", None),
            ("Holds", "billing.hold", "", None),
            ("Credit ledger", "billing.ledgerentry", "", None),
        ),
    ),
    (
        "Usage & work",
        (
            ("Charges", "billing.charge", "", None),
            ("Usage", "billing.usageevent", "", None),
            ("Usage files", "billing.usageimport", "", None),
        ),
    ),
    (
        "Invoicing",
        (
            ("Invoices", "billing.invoice", "", Waiting(_to_approve, "to approve")),
            ("Overdue", "billing.invoice", "view=overdue", Waiting(_overdue, "overdue", True)),
            ("Documents", "billing.invoicedocument", "", Waiting(_documents, "to be made")),
        ),
    ),
    (
        "Payments",
        (
            ("Payments", "billing.payment", "", None),
            ("Payment details", "billing.paymentmethod", "", None),
        ),
    ),
    (
        "Control",
        (
            ("Approvals", "billing.approval", "", Waiting(_approvals, "to decide")),
            ("Journal", "billing.journalentry", "", None),
            ("Audit trail", "billing.auditevent", "", None),
            ("Number series", "billing.numberseries", "", None),
            ("Legal entities", "billing.legalentity", "", None),
            ("People", "accounts.user", "", None),
            ("Roles", "accounts.role", "", None),
            ("Role assignments", "accounts.roleassignment", "", None),
        ),
    ),
)


def build(site: AdminSite, request: HttpRequest, scope: Scope, *, today: date) -> list[Group]:
    """The menu of one reader on one page."""
    admins = {model._meta.label_lower: admin for model, admin in site._registry.items()}
    groups = []
    for title, pages in _PAGES:
        items = []
        for label, model_label, query, waiting in pages:
            admin = admins.get(model_label)
            if admin is None or not admin.has_view_permission(request):
                continue
            items.append(_item(request, scope, today, label, model_label, query, waiting))
        if title == "Overview":
            home = reverse("admin:index")
            items.insert(0, Item(_("Dashboard"), home, "", request.path == home))
        if items:
            groups.append(Group(title, items))
    help_url = reverse("admin:help")
    guides = Item(_("Guides"), help_url, "", request.path.startswith(help_url))
    return [*groups, Group(_("Help"), [guides])]


def _item(
    request: HttpRequest,
    scope: Scope,
    today: date,
    label: str,
    model_label: str,
    query: str,
    waiting: Waiting | None,
) -> Item:
    url = reverse(f"admin:{model_label.replace('.', '_')}_changelist")
    number = waiting.rows(scope, today)[:COUNTED_MAX].count() if waiting else 0
    asked = request.GET.get("view", "")
    is_here = request.path.startswith(url) and (query == f"view={asked}" if query else True)
    if is_here and not query and any(q == f"view={asked}" for q in _queries_of(model_label)):
        is_here = False
    return Item(
        label=label,
        url=f"{url}?{query}" if query else url,
        model_label=model_label,
        is_current=is_here,
        waiting="" if not number else "999+" if number >= COUNTED_MAX else str(number),
        waiting_text=waiting.text if waiting else "",
        is_late=bool(waiting and waiting.is_late),
    )


def _queries_of(model_label: str) -> list[str]:
    return [
        q
        for _title, pages in _PAGES
        for _label, model, q, _w in pages
        if model == model_label and q
    ]
