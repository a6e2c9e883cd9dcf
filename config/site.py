"""The back office: Django's admin site with its menu, dashboard, search and help.

The pages register themselves with this site, so it imports them only when it is asked for one.
"""

from typing import Any, Final

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import access
from accounts.login import LoginForm
from billing.models import LegalEntity

GREETINGS: Final = ((5, _("Good night")), (12, _("Good morning")), (18, _("Good afternoon")))
GUIDES: Final = (
    ("plans", _("Plans and prices"), _("What a customer pays for, and why terms never change.")),
    ("credits", _("Credits"), _("Grants, holds, the order they are used in, and expiry.")),
    ("invoices", _("Invoices"), _("From a run to a number, a PDF and a payment.")),
    ("limits", _("Limits"), _("What happens when the credits are used up.")),
    ("usage-rules", _("Usage rules"), _("How use becomes charges, and what is not charged.")),
    ("roles", _("People and roles"), _("Who may see which customer and do what.")),
    ("runs", _("Invoice runs"), _("Draft, review, approve, issue: the four steps of a month.")),
)


class BackOfficeSite(AdminSite):
    """The face of the product. Who may enter is `accounts.access`'s answer, not a staff flag."""

    site_header = "Keter Billing"
    site_title = "Keter Billing"
    index_title = _("Dashboard")
    site_url = None
    enable_nav_sidebar = True
    login_form = LoginForm
    empty_value_display = "—"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether this person may enter at all."""
        return access.may_enter(request.user)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Search and help beside the stock pages."""
        own: list[URLPattern | URLResolver] = [
            path("search/", self.admin_view(self.search), name="search"),
            path("help/", self.admin_view(self.help), name="help"),
            path("help/<slug:guide>/", self.admin_view(self.help), name="help_guide"),
        ]
        # "View on site" would tell the address of any row to anybody who may enter.
        stock = [url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site"]
        return [*own, *stock]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page needs: names, the menu, and notices about demo data and dead workers."""
        from billing.admin import menu, notices
        from billing.admin.scope import scope_of

        shown: dict[str, Any] = {
            "site_title": self.site_title,
            "site_header": self.site_header,
            "site_url": self.site_url,
            "has_permission": self.has_permission(request),
            "is_popup": False,
            "is_nav_sidebar_enabled": True,
            "log_entries": None,
            "available_apps": [],
            "menu": [],
            "notices": [],
        }
        if shown["has_permission"]:
            from billing.admin import menu, notices
            from billing.admin.scope import scope_of

            scope = scope_of(request)
            at = timezone.now()
            shown["menu"] = menu.build(self, request, scope, today=timezone.localdate())
            shown["notices"] = notices.build(scope, at=at)
        return shown

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The dashboard."""
        from billing.admin import dashboard
        from billing.admin.scope import scope_of

        board = dashboard.build(scope_of(request), at=timezone.localtime())
        shown = {
            **self.each_context(request),
            "title": self.index_title,
            "subtitle": None,
            "greeting": _greeting(request),
            "board": board,
            "today": timezone.localdate(),
            **(extra_context or {}),
        }
        request.current_app = self.name
        return TemplateResponse(request, "admin/index.html", shown)

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """Apps are no subject here; the dashboard is the way in."""
        return self.index(request, extra_context)

    def search(self, request: HttpRequest) -> HttpResponse:
        """Everything that fits, of what the reader may see."""
        from billing.admin import search as search_page
        from billing.admin.scope import scope_of

        text = request.GET.get("q", "")
        shown = {
            **self.each_context(request),
            "title": _("Search"),
            "search_text": text,
            "groups": search_page.search(scope_of(request), text),
        }
        return TemplateResponse(request, "admin/search.html", shown)

    def help(self, request: HttpRequest, guide: str = "") -> HttpResponse:
        """The guides, or one of them."""
        known = {slug: title for slug, title, _about in GUIDES}
        shown = {**self.each_context(request), "guides": GUIDES}
        if not guide:
            return TemplateResponse(
                request, "help/index.html", shown | {"title": _("Guides"), "subtitle": None}
            )
        if guide not in known:
            raise Http404
        try:
            get_template(f"help/{guide}.html")
        except TemplateDoesNotExist as missing:
            raise Http404 from missing
        return TemplateResponse(
            request, f"help/{guide}.html", shown | {"title": known[guide], "guide": guide}
        )

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The way in, with the seller's name when there is one seller."""
        sellers = list(LegalEntity.objects.values_list("legal_name", flat=True)[:2])
        shown = {"seller_name": sellers[0] if len(sellers) == 1 else ""}
        return super().login(request, shown | (extra_context or {}))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What is missing and what is hidden answer alike, in the site's own dress."""
    return _plain_page(request, "admin/404.html", status=404)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A page the reader's roles do not open."""
    return _plain_page(request, "admin/403.html", status=403)


def _plain_page(request: HttpRequest, template: str, *, status: int) -> HttpResponse:
    shown = admin.site.each_context(request)
    return TemplateResponse(request, template, shown, status=status).render()


def _greeting(request: HttpRequest) -> str:
    hour = timezone.localtime().hour
    words = next((text for until, text in GREETINGS if hour < until), _("Good evening"))
    user = request.user
    if isinstance(user, AnonymousUser):
        return str(words)
    name = str(user).split(" ")[0].split("@")[0]
    return f"{words}, {name}"
