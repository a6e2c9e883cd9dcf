"""Runs, approvals, the journal and the audit trail."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin import ScopedTabularInline
from billing.admin import run_pages, states, steps
from billing.admin.base import ReadOnlyAdmin, Tool, View, column
from billing.models import (
    Approval,
    AuditEvent,
    InvoiceRun,
    JournalEntry,
    Posting,
    RunItem,
)
from billing.templatetags.billing_format import badge, money, month_text


@admin.register(InvoiceRun)
class InvoiceRunAdmin(ReadOnlyAdmin):
    """Batches of invoices, with their live page."""

    view_permission = "view_invoices"
    change_form_template = "admin/billing/invoicerun/change_form.html"
    list_display = (
        "name",
        "legal_entity",
        "shown_state",
        "plan",
        "issue_on",
        "author",
        "approved_by",
    )
    list_filter = ("state",)
    list_select_related = ("legal_entity", "plan", "author", "approved_by")
    views = (
        View(
            "active",
            "Under way",
            lambda rows: rows.exclude(state__in=("done", "stopped")),
            is_counted=True,
        ),
    )
    empty_title = "No run yet"
    empty_text = "A run drafts the invoices of a period for every customer who owes something."

    @column("period", ordering="period")
    def name(self, run: InvoiceRun) -> str:
        """The month billed."""
        return month_text(run.period.lower, run.period.upper)

    @column("state", ordering="state")
    def shown_state(self, run: InvoiceRun) -> SafeString:
        """How far it is."""
        return states.state(run, states.RUN)

    def get_urls(self) -> list[URLPattern]:
        """The run's own pages besides the stock ones."""
        wrap = self.admin_site.admin_view
        return [
            path("plan/", wrap(run_pages.plan_view(self)), name="billing_invoicerun_plan"),
            path(
                "<int:run_id>/progress/",
                wrap(run_pages.progress_view(self)),
                name="billing_invoicerun_progress",
            ),
            steps.url(
                self,
                run_pages.STEPS,
                facts=run_pages.facts,
                subject=lambda run: f"{run.period.lower:%B %Y}",
                after=run_pages.nudge,
            ),
            *super().get_urls(),
        ]

    def list_tools(self, request: HttpRequest) -> list[Tool]:
        """A new run, for those who may make one."""
        if not run_pages.may(request, "run_invoices"):
            return []
        return [Tool("New run", reverse("admin:billing_invoicerun_plan"), "plus", is_main=True)]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Progress, failures with reasons, totals per currency, and what may be done next."""
        return run_pages.context(request, row)


@admin.register(RunItem)
class RunItemAdmin(ReadOnlyAdmin):
    """Each customer's part of each run."""

    view_permission = "view_invoices"
    list_display = ("customer", "run", "shown_state", "reason", "invoice")
    fields = ("run", "customer", "state", "reason", "invoice", "updated_at")
    list_filter = ("state", "run")
    list_select_related = ("customer", "run__legal_entity", "invoice")
    empty_text = "A run lists its customers here."

    @column("state", ordering="state")
    def shown_state(self, item: RunItem) -> SafeString:
        """What came of it."""
        return states.state(item, states.RUN_ITEM)


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    """Requests by one person, decisions by another."""

    owner = "customer"
    view_permission = "approve"
    house_permission = "view_audit"
    list_display = ("summary", "requested_by", "requested_at", "decided", "decided_by")
    list_select_related = ("requested_by", "decision__decided_by", "legal_entity")
    fields = ("summary", "legal_entity", "customer", "requested_by", "requested_at", "reason")
    views = (View("open", "To decide", lambda rows: rows.filter(decision__isnull=True), True),)
    empty_title = "Nothing waits for a decision"
    empty_text = "What needs a second person is asked for here."

    @column("decision")
    def decided(self, approval: Approval) -> SafeString:
        """What was decided."""
        decision = getattr(approval, "decision", None)
        if decision is None:
            return badge("waits", "warn")
        return badge("approved", "ok") if decision.is_approved else badge("refused", "bad")

    @column("by")
    def decided_by(self, approval: Approval) -> str | None:
        """Who decided."""
        decision = getattr(approval, "decision", None)
        return None if decision is None else str(decision.decided_by)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """A way to what is asked for."""
        kind, _, rest = row.subject.partition(":")
        if kind != "run" or not rest.split(":")[0].isdigit():
            return {}
        url = reverse("admin:billing_invoicerun_change", args=[rest.split(":")[0]])
        return {"page_tools": [Tool("Open the run", url, is_main=True)]}


class PostingInline(ScopedTabularInline):
    """The signed amounts of an entry."""

    model = Posting
    fields = ("booked_to", "debit", "credit", "source")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Posting]:
        """With the entry's currency."""
        return super().get_queryset(request).select_related("entry")

    @admin.display(description="account")
    def booked_to(self, posting: Posting) -> str:
        """The account in words."""
        return posting.account.replace("_", " ")

    @admin.display(description="debit")
    def debit(self, posting: Posting) -> str:
        """A positive amount."""
        return money(posting.amount, posting.entry.currency) if posting.amount > 0 else ""

    @admin.display(description="credit")
    def credit(self, posting: Posting) -> str:
        """A negative amount, shown without its sign."""
        return money(abs(posting.amount), posting.entry.currency) if posting.amount < 0 else ""


@admin.register(JournalEntry)
class JournalEntryAdmin(ReadOnlyAdmin):
    """The money book."""

    view_permission = "view_books"
    list_display = ("booked_on", "what", "customer", "currency", "key")
    list_display_links = ("booked_on",)
    list_filter = ("currency",)
    list_select_related = ("customer",)
    search_fields = ("key",)
    fields = (
        "booked_on", "recorded_at", "legal_entity", "customer", "invoice", "payment", "currency"
    )  # fmt: skip
    inlines = (PostingInline,)
    empty_text = "Entries are posted when invoices are issued and payments arrive."

    @column("what", ordering="recipe")
    def what(self, entry: JournalEntry) -> str:
        """The recipe in words."""
        return entry.recipe.replace("_", " ")

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The recipe as the title."""
        return {
            "page_title": row.recipe.replace("_", " ").capitalize(),
            "page_lead": f"Booked on {row.booked_on:%-d %B %Y} in {row.currency}",
        }


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Who did what, when and why."""

    fields = ("recorded_at", "actor", "customer", "subject", "reason", "before", "after")
    view_permission = "view_audit"
    list_display = ("recorded_at", "what", "actor", "customer", "subject", "reason")
    list_display_links = ("recorded_at",)
    list_select_related = ("actor", "customer")
    search_fields = ("subject",)
    search_help_text = "What it was about, such as invoice:12"
    empty_text = "Every decision and every change of state leaves a row here."

    @column("what", ordering="action")
    def what(self, event: AuditEvent) -> str:
        """The action."""
        return event.action[:1].upper() + event.action[1:]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The action as the title."""
        who = row.actor or "the clock"
        return {
            "page_title": self.what(row),
            "page_lead": format_html("By {}, {}", who, row.reason) if row.reason else f"By {who}",
        }
