"""Credits: what customers have, the lots it came in, what is reserved, and every movement."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from django.contrib import admin
from django.db.models import F, OrderBy, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing.admin import charts, states
from billing.admin.base import ReadOnlyAdmin, View, column
from billing.admin.dashboard import EXPIRING_DAYS
from billing.models import CreditBalance, CreditGrant, Hold, LedgerEntry, LedgerPart
from billing.templatetags.billing_format import (
    badge,
    credit_amount,
    day,
    moment,
    money_text,
    signed_credits,
)

PARTS_SHOWN: Final = 50
# The order grants pay in (semantics): priority, expiry with none last, given before sold, age.
BURN_ORDER: Final[tuple[str | OrderBy, ...]] = (
    "priority",
    F("expires_at").asc(nulls_last=True),
    "cost_total",
    "created_at",
    "pk",
)


@admin.register(CreditBalance)
class CreditBalanceAdmin(ReadOnlyAdmin):
    """What each customer has."""

    owner = "customer"
    view_permission = "view_credits"
    list_display = ("customer", "free", "reserved", "owed")
    list_display_links = ("customer",)
    list_select_related = ("customer",)
    search_fields = ("customer__name",)
    fields = ("available", "held", "debt")
    views = (View("debt", "In debt", lambda rows: rows.filter(debt__gt=0), is_counted=True),)
    empty_text = "A balance appears with a customer's first credits."

    @column("available", ordering="available", num=True, css="phone-push")
    def free(self, balance: CreditBalance) -> str:
        """Credits that may be spent."""
        return credit_amount(balance.available)

    @column("held", ordering="held", num=True)
    def reserved(self, balance: CreditBalance) -> str:
        """Credits reserved."""
        return credit_amount(balance.held)

    @column("debt", ordering="debt", num=True)
    def owed(self, balance: CreditBalance) -> str:
        """Credits used beyond what was there."""
        return credit_amount(balance.debt)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """The customer as the title, with a way to its page."""
        url = reverse("admin:billing_customer_change", args=[row.pk])
        return {
            "page_title": row.customer.name,
            "page_lead": format_html('<a href="{}">Customer page</a>', url),
        }


def _expiring(rows: QuerySet[Any]) -> QuerySet[Any]:
    now = timezone.now()
    until = now + timedelta(days=EXPIRING_DAYS)
    return rows.filter(is_open=True, expires_at__gt=now, expires_at__lte=until)


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    """Lots of credits, each with its kind, life and what is left of it."""

    owner = "customer"
    view_permission = "view_credits"
    change_form_template = "admin/billing/creditgrant/change_form.html"
    list_display = ("name", "customer", "kind", "shown_state", "expires", "granted", "left")
    list_filter = ("kind", "is_open")
    list_select_related = ("customer",)
    search_fields = ("label",)
    views = (
        View("open", "Open", lambda rows: rows.filter(is_open=True)),
        View("expiring", "Expiring soon", _expiring, is_counted=True, is_late=True),
    )
    empty_text = "Credits are given by a plan, sold in packs, or given by hand for a reason."

    @column("grant")
    def name(self, grant: CreditGrant) -> str:
        """What it is called."""
        return str(grant)

    @column("state", ordering="is_open")
    def shown_state(self, grant: CreditGrant) -> SafeString:
        """Whether anything is left."""
        return grant_state(grant)

    @column("expires", ordering="expires_at", css="nowrap tnum")
    def expires(self, grant: CreditGrant) -> str:
        """The instant it ends, by its day."""
        return day(timezone.localtime(grant.expires_at)) if grant.expires_at else "never"

    @column("granted", ordering="amount", num=True, css="phone-hide")
    def granted(self, grant: CreditGrant) -> str:
        """How much it was."""
        return credit_amount(grant.amount)

    @column("left", ordering="remaining", num=True, css="phone-push")
    def left(self, grant: CreditGrant) -> str:
        """How much it still has."""
        return credit_amount(grant.remaining)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Its bar, its parts newest first, and where it came from."""
        parts = list(
            LedgerPart.objects.filter(grant_id=row.pk)
            .select_related("entry__meter")
            .order_by("-pk")[: PARTS_SHOWN + 1]
        )
        return {
            "page_title": str(row),
            "page_badge": grant_state(row),
            "page_lead": f"{row.get_kind_display().capitalize()} credits of {row.customer.name}, "
            f"granted {moment(row.created_at)}",
            "bar": grant_bar(row),
            "parts": [_part(part) for part in parts[:PARTS_SHOWN]],
            "has_more_parts": len(parts) > PARTS_SHOWN,
            "children": list(row.children.all()[:20]),
            "price": money_text(row.cost_total, row.currency) if row.cost_total else "",
            "sale_invoice": row.sale_line.invoice if row.sale_line else None,
        }


def grant_state(grant: CreditGrant) -> SafeString:
    """A grant's state, derived from its facts."""
    if grant.voided_at is not None:
        return badge("void", "void")
    if not grant.is_open:
        return badge("used up")
    now = timezone.now()
    if grant.expires_at is not None and grant.expires_at <= now:
        return badge("expired", "warn")
    if grant.effective_at > now:
        return badge(f"from {day(timezone.localtime(grant.effective_at))}", "held")
    return badge("open", "ok")


