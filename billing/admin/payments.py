"""Money received, what it paid, and how customers pay."""

from typing import Any

from django.contrib import admin
from django.db.models import DecimalField, F, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from accounts import access
from accounts.admin import ScopedTabularInline
from billing.admin import entry_pages
from billing.admin.base import KeptAdmin, ReadOnlyAdmin, Tool, View, column
from billing.models import Allocation, Payment, PaymentMethod
from billing.templatetags.billing_format import badge, money, money_text

_MONEY = DecimalField(max_digits=18, decimal_places=3)


class AllocationInline(ScopedTabularInline):
    """The invoices a payment settled."""

    model = Allocation
    fk_name = "payment"
    fields = ("invoice", "paid", "booked_on")
    readonly_fields = fields
    verbose_name_plural = "settles"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Allocation]:
        """With the invoices' numbers."""
        return super().get_queryset(request).select_related("invoice")

    @admin.display(description="amount")
    def paid(self, allocation: Allocation) -> str:
        """How much of it."""
        return money(allocation.amount, allocation.invoice.currency)


def _with_rest(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Payments with what settles no invoice yet; worked out for the rows shown only."""
    applied = (
        Allocation.objects.filter(payment=OuterRef("pk"))
        .order_by()
        .values("payment")
        .annotate(total=Sum("amount"))
        .values("total")
    )
    return rows.annotate(
        rest_amount=F("amount") - Coalesce(Subquery(applied), Value(0), output_field=_MONEY)
    )


def _unmatched(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(reverses__isnull=True, rest_amount__gt=0)


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    """Money received on a value date."""

    owner = "customer"
    view_permission = "view_payments"
    list_display = ("received_on", "customer", "sum", "rest", "method", "reference")
    list_display_links = ("received_on",)
    list_filter = ("method", "currency")
    list_select_related = ("customer",)
    search_fields = ("reference", "payer")
    search_help_text = "Reference or payer"
    fields = (
        "customer", "legal_entity", "amount", "received_on", "method", "payer", "reference",
        "recorded_by", "recorded_at", "reverses",
    )  # fmt: skip
    inlines = (AllocationInline,)
    totals_field = "amount"
    views = (View("unmatched", "Not fully applied", _unmatched),)
    empty_text = "Payments appear when they are recorded or read from a bank statement."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        """Payments with what they settled."""
        return _with_rest(super().get_queryset(request))

    def get_urls(self) -> list[URLPattern]:
        """Recording a payment has a form of its own: a service writes it."""
        view = self.admin_site.admin_view(entry_pages.record_payment_view(self))
        return [path("record/", view, name="billing_payment_record"), *super().get_urls()]

    def list_tools(self, request: HttpRequest) -> list[Tool]:
        """A payment by hand, for those who may record one."""
        if access.visible_customer_ids(request.user, "record_payments") == access.NOTHING:
            return []
        return [Tool("Record a payment", reverse("admin:billing_payment_record"), "plus", True)]

    @column("amount", ordering="amount", num=True, css="phone-push")
    def sum(self, payment: Payment) -> str:
        """What came in."""
        return money(payment.amount, payment.currency)

    @column("not applied", num=True, css="phone-hide")
    def rest(self, payment: Payment) -> str:
        """What settles no invoice yet."""
        return money(payment.rest_amount, payment.currency)  # type: ignore[attr-defined]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Amount and payer as the title."""
        return {
            "page_title": money_text(row.amount, row.currency),
            "page_lead": f"Received from {row.customer.name} on {row.received_on:%-d %B %Y}",
        }


@admin.register(PaymentMethod)
class PaymentMethodAdmin(KeptAdmin):
    """How a customer pays. Only the last digits of a reference are kept."""

    owner = "customer"
    view_permission = "view_payments"
    change_permission = "change_terms"
    list_display = ("customer", "kind", "payer_name", "reference_masked", "valid_until", "in_use")
    list_filter = ("kind",)
    list_select_related = ("customer",)
    search_fields = ("payer_name",)
    autocomplete_fields = ("customer",)
    empty_text = "Payment details say how a customer pays: by transfer, direct debit or card."

    @column("in use", ordering="is_default")
    def in_use(self, method: PaymentMethod) -> SafeString:
        """Whether the next invoice is paid by it."""
        return badge("in use", "ok") if method.is_default else badge("kept")
