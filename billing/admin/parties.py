"""Sellers, customers and the page of one customer, their contacts and projects."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from billing.admin import customer_page, entry_pages
from billing.admin.base import KeptAdmin, View, column
from billing.models import Contact, Customer, LegalEntity, Project
from billing.templatetags.billing_format import badge, credit_amount


@admin.register(LegalEntity)
class LegalEntityAdmin(KeptAdmin):
    """The sellers that issue invoices."""

    view_permission = "view_sellers"
    change_permission = "change_sellers"
    list_display = ("name", "code", "country", "currency", "vat_id")
    search_fields = ("name", "code")
    fieldsets = (
        (None, {"fields": ("code", "name", "legal_name")}),
        ("Address", {"fields": ("street", "postal_code", "city", "region", "country")}),
        ("Registration", {"fields": ("vat_id", "registration", "directors")}),
        ("Contact and bank", {"fields": ("email", "phone", "bank_name", "iban", "bic")}),
        (
            "How it invoices",
            {
                "fields": (
                    "currency",
                    "language",
                    "time_zone",
                    "payment_terms_days",
                    "draft_days",
                    "vat_due",
                    "accent",
                    "footer",
                )
            },
        ),
    )
    empty_text = "A seller is the company whose name stands on the invoices."

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The code starts every number, so it stays once given."""
        return () if obj is None else ("code",)


@admin.register(Customer)
class CustomerAdmin(KeptAdmin):
    """The parties billed."""

    owner = "pk"
    view_permission = "view_customer"
    change_permission = "change_customer"
    change_form_template = "admin/billing/customer/change_form.html"
    list_display = ("name", "code", "city", "country", "available", "currency", "active")
    list_filter = ("is_active", "kind", "currency")
    list_select_related = ("credit_balance",)
    search_fields = ("name",)
    search_help_text = "Name"
    views = (
        View("active", "Active", lambda rows: rows.filter(is_active=True)),
        View("debt", "In debt", lambda rows: rows.filter(credit_balance__debt__gt=0)),
    )
    fieldsets = (
        ("Who it is", {"fields": ("legal_entity", "code", "name", "kind", "is_active")}),
        (
            "Where invoices go",
            {
                "fields": (
                    "attention",
                    "street",
                    "postal_code",
                    "city",
                    "region",
                    "country",
                    "email",
                    "phone",
                )
            },
        ),
        ("VAT", {"fields": ("vat_id", "vat_id_valid_on")}),
        (
            "Terms",
            {
                "fields": (
                    "currency",
                    "language",
                    "time_zone",
                    "payment_terms_days",
                    "purchase_order",
                    "buyer_reference",
                    "credit_limit",
                )
            },
        ),
    )
    empty_text = "A customer is who gets the invoice. Its plan, credits and people hang on it."

    @column("available credits", ordering="credit_balance__available", num=True, css="phone-push")
    def available(self, customer: Customer) -> str:
        """Credits that may be spent."""
        balance = getattr(customer, "credit_balance", None)
        return credit_amount(balance.available) if balance else "0"

    @column("state", ordering="is_active")
    def active(self, customer: Customer) -> SafeString:
        """Whether business goes on with it; what it owes is billed all the same."""
        return badge("active", "ok") if customer.is_active else badge("closed")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Seller, currency and time zone stay: what is billed was billed by them."""
        return () if obj is None else ("legal_entity", "currency", "time_zone")

    def get_urls(self) -> list[URLPattern]:
        """The whole timeline has a page of its own, and so has giving credits."""
        view = self.admin_site.admin_view(customer_page.timeline_view(self))
        give = self.admin_site.admin_view(entry_pages.give_credits_view(self))
        return [
            path("<int:customer_id>/timeline/", view, name="billing_customer_timeline"),
            path("<int:customer_id>/credits/", give, name="billing_customer_give"),
            *super().get_urls(),
        ]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Everything about the customer at one glance."""
        return customer_page.context(request, row)


@admin.register(Contact)
class ContactAdmin(KeptAdmin):
    """People of customers who get documents."""

    owner = "customer"
    view_permission = "view_customer"
    change_permission = "change_customer"
    list_display = ("name", "customer", "email", "duty", "receives_invoices")
    list_select_related = ("customer",)
    list_filter = ("receives_invoices",)
    search_fields = ("name", "email")
    autocomplete_fields = ("customer",)
    empty_text = "A contact is a person of a customer, such as its accounts department."


@admin.register(Project)
class ProjectAdmin(KeptAdmin):
    """Pieces of work that charges are grouped under."""

    owner = "customer"
    view_permission = "view_customer"
    change_permission = "change_customer"
    list_display = ("name", "code", "customer", "active")
    list_select_related = ("customer",)
    list_filter = ("is_active",)
    search_fields = ("name", "code")
    autocomplete_fields = ("customer",)
    empty_text = "A project groups a customer's charges."

    @column("state", ordering="is_active")
    def active(self, project: Project) -> SafeString:
        """Whether it goes on."""
        return badge("active", "ok") if project.is_active else badge("closed")
