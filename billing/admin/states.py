"""States as badges: one meaning for each colour and mark, everywhere the same."""

from datetime import date
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist
from django.utils.safestring import SafeString

from billing.models import Invoice, InvoiceBalance, LedgerEntry
from billing.templatetags.billing_format import badge

INVOICE: Final = {"draft": "", "in_review": "warn", "approved": "held", "void": "void"}
RUN: Final = {
    "planned": "",
    "drafting": "info",
    "in_review": "warn",
    "approved": "held",
    "issuing": "info",
    "delivering": "info",
    "done": "ok",
    "stopped": "bad",
}
RUN_ITEM: Final = {"waiting": "", "drafted": "info", "issued": "ok", "nothing": "", "parked": "bad"}
DOCUMENT: Final = {"waiting": "", "ready": "ok", "parked": "bad"}
HOLD: Final = {"open": "held", "settled": "ok", "released": "", "lapsed": "warn"}
OUTCOME: Final = {"charged": "ok", "held": "held", "free": "", "refused": "bad", "unpriced": "warn"}
IMPORT: Final = {"reading": "info", "done": "ok", "stopped": "bad"}
VERSION: Final = {"draft": "", "published": "ok", "archived": "void"}
ENTRY: Final = {
    "grant": "ok",
    "spend": "info",
    "settle": "info",
    "hold": "held",
    "release": "",
    "expire": "warn",
    "void": "",
    "reverse": "ok",
    "debt": "bad",
    "repay": "ok",
}
TIMELINE: Final = {
    "invoice": ("Invoice", ""),
    "credit_note": ("Credit note", "warn"),
    "payment": ("Payment", "ok"),
    "grant": ("Credits", "ok"),
    "spend": ("Charge", "info"),
    "settle": ("Charge", "info"),
    "hold": ("Hold", "held"),
    "release": ("Released", ""),
    "expire": ("Expired", "warn"),
    "void": ("Voided", "void"),
    "reverse": ("Given back", "ok"),
    "debt": ("Debt", "bad"),
    "repay": ("Repaid", "ok"),
}


def state(row: Any, kinds: dict[str, str]) -> SafeString:
    """A row's stored state by its own words."""
    return badge(row.get_state_display(), kinds.get(row.state, ""))


def invoice_state(invoice: Invoice, today: date) -> SafeString:
    """An invoice's state as people say it: what is stored, or how far it is paid."""
    if invoice.state != Invoice.State.ISSUED:
        return badge(invoice.get_state_display(), INVOICE.get(invoice.state, ""))
    if invoice.kind == Invoice.Kind.CREDIT_NOTE:
        return badge("issued", "info")
    balance = balance_of(invoice)
    if balance is None or not balance.due:
        return badge("paid" if invoice.payable else "issued", "ok")
    late = (today - balance.due_on).days
    if late > 0:
        return badge(f"overdue {late} {'day' if late == 1 else 'days'}", "bad")
    if balance.due < invoice.payable:
        return badge("part paid", "warn")
    return badge("open", "info")


def balance_of(invoice: Invoice) -> InvoiceBalance | None:
    """What is still due; an invoice that is not issued has none."""
    try:
        return invoice.balance
    except ObjectDoesNotExist:
        return None


def entry_kind(entry: LedgerEntry) -> SafeString:
    """A ledger entry's kind."""
    return badge(entry.get_kind_display(), ENTRY.get(entry.kind, ""))
