"""The page of one customer: plan, credits, payment details, people, story and invoices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Count, F, Max, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.models import RoleAssignment
from billing import timeline
from billing.admin import states
from billing.admin.base import Tool, today
from billing.admin.scope import Scope, scope_of
from billing.models import (
    Charge,
    CreditGrant,
    Customer,
    Invoice,
    InvoiceBalance,
    PaymentMethod,
    Price,
    Subscription,
)
from billing.templatetags.billing_format import (
    amount,
    badge,
    credit_amount,
    day,
    digits,
    moment,
    money,
    money_places,
    money_text,
    month_text,
    signed_credits,
)

TIMELINE_ROWS: Final = 8
TIMELINE_PAGE_ROWS: Final = 40
INVOICES: Final = 6
PEOPLE: Final = 12
GRANTS: Final = 12


@dataclass(frozen=True, slots=True)
class Glance:
    """One of the four figures at the top."""

    title: str
    value: str
    unit: str
    note: str
    is_unit_first: bool = False


def context(request: HttpRequest, customer: Customer) -> dict[str, Any]:
    """What the page shows, in a fixed number of queries; each part only for who may see it."""
    scope = scope_of(request)
    now = timezone.now()
    sees_credits = scope.covers("view_credits", customer.pk)
    sees_invoices = scope.covers("view_invoices", customer.pk)
    sees_payments = scope.covers("view_payments", customer.pk)
    subscription = _subscription(customer) if sees_credits else None
    grants = _grants(customer) if sees_credits else []
    return {
        "page_title": customer.name,
        "is_editing": "edit" in request.GET,
        "page_badge": badge("active", "ok") if customer.is_active else badge("closed"),
        "page_lead": _lead(customer),
        "page_tools": _tools(scope, customer),
        "glances": [
            *([_credits_glance(customer), _plan_glance(subscription)] if sees_credits else []),
            *([_invoice_glance(customer)] if sees_invoices else []),
            *([_use_glance(customer, now.date())] if sees_credits else []),
        ],
        "sees_credits": sees_credits,
        "sees_invoices": sees_invoices,
        "sees_payments": sees_payments,
        "grants": [_grant_row(place, grant) for place, grant in enumerate(grants, start=1)],
        "people": _people(customer),
        "payment_facts": _payment_facts(customer) if sees_payments or sees_invoices else [],
        "timeline": _timeline_rows(scope, customer, TIMELINE_ROWS)[0],
        "timeline_url": reverse("admin:billing_customer_timeline", args=[customer.pk]),
        "invoices": _invoices(customer) if sees_invoices else [],
    }


def timeline_view(model_admin: Any) -> Callable[..., HttpResponse]:
    """The whole story of a customer, paged by a cursor."""

    def view(request: HttpRequest, customer_id: int) -> HttpResponse:
        customer = model_admin.get_object(request, str(customer_id))
        before = timeline.Cursor.parse(request.GET.get("before", ""))
        rows, older = _timeline_rows(scope_of(request), customer, TIMELINE_PAGE_ROWS, before)
        shown = {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": f"Timeline of {customer.name}",
            "customer": customer,
            "rows": rows,
            "older": str(older) if older else "",
            "is_first": before is None,
        }
        return TemplateResponse(request, "admin/billing/customer/timeline.html", shown)

    return view


def _lead(customer: Customer) -> str:
    parts = [", ".join(part for part in (customer.city, customer.country) if part)]
    if customer.vat_id:
        confirmed = customer.vat_id_valid_on
        checked = f"confirmed {day(confirmed)}" if confirmed else "not confirmed"
        parts.append(f"VAT ID {customer.vat_id}, {checked}")
    parts.append(f"customer number {customer.code}")
    parts.append(f"since {customer.created_at:%B %Y}")
    return " · ".join(part for part in parts if part)


def _tools(scope: Scope, customer: Customer) -> list[Tool]:
    tools = []
    if scope.covers("view_invoices", customer.pk):
        url = reverse("admin:billing_invoice_changelist")
        tools.append(Tool("All invoices", f"{url}?customer__id__exact={customer.pk}"))
    if scope.covers("grant_credits", customer.pk):
        url = reverse("admin:billing_customer_give", args=[customer.pk])
        tools.append(Tool("Give credits…", url))
    if scope.covers("record_payments", customer.pk):
        url = reverse("admin:billing_payment_record")
        tools.append(Tool("Record a payment…", f"{url}?customer={customer.pk}", is_main=True))
    return tools


def _subscription(customer: Customer) -> Subscription | None:
    """The subscription that runs today, or the latest one."""
    return (
        Subscription.objects.filter(customer=customer)
        .select_related("plan_version__plan", "customer")
        .order_by(F("ended_on").desc(nulls_first=True), "-started_on", "-pk")
        .first()
    )


def _credits_glance(customer: Customer) -> Glance:
    try:
        balance = customer.credit_balance
    except ObjectDoesNotExist:
        return Glance("Available credits", "0", "", "no credits were granted yet")
    notes = [f"{credit_amount(balance.held)} held" if balance.held else "nothing held"]
    if balance.debt:
        notes.append(f"{credit_amount(balance.debt)} carried as debt")
    return Glance("Available credits", credit_amount(balance.available), "", ", ".join(notes))


def _plan_glance(subscription: Subscription | None) -> Glance:
    if subscription is None:
        return Glance("Plan", "None", "", "no subscription")
    version = subscription.plan_version
    fee = Price.objects.filter(
        plan_version=version, role=Price.Role.FEE, currency=subscription.customer.currency
    ).first()
    if subscription.ended_on is not None and subscription.ended_on <= today():
        note = f"ended {day(subscription.ended_on)}"
    elif fee is not None and fee.unit_price:
        note = f"{money_text(fee.unit_price, fee.currency)} a {version.get_interval_display()}"
    else:
        note = f"no fee, use beyond the credits {version.get_overage_policy_display()}"
    return Glance("Plan", version.plan.name, "", f"{note}, since {day(subscription.started_on)}")


def _invoice_glance(customer: Customer) -> Glance:
    """The next invoice when it is drafted, else what is still to be paid."""
    draft = (
        Invoice.objects.filter(
            customer=customer,
            state__in=(Invoice.State.DRAFT, Invoice.State.IN_REVIEW, Invoice.State.APPROVED),
        )
        .order_by("-pk")
        .first()
    )
    if draft is not None:
        period = month_text(draft.supply_from, draft.supply_to)
        note = f"{period}, {draft.get_state_display()}"
        value = amount(draft.payable, draft.currency)
        return Glance("Next invoice", value, draft.currency, note, is_unit_first=True)
    last = Invoice.objects.filter(customer=customer, state=Invoice.State.ISSUED).first()
    note = f"the last is {last.number} of {day(last.issued_on)}" if last else "none was issued yet"
    return Glance("Next invoice", "Not drafted", "", note)


def _use_glance(customer: Customer, on: date) -> Glance:
    """Use of this month, against the month before."""
    first = on.replace(day=1)
    number = first.year * 12 + first.month - 2
    before = date(number // 12, number % 12 + 1, 1)
    total = F("credits") + F("overage")
    sums = Charge.objects.filter(customer=customer, booked_on__gte=before).aggregate(
        now=Sum(total, filter=Q(booked_on__gte=first), default=Decimal(0)),
        last=Sum(total, filter=Q(booked_on__lt=first), default=Decimal(0)),
    )
    note = f"{credit_amount(sums['last'])} in {before:%B}"
    return Glance("Used this month", credit_amount(sums["now"]), "credits", note)


def _grants(customer: Customer) -> Sequence[CreditGrant]:
    from billing.admin.credits import BURN_ORDER

    return list(
        CreditGrant.objects.filter(customer=customer, is_open=True).order_by(*BURN_ORDER)[:GRANTS]
    )


def _grant_row(place: int, grant: CreditGrant) -> dict[str, Any]:
    from billing.admin.credits import grant_bar

    left = None
    if grant.expires_at is not None:
        days = (timezone.localtime(grant.expires_at).date() - today()).days
        left = f"in {days} days" if days > 1 else "tomorrow" if days == 1 else "today"
        left = left if days >= 0 else "expired"
    note = grant.get_kind_display()
    if grant.cost_total:
        note = f"{note}, {money_text(grant.cost_total, grant.currency)}"
    if grant.held:
        note = f"{note}, {credit_amount(grant.held)} held"
    bar = grant_bar(grant)
    return {
        "place": place,
        "title": str(grant),
        "note": note,
        "url": reverse("admin:billing_creditgrant_change", args=[grant.pk]),
        "expires": day(timezone.localtime(grant.expires_at)) if grant.expires_at else "Never",
        "left": left,
        "bar": bar,
        "granted": credit_amount(grant.amount),
        "available": credit_amount(bar["free"]),
    }


def _people(customer: Customer) -> list[dict[str, Any]]:
    now = timezone.now()
    assignments = (
        RoleAssignment.objects.filter(customer=customer)
        .select_related("user", "role")
        .order_by("-valid_from")[:PEOPLE]
    )
    return [
        {
            "user": assignment.user,
            "name": str(assignment.user),
            "role": f"{assignment.role.name}: {assignment.role.summary}",
            "badge": _assignment_badge(assignment, now),
        }
        for assignment in assignments
    ]


def _assignment_badge(assignment: RoleAssignment, now: Any) -> SafeString:
    if assignment.valid_until is not None and assignment.valid_until <= now:
        return badge(f"ended {day(assignment.valid_until)}", "bad")
    if assignment.valid_from > now:
        return badge(f"from {day(assignment.valid_from)}", "held")
    return badge("active", "ok")


def _payment_facts(customer: Customer) -> list[tuple[str, Any]]:
    method = PaymentMethod.objects.filter(customer=customer, is_default=True).first()
    terms = customer.payment_terms_days
    days = terms if terms is not None else customer.legal_entity.payment_terms_days
    due = InvoiceBalance.objects.filter(customer=customer, due__gt=0).aggregate(
        late=Count("pk", filter=Q(due_on__lt=today())),
        number=Count("pk"),
        latest=Max("due_on"),
    )
    sums = (
        InvoiceBalance.objects.filter(customer=customer, due__gt=0)
        .values("currency")
        .annotate(total=Sum("due"))
        .order_by("currency")
    )
    owed = ", ".join(money_text(row["total"], row["currency"]) for row in sums) or "nothing"
    return [
        ("Pays by", f"{method}, {days} days" if method else f"not recorded, {days} days"),
        ("Payer", method.payer_name if method else "not recorded"),
        ("Invoices to", customer.email or "no e-mail address"),
        ("Documents in", f"{customer.language.upper()}, {customer.currency}"),
        ("Still to pay", owed),
        ("Overdue", f"{due['late']} of {due['number']} invoices" if due["late"] else "nothing"),
    ]


def _invoices(customer: Customer) -> list[dict[str, Any]]:
    rows = Invoice.objects.filter(customer=customer).select_related("balance")[:INVOICES]
    return [
        {
            "title": str(invoice),
            "url": reverse("admin:billing_invoice_change", args=[invoice.pk]),
            "period": month_text(invoice.supply_from, invoice.supply_to),
            "badge": states.invoice_state(invoice, today()),
            "total": money(invoice.payable, invoice.currency),
        }
        for invoice in rows
    ]


_ADMIN_PAGES: Final = {"invoice", "payment", "charge", "ledgerentry"}
_NEEDS: Final[dict[timeline.Source, str]] = {
    "invoices": "view_invoices",
    "payments": "view_payments",
    "credits": "view_credits",
}


def _timeline_rows(
    scope: Scope, customer: Customer, rows_max: int, before: timeline.Cursor | None = None
) -> tuple[list[dict[str, Any]], timeline.Cursor | None]:
    """Rows of the story the reader may see; a hidden kind of row is left out."""
    seen = {kind for kind, needs in _NEEDS.items() if scope.covers(needs, customer.pk)}
    page = timeline.page(customer_id=customer.pk, before=before, rows_max=rows_max, only=seen)
    return [_timeline_row(row) for row in page.rows], page.older


def _timeline_row(row: timeline.TimelineRow) -> dict[str, Any]:
    label, kind = states.TIMELINE.get(row.kind, (row.kind, ""))
    title = row.title
    if row.money is not None:
        title = f"{title}, {row.currency}\u00a0{digits(row.money, money_places(row.currency))}"
    return {
        "when": moment(row.at) if row.has_time else day(row.at.date()),
        "title": title,
        "note": row.note,
        "url": reverse(f"admin:billing_{row.subject.model}_change", args=[row.subject.pk])
        if row.subject.model in _ADMIN_PAGES
        else "",
        "badge": badge(label, kind),
        "credits": signed_credits(row.credits) if row.credits is not None else "",
        "is_plus": row.credits is not None and row.credits > 0,
        "available": credit_amount(row.available) if row.available is not None else "",
    }
