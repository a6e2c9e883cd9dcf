"""Invoices, their documents and the number series."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString

from billing.admin import invoice_page, states, steps
from billing.admin.base import ReadOnlyAdmin, View, column, today
from billing.models import Invoice, InvoiceDocument, NumberSeries
from billing.templatetags.billing_format import money


def _open(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(balance__due__gt=0)


def _to_approve(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(state__in=(Invoice.State.DRAFT, Invoice.State.IN_REVIEW))


def _this_month(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(state=Invoice.State.ISSUED, issued_on__gte=today().replace(day=1))


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    """Legal demands and credit notes."""

    owner = "customer"
    view_permission = "view_invoices"
    change_form_template = "admin/billing/invoice/change_form.html"
    list_display = (
        "shown_number",
        "customer",
        "shown_state",
        "issued_on",
        "due_on",
        "total",
        "still_due",
    )
    list_filter = ("state", "kind", "currency")
    list_select_related = ("customer", "balance")
    search_fields = ("number",)
    search_help_text = "Invoice number"
    lookups_allowed = ("run",)
    totals_field = "payable"
    views = (
        View("to_approve", "To approve", _to_approve, is_counted=True),
        View("approved", "Approved", lambda rows: rows.filter(state="approved"), is_counted=True),
        View("open", "Open", _open),
        View(
            "overdue",
            "Overdue",
            lambda rows: _open(rows).filter(balance__due_on__lt=today()),
            is_counted=True,
            is_late=True,
        ),
        View("paid", "Paid", lambda rows: rows.filter(state="issued", balance__due=0)),
        View("this_month", "Issued this month", _this_month),
    )
    empty_title = "No invoices yet"
    empty_text = "Invoices are drafted by a run. Start one for the month that ended."

    @column("number", ordering="number", css="field-number nowrap")
    def shown_number(self, invoice: Invoice) -> str:
        """The number, or that it is a draft."""
        return invoice.number or f"Draft {invoice.pk}"

    @column("state", ordering="state")
    def shown_state(self, invoice: Invoice) -> SafeString:
        """The state, or how far it is paid."""
        return states.invoice_state(invoice, today())

    @column("total", ordering="payable", num=True, css="phone-push")
    def total(self, invoice: Invoice) -> str:
        """What is to be paid."""
        return money(invoice.payable, invoice.currency)

    @column("still due", ordering="balance__due", num=True, css="phone-hide")
    def still_due(self, invoice: Invoice) -> str | None:
        """What is still to be paid."""
        balance = states.balance_of(invoice)
        return None if balance is None else money(balance.due, invoice.currency)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Lines with their reasons, VAT groups, document, timeline and neighbours."""
        return invoice_page.context(request, self, row)


@admin.register(InvoiceDocument)
class InvoiceDocumentAdmin(ReadOnlyAdmin):
    """The files made from issued invoices."""

    owner = "customer"
    view_permission = "view_invoices"
    list_display = (
        "invoice",
        "customer",
        "kind",
        "shown_state",
        "reason",
        "rendered_at",
        "kilobytes",
    )
    list_filter = ("state", "kind")
    fields = ("invoice", "customer", "kind", "state", "reason", "created_at", "rendered_at", "size")
    list_select_related = ("invoice", "customer")
    views = (
        View("waiting", "Waiting", lambda rows: rows.filter(state="waiting"), is_counted=True),
        View("parked", "Set aside", lambda rows: rows.filter(state="parked"), True, True),
    )
    empty_text = "A document is made for every issued invoice."

    def get_urls(self) -> list[URLPattern]:
        """Making a document again has a page of its own."""
        step = steps.url(
            self,
            invoice_page.DOCUMENT_STEPS,
            facts=invoice_page.document_facts,
            subject=lambda document: str(document.invoice),
        )
        return [step, *super().get_urls()]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The invoice's number as the title, and the way to try again."""
        return {
            "page_title": f"Document of {row.invoice}",
            "page_badge": states.state(row, states.DOCUMENT),
            "page_lead": row.customer.name,
            "page_tools": steps.tools(
                request, row, invoice_page.DOCUMENT_STEPS, "billing_invoicedocument"
            ),
        }

    @column("state", ordering="state")
    def shown_state(self, document: InvoiceDocument) -> SafeString:
        """Whether the file is there."""
        return states.state(document, states.DOCUMENT)

    @column("size", num=True)
    def kilobytes(self, document: InvoiceDocument) -> str | None:
        """The file's size."""
        return None if document.size is None else f"{-(-document.size // 1024)} KB"


@admin.register(NumberSeries)
class NumberSeriesAdmin(ReadOnlyAdmin):
    """Gapless counters. Nobody types a number."""

    view_permission = "view_sellers"
    list_display = ("legal_entity", "kind", "year", "pattern", "next_number", "last_issued_on")
    list_select_related = ("legal_entity",)
    empty_text = "A series begins with the first invoice of a seller in a year."
