"""The page of one invoice: figures, lines with their reasons, VAT, the document, its story."""

from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest
from django.urls import reverse

from billing.admin import explain, states
from billing.admin.base import Tool, today
from billing.admin.scope import scope_of
from billing.admin.steps import Fact, Step
from billing.models import Allocation, AuditEvent, Invoice, InvoiceDocument, InvoiceLine
from billing.templatetags.billing_format import (
    amount,
    day,
    figure,
    moment,
    money_text,
    month_text,
    percent,
    rate,
    span_text,
    units,
)

LINES_SHOWN: Final = 200
EVENTS_SHOWN: Final = 30


def context(request: HttpRequest, model_admin: Any, invoice: Invoice) -> dict[str, Any]:
    """What the page shows, in a fixed number of queries."""
    scope = scope_of(request)
    document = InvoiceDocument.objects.filter(invoice=invoice, kind="pdf").first()
    downloads = scope.covers("download_documents", invoice.customer_id)
    lines = list(
        invoice.lines.select_related("price__plan_version__plan").order_by("position")[
            : LINES_SHOWN + 1
        ]
    )
    return {
        "page_title": _title(invoice),
        "page_badge": states.invoice_state(invoice, today()),
        "page_lead": _lead(invoice),
        "page_tools": _tools(invoice, document, downloads),
        "figures": _figures(invoice),
        "lines": [_line(line, invoice.currency) for line in lines[:LINES_SHOWN]],
        "has_more_lines": len(lines) > LINES_SHOWN,
        "sums": _sums(invoice),
        "document": document,
        "preview_url": reverse("document_preview", args=[invoice.public_id])
        if document and document.state == InvoiceDocument.State.READY and downloads
        else "",
        "download_url": reverse("document_download", args=[invoice.public_id])
        if document and document.state == InvoiceDocument.State.READY and downloads
        else "",
        "may_download": downloads,
        "events": _events(
            invoice, sees_payments=scope.covers("view_payments", invoice.customer_id)
        ),
        "neighbours": _neighbours(request, model_admin, invoice),
        "corrections": list(invoice.corrections.all()[:10]),
    }


def _title(invoice: Invoice) -> str:
    if invoice.number:
        return f"{invoice.get_kind_display().capitalize()} {invoice.number}"
    return f"{invoice.customer.name}, {month_text(invoice.supply_from, invoice.supply_to)}"


def _lead(invoice: Invoice) -> str:
    if invoice.issued_on is not None:
        approved = f", approved by {invoice.approved_by}" if invoice.approved_by else ""
        return f"Issued on {invoice.issued_on:%-d %B %Y}{approved}."
    if invoice.state == Invoice.State.APPROVED:
        return f"Approved by {invoice.approved_by}. The number is given at issue."
    return "A draft. Nothing is sent or booked before it is approved and issued."


def _tools(invoice: Invoice, document: InvoiceDocument | None, downloads: bool) -> list[Tool]:
    tools = []
    if invoice.run_id is not None:
        tools.append(
            Tool("Its run", reverse("admin:billing_invoicerun_change", args=[invoice.run_id]))
        )
    if document and document.state == InvoiceDocument.State.READY and downloads:
        url = reverse("document_download", args=[invoice.public_id])
        tools.append(Tool("Download PDF", url, "down", is_main=True))
    return tools


def _figures(invoice: Invoice) -> list[dict[str, Any]]:
    customer = reverse("admin:billing_customer_change", args=[invoice.customer_id])
    shown: list[dict[str, Any]] = [
        {"term": "Total", "text": figure(invoice.payable, invoice.currency), "is_big": True},
        {"term": "Customer", "text": invoice.customer.name, "url": customer},
        {"term": "Supply", "text": span_text(invoice.supply_from, invoice.supply_to)},
    ]
    balance = states.balance_of(invoice)
    if invoice.due_on is not None:
        shown.append({"term": "Due", "text": day(invoice.due_on)})
    if balance is not None and balance.due and balance.due != invoice.payable:
        shown.append({"term": "Still due", "text": money_text(balance.due, invoice.currency)})
    if invoice.corrects is not None:
        url = reverse("admin:billing_invoice_change", args=[invoice.corrects_id])
        shown.append({"term": "Corrects", "text": str(invoice.corrects), "url": url})
    return shown


def _line(line: InvoiceLine, currency: str) -> dict[str, Any]:
    reasons = explain.because(line, currency)
    return {
        "title": line.description,
        "note": ", ".join(
            part for part in (span_text(line.supply_from, line.supply_to), line.detail) if part
        ),
        "quantity": units(line.quantity, line.unit),
        "price": rate(line.unit_price, currency),
        "per": f"for {line.base_quantity}" if line.base_quantity != 1 else "",
        "net": amount(line.net, currency),
        "reasons": [
            {
                "term": reason.term,
                "text": reason.text,
                "url": reverse("admin:billing_planversion_change", args=[reason.plan_version_id])
                if reason.plan_version_id
                else "",
            }
            for reason in reasons
        ],
    }


