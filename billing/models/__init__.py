"""One namespace for every model; one file per subject."""

from billing.models.base import AppendOnly, DoorsOnly
from billing.models.catalog import (
    CREDITS,
    CreditPack,
    Meter,
    Plan,
    PlanVersion,
    Price,
    TaxRate,
)
from billing.models.control import (
    Approval,
    ApprovalDecision,
    AuditEvent,
    Heartbeat,
    InvoiceRun,
    RunItem,
)
from billing.models.credits import (
    CreditBalance,
    CreditGrant,
    Hold,
    LedgerEntry,
    LedgerKey,
    LedgerPart,
)
from billing.models.invoices import (
    DocumentAccess,
    Invoice,
    InvoiceBalance,
    InvoiceDocument,
    InvoiceLine,
    InvoiceTax,
    NumberSeries,
)
from billing.models.journal import JournalEntry, Posting
from billing.models.parties import Contact, Customer, LegalEntity, Project
from billing.models.payments import Allocation, Payment, PaymentMethod
from billing.models.subscriptions import BilledPeriod, Subscription
from billing.models.usage import Charge, UsageEvent, UsageImport

__all__ = [
    "CREDITS",
    "Allocation",
    "AppendOnly",
    "Approval",
    "ApprovalDecision",
    "AuditEvent",
    "BilledPeriod",
    "Charge",
    "Contact",
    "CreditBalance",
    "CreditGrant",
    "CreditPack",
    "Customer",
    "DocumentAccess",
    "DoorsOnly",
    "Heartbeat",
    "Hold",
    "Invoice",
    "InvoiceBalance",
    "InvoiceDocument",
    "InvoiceLine",
    "InvoiceRun",
    "InvoiceTax",
    "JournalEntry",
    "LedgerEntry",
    "LedgerKey",
    "LedgerPart",
    "LegalEntity",
    "Meter",
    "NumberSeries",
    "Payment",
    "PaymentMethod",
    "Plan",
    "PlanVersion",
    "Posting",
    "Price",
    "Project",
    "RunItem",
    "Subscription",
    "TaxRate",
    "UsageEvent",
    "UsageImport",
]
