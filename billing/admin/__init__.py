"""The pages of the back office, one file per subject; importing them registers them."""

from billing.admin import (
    catalog,
    control,
    credits,
    invoices,
    parties,
    payments,
    usage,
)

__all__ = ["catalog", "control", "credits", "invoices", "parties", "payments", "usage"]