def grant_bar(grant: CreditGrant) -> dict[str, Any]:
    """Free, held and used parts of a grant as a bar with its words."""
    free = grant.remaining - grant.held
    used = grant.amount - grant.remaining
    words = (
        f"{credit_amount(free)} free, {credit_amount(grant.held)} held, {credit_amount(used)} used"
    )
    parts = (
        ("free", "free", free, ""),
        ("held", "held", grant.held, ""),
        ("track", "used", used, ""),
    )
    return {"parts": charts.bar(parts), "text": words, "free": free, "used": used}


def _part(part: LedgerPart) -> dict[str, Any]:
    entry = part.entry
    return {
        "when": moment(entry.occurred_at),
        "kind": states.entry_kind(entry),
        "what": f"{entry.meter.name}" if entry.meter else entry.reason,
        "reason": entry.reason if entry.meter else "",
        "amount": credit_amount(abs(part.amount)),
        "url": reverse("admin:billing_ledgerentry_change", args=[entry.pk]),
    }


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    """Credits reserved for one piece of use."""

    owner = "customer"
    view_permission = "view_credits"
    list_display = ("held", "customer", "shown_state", "meter", "until", "asked", "pinned")
    list_filter = ("state",)
    list_select_related = ("customer", "meter")
    fields = (
        "customer", "subscription", "project", "meter", "amount", "covered", "state", "held_at",
        "expires_at", "resolved_at", "overage_policy",
    )  # fmt: skip
    views = (View("open", "Open", lambda rows: rows.filter(is_open=True), is_counted=True),)
    empty_text = "A hold keeps credits for work that has started and has not ended."

    @column("held at", ordering="held_at", css="nowrap tnum")
    def held(self, hold: Hold) -> str:
        """When it was made."""
        return moment(hold.held_at)

    @column("state", ordering="state")
    def shown_state(self, hold: Hold) -> SafeString:
        """What became of it."""
        return states.state(hold, states.HOLD)

    @column("holds until", ordering="expires_at", css="nowrap tnum")
    def until(self, hold: Hold) -> str:
        """When it releases itself."""
        return moment(hold.expires_at)

    @column("asked for", num=True)
    def asked(self, hold: Hold) -> str:
        """What was asked for."""
        return credit_amount(hold.amount)

    @column("held", num=True)
    def pinned(self, hold: Hold) -> str:
        """What is reserved."""
        return credit_amount(hold.covered)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    """Every movement of credits."""

    owner = "customer"
    view_permission = "view_credits"
    change_form_template = "admin/billing/ledgerentry/change_form.html"
    list_display = ("number", "happened", "customer", "shown_kind", "about", "moved")
    list_display_links = ("number",)
    list_filter = ("kind",)
    list_select_related = ("customer", "meter", "grant")
    views = (
        View("granted", "Granted", lambda rows: rows.filter(kind=LedgerEntry.Kind.GRANT)),
        View("expired", "Expired", lambda rows: rows.filter(kind=LedgerEntry.Kind.EXPIRE)),
    )
    empty_text = "Credits move when they are granted, held, used, given back or expire."

    @column("number", num=False, css="tnum phone-hide")
    def number(self, entry: LedgerEntry) -> int:
        """Its number in the customer's ledger."""
        return entry.seq

    @column("happened", css="nowrap tnum")
    def happened(self, entry: LedgerEntry) -> str:
        """When it happened."""
        return moment(entry.occurred_at)

    @column("kind", ordering="kind")
    def shown_kind(self, entry: LedgerEntry) -> SafeString:
        """What kind of movement."""
        return states.entry_kind(entry)

    @column("about", css="phone-hide")
    def about(self, entry: LedgerEntry) -> str:
        """The grant or the meter it is about."""
        return str(entry.grant or entry.meter or entry.reason)

    @column("credits", num=True, css="phone-push")
    def moved(self, entry: LedgerEntry) -> str:
        """Credits, signed by what became of the available ones."""
        return signed_credits(moved(entry)) if moved(entry) else credit_amount(entry.amount)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Which grants gave or got how much, and the entries it caused."""
        parts = row.parts.select_related("grant").order_by("pk")
        return {
            "page_title": f"{credit_amount(row.amount)} credits {row.get_kind_display()}",
            "page_badge": states.entry_kind(row),
            "page_lead": f"{row.customer.name}, {moment(row.occurred_at)}, by {row.actor}",
            "parts": list(parts[:PARTS_SHOWN]),
            "effects": list(row.effects.all()[:PARTS_SHOWN]),
        }


def moved(entry: LedgerEntry) -> Decimal | None:
    """What an entry did to the available credits; None when it did nothing to them."""
    if entry.target == LedgerEntry.Bucket.AVAILABLE:
        return entry.amount
    if entry.source == LedgerEntry.Bucket.AVAILABLE:
        return -entry.amount
    return None
