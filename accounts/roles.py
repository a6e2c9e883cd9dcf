"""What can be permitted on a customer, as sentences."""

from typing import Final

CUSTOMER_PERMISSIONS: Final = (
    ("view_credits", "May see plan, credits, charges and limits"),
    ("view_invoices", "May see invoices"),
    ("view_payments", "May see payments and payment details"),
    ("download_documents", "May download documents"),
    ("change_terms", "May change plan, limits and payment terms"),
    ("draft_invoices", "May prepare and edit drafts of invoices"),
    ("run_invoices", "May make invoice runs"),
    ("issue_invoices", "May issue invoices"),
    ("correct_invoices", "May correct issued invoices by credit notes"),
    ("record_payments", "May record payments"),
    ("grant_credits", "May give credits"),
    ("place_holds", "May hold credits"),
    ("record_usage", "May record usage"),
    ("work", "May prepare and hand over work"),
    ("sign_off", "May sign off work"),
    ("approve", "May approve"),
    ("manage_people", "May decide who sees this customer"),
)