def _sums(invoice: Invoice) -> list[dict[str, Any]]:
    currency = invoice.currency
    rows: list[dict[str, Any]] = [{"term": "Net", "text": amount(invoice.net, currency)}]
    for group in invoice.taxes.all():
        why = f". {group.reason_text}" if group.reason else ""
        base = f" on {amount(group.taxable, currency)}" if group.rate else ""
        rows.append(
            {"term": f"VAT {percent(group.rate)}{base}{why}", "text": amount(group.tax, currency)}
        )
    if invoice.rounding:
        rows.append({"term": "Rounding", "text": amount(invoice.rounding, currency)})
    rows.append(
        {"term": f"Total, {currency}", "text": amount(invoice.payable, currency), "is_grand": True}
    )
    return rows


def _events(invoice: Invoice, *, sees_payments: bool) -> list[dict[str, Any]]:
    """The invoice's story, newest first: decisions and, for who may see them, payments."""
    events: list[tuple[Any, dict[str, Any]]] = []
    audit = (
        AuditEvent.objects.filter(subject=f"invoice:{invoice.pk}")
        .select_related("actor")
        .order_by("-pk")[:EVENTS_SHOWN]
    )
    events += [(event.recorded_at, _decision(event)) for event in audit]
    events.append(
        (
            invoice.created_at,
            {
                "kind": "",
                "title": "Drafted",
                "who": f"by {invoice.created_by}" if invoice.created_by else "by the clock",
                "when": moment(invoice.created_at),
                "note": f"By the run {invoice.run}" if invoice.run else "",
            },
        )
    )
    if sees_payments:
        paid = (
            Allocation.objects.filter(invoice=invoice)
            .select_related("payment")
            .order_by("-pk")[:EVENTS_SHOWN]
        )
        events += [(row.recorded_at, _payment_event(row, invoice.currency)) for row in paid]
    events.sort(key=lambda item: item[0], reverse=True)
    return [event for _, event in events]


def _decision(event: AuditEvent) -> dict[str, Any]:
    return {
        "kind": "info",
        "title": event.action[:1].upper() + event.action[1:],
        "who": f"by {event.actor}" if event.actor else "by the clock",
        "when": moment(event.recorded_at),
        "note": event.reason,
    }


def _payment_event(allocation: Allocation, currency: str) -> dict[str, Any]:
    is_back = allocation.amount < 0
    what = "Taken back" if is_back else "Paid"
    return {
        "kind": "bad" if is_back else "ok",
        "title": f"{what}: {money_text(allocation.amount, currency)}",
        "who": f"by {allocation.payment.get_method_display()}",
        "when": day(allocation.booked_on),
        "note": allocation.payment.reference,
        "url": reverse("admin:billing_payment_change", args=[allocation.payment_id]),
    }


def _neighbours(request: HttpRequest, model_admin: Any, invoice: Invoice) -> dict[str, str]:
    """The invoices before and after this one among those the reader may see."""
    seen = model_admin.get_queryset(request).order_by()
    newer = seen.filter(pk__gt=invoice.pk).order_by("pk").values_list("pk", flat=True).first()
    older = seen.filter(pk__lt=invoice.pk).order_by("-pk").values_list("pk", flat=True).first()
    return {
        "previous": reverse("admin:billing_invoice_change", args=[newer]) if newer else "",
        "next": reverse("admin:billing_invoice_change", args=[older]) if older else "",
    }


def _make_again(document: InvoiceDocument, _user: Any, _reason: str) -> None:
    from billing import documents  # brings the renderer along; pages do without it

    documents.retry(document.pk)


DOCUMENT_STEPS: Final[Mapping[str, Step]] = {
    "retry": Step(
        label="Make it again",
        permission="issue_invoices",
        question="Make this document again?",
        lead="It was set aside. It goes back into the queue, with all its tries.",
        effects=(("file", "It is made in the background, from what was frozen at issue."),),
        done="The document is in the queue again.",
        act=_make_again,
        allowed=lambda document, _user: document.state == InvoiceDocument.State.PARKED,
        needs_reason=False,
        is_main=True,
    ),
}


def document_facts(document: InvoiceDocument) -> list[Fact]:
    """What the confirmation names."""
    return [
        Fact("Customer", document.customer.name),
        Fact("Invoice", str(document.invoice), is_loud=True),
        Fact("Set aside because", document.reason or "no reason was given"),
    ]
