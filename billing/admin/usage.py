"""Use that was recorded, and what it cost."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from billing.admin import states
from billing.admin.base import ReadOnlyAdmin, View, column
from billing.models import Charge, UsageEvent, UsageImport
from billing.templatetags.billing_format import badge, credit_amount, moment, quantity, units


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnlyAdmin):
    """Immutable facts of use."""

    owner = "customer"
    view_permission = "view_credits"
    list_display = ("happened", "customer", "meter", "amount", "shown_outcome", "reason")
    list_filter = ("outcome",)
    list_select_related = ("customer", "meter")
    fields = (
        "customer", "subscription", "project", "meter", "quantity", "outcome", "reason",
        "occurred_at", "recorded_at", "usage_import", "dimensions",
    )  # fmt: skip
    search_fields = ("key",)
    search_help_text = "Key of the use"
    views = (
        View("refused", "Refused", lambda rows: rows.filter(outcome="refused")),
        View("unpriced", "Not priced", lambda rows: rows.filter(outcome="unpriced")),
        View("held", "Held", lambda rows: rows.filter(outcome="held")),
    )
    empty_text = "Use arrives from the product, or from a file."

    @column("happened", ordering="occurred_at", css="nowrap tnum")
    def happened(self, event: UsageEvent) -> str:
        """When it happened."""
        return moment(event.occurred_at)

    @column("quantity", num=True, css="phone-push")
    def amount(self, event: UsageEvent) -> str:
        """How much, with its unit."""
        if event.quantity is None:
            return "not known"
        return units(event.quantity, event.meter.unit)

    @column("came of it", ordering="outcome")
    def shown_outcome(self, event: UsageEvent) -> SafeString:
        """What was decided."""
        return badge(event.get_outcome_display(), states.OUTCOME.get(event.outcome, ""))


@admin.register(Charge)
class ChargeAdmin(ReadOnlyAdmin):
    """Credits owed for one use."""

    owner = "customer"
    view_permission = "view_credits"
    list_display = ("happened", "customer", "price", "shown_quantity", "paid", "beyond")
    fields = (
        "customer", "subscription", "usage_event", "price", "quantity", "credits", "overage",
        "entry", "occurred_at", "recorded_at", "booked_on",
    )  # fmt: skip
    list_select_related = ("customer", "price")
    views = (View("overage", "Beyond the credits", lambda rows: rows.filter(overage__gt=0)),)
    empty_text = "A charge appears when recorded use is priced."

    @column("happened", css="nowrap tnum")
    def happened(self, charge: Charge) -> str:
        """When the use happened."""
        return moment(charge.occurred_at)

    @column("quantity", num=True)
    def shown_quantity(self, charge: Charge) -> str:
        """How much was used."""
        return quantity(charge.quantity)

    @column("paid by credits", num=True, css="phone-push")
    def paid(self, charge: Charge) -> str:
        """Credits the grants paid."""
        return credit_amount(charge.credits)

    @column("beyond the credits", num=True)
    def beyond(self, charge: Charge) -> str:
        """Credits nobody covered."""
        return credit_amount(charge.overage)


@admin.register(UsageImport)
class UsageImportAdmin(ReadOnlyAdmin):
    """Files of usage and what came of their rows."""

    view_permission = "import_usage"
    house_permission = "view_audit"
    list_display = (
        "file_name",
        "shown_state",
        "started_at",
        "rows_read",
        "rows_new",
        "rows_known",
        "rows_rejected",
    )
    list_filter = ("state",)
    fields = (
        "file_name", "legal_entity", "mapping", "rows_read", "rows_new", "rows_known",
        "rows_rejected", "started_at", "finished_at",
    )  # fmt: skip
    search_fields = ("file_name",)
    empty_text = "A file of usage is read once; reading it again adds nothing."

    @column("state", ordering="state")
    def shown_state(self, batch: UsageImport) -> SafeString:
        """How far it is."""
        return states.state(batch, states.IMPORT)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The state beside the file's name."""
        return {"page_badge": states.state(row, states.IMPORT)}
