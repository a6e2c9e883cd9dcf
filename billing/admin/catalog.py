"""Plans, their frozen versions and prices, packs, meters, VAT rates and subscriptions."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.safestring import SafeString

from accounts.admin import ScopedStackedInline
from billing.admin import plan_pages, states, steps
from billing.admin.base import KeptAdmin, PickedFields, ReadOnlyAdmin, View, column, today
from billing.models import (
    CREDITS,
    CreditPack,
    Meter,
    Plan,
    PlanVersion,
    Price,
    Subscription,
    TaxRate,
)
from billing.templatetags.billing_format import badge, credit_amount, money, quantity


@admin.register(Meter)
class MeterAdmin(KeptAdmin):
    """The countable things."""

    view_permission = "view_catalog"
    change_permission = "change_catalog"
    list_display = ("name", "code", "unit", "aggregation")
    search_fields = ("name", "code")
    empty_text = "A meter counts one kind of use, such as images or minutes."


@admin.register(Plan)
class PlanAdmin(KeptAdmin):
    """What is sold."""

    view_permission = "view_catalog"
    change_permission = "change_catalog"
    list_display = ("name", "code", "family", "summary")
    search_fields = ("name", "code")
    empty_text = "A plan is what customers subscribe to. Its terms stand on its versions."


class PriceInline(PickedFields, ScopedStackedInline):  # type: ignore[misc]
    """The prices of a version, editable while it is a draft."""

    further_options = {"currency": ((CREDITS, "in credits"),)}
    model = Price
    change_permission = "change_catalog"
    delete_permission = "change_catalog"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only to a draft."""
        return _is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only of a draft."""
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only of a draft."""
        return _is_draft(obj) and super().has_delete_permission(request, obj)


def _is_draft(version: PlanVersion | None) -> bool:
    return version is None or version.state == PlanVersion.State.DRAFT


@admin.register(PlanVersion)
class PlanVersionAdmin(KeptAdmin):
    """Frozen terms. A published version is read only; new terms are a new version."""

    view_permission = "view_catalog"
    change_permission = "change_catalog"
    list_display = ("name", "shown_state", "interval", "credits", "overage_policy", "customers")
    list_filter = ("state", "interval", "overage_policy")
    list_select_related = ("plan",)
    search_fields = ("plan__name",)
    inlines = (PriceInline,)
    change_form_template = "admin/billing/planversion/change_form.html"
    empty_text = "A version says what a plan costs from a day on. Publish it and it never changes."

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanVersion]:
        """Versions with the number of customers on them."""
        running = Q(subscriptions__ended_on__isnull=True)
        return (
            super().get_queryset(request).annotate(running=Count("subscriptions", filter=running))
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a draft is edited; a published version is read only."""
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The state moves by publishing, not by hand."""
        return ("state", "published_at")

    def get_urls(self) -> list[URLPattern]:
        """Going on and off sale has pages of its own."""
        step = steps.url(self, plan_pages.STEPS, facts=plan_pages.facts, subject=str)
        return [step, *super().get_urls()]

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Terms and prices in words, and the next step."""
        return plan_pages.context(request, row)

    @column("version", ordering="plan__name")
    def name(self, version: PlanVersion) -> str:
        """Plan and number."""
        return str(version)

    @column("state", ordering="state")
    def shown_state(self, version: PlanVersion) -> SafeString:
        """The state as a badge."""
        return states.state(version, states.VERSION)

    @column("credits each period", ordering="allowance_credits", num=True)
    def credits(self, version: PlanVersion) -> str:
        """The allowance."""
        return credit_amount(version.allowance_credits)

    @column("subscriptions", ordering="running", num=True)
    def customers(self, version: PlanVersion) -> int:
        """Subscriptions that run on it."""
        return int(version.running)  # type: ignore[attr-defined]


@admin.register(CreditPack)
class CreditPackAdmin(KeptAdmin):
    """Credits for sale."""

    view_permission = "view_catalog"
    change_permission = "change_catalog"
    list_display = ("name", "size", "cost", "valid_months", "on_sale")
    list_filter = ("is_active", "currency")
    search_fields = ("name", "code")
    empty_text = "A pack sells a number of credits at a price. Editing it never touches sold ones."

    @column("credits", ordering="credits", num=True)
    def size(self, pack: CreditPack) -> str:
        """How many credits."""
        return credit_amount(pack.credits)

    @column("price", ordering="price", num=True)
    def cost(self, pack: CreditPack) -> str:
        """What it costs."""
        return money(pack.price, pack.currency)

    @column("on sale", ordering="is_active")
    def on_sale(self, pack: CreditPack) -> SafeString:
        """Whether it is offered."""
        return badge("on sale", "ok") if pack.is_active else badge("withdrawn")


@admin.register(TaxRate)
class TaxRateAdmin(KeptAdmin):
    """VAT rates over time, past and future beside each other."""

    view_permission = "view_catalog"
    change_permission = "change_catalog"
    list_display = ("country", "label", "percent", "from_day", "until_day")
    list_filter = ("country",)
    search_fields = ("country", "label")
    empty_text = "A rate holds for one country from a day on. Invoices take the one of their day."

    @column("rate", ordering="rate", num=True)
    def percent(self, rate: TaxRate) -> str:
        """The rate in percent."""
        return f"{quantity(rate.rate)}\u00a0%"

    @column("from", ordering="valid", css="nowrap tnum")
    def from_day(self, rate: TaxRate) -> Any:
        """First day."""
        return rate.valid.lower

    @column("until, not including", css="nowrap tnum")
    def until_day(self, rate: TaxRate) -> Any:
        """First day without it."""
        return rate.valid.upper


def _running(rows: QuerySet[Any]) -> QuerySet[Any]:
    return rows.filter(Q(ended_on__isnull=True) | Q(ended_on__gt=today()))


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    """Who is on which plan since when."""

    owner = "customer"
    view_permission = "view_credits"
    list_display = ("customer", "plan_version", "shown_state", "started_on", "ended_on", "quantity")
    list_select_related = ("customer", "plan_version__plan")
    list_filter = ("plan_version__plan",)
    search_fields = ("customer__name",)
    views = (
        View("running", "Running", _running),
        View("ended", "Ended", lambda rows: rows.filter(ended_on__lte=today())),
    )
    empty_text = "A subscription puts a customer on a plan from a day on."

    @column("state")
    def shown_state(self, subscription: Subscription) -> SafeString:
        """Whether it runs."""
        if subscription.ended_on is not None and subscription.ended_on <= today():
            return badge("ended")
        return badge("running", "ok")
