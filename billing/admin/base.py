"""The ModelAdmin every page of the back office stands on: scoped, tuned, read only by default.

`accounts.admin.ScopedAdmin` decides who sees what. This adds how a page looks and stays quick:
a capped count, views as tabs, totals per currency, no script a page does not need.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db import models
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from accounts.admin import ScopedAdmin
from accounts.admin.scoped import ROWS_COUNTED_MAX
from billing.admin import choices
from billing.admin.charts import people_count
from billing.templatetags.billing_format import amount, count

VIEW_COUNTED_MAX: Final = 1_000
Function = TypeVar("Function", bound=Callable[..., Any])


def column(
    description: str,
    *,
    ordering: str | None = None,
    num: bool = False,
    css: str = "",
    empty: str | None = None,
) -> Callable[[Function], Function]:
    """A computed column: `num` stands right with tabular figures, `css` adds classes."""

    def decorate(function: Function) -> Function:
        shown = admin.display(description=description, ordering=ordering, empty_value=empty)(
            function
        )
        shown.cell_class = " ".join(part for part in ("num" if num else "", css) if part)  # type: ignore[attr-defined]
        return shown

    return decorate


@dataclass(frozen=True, slots=True)
class View:
    """A tab over a list: a name, its rows, and whether they are counted."""

    name: str
    label: str
    rows: Callable[[QuerySet[Any]], QuerySet[Any]]
    is_counted: bool = False
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Tab:
    """A view as the page shows it."""

    label: str
    url: str
    is_current: bool
    count: str | None
    is_late: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """A button of the page's head."""

    label: str
    url: str
    icon: str = ""
    is_main: bool = False


class ViewFilter(admin.SimpleListFilter):
    """Makes `?view=` a filter of the list; the tabs show it."""

    title = "view"
    parameter_name = "view"
    template = "admin/filter_hidden.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The names of the views."""
        return [(view.name, view.label) for view in model_admin.views]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen view; an unknown name chooses nothing."""
        for view in self.model_admin.views:
            if view.name == self.value():
                return view.rows(queryset)
        return queryset

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, Any],
        model: type[models.Model],
        model_admin: Any,
    ) -> None:
        self.model_admin = model_admin
        super().__init__(request, params, model, model_admin)


class DateInput(forms.DateInput):
    """The browser's own calendar; no script."""

    input_type = "date"

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs, format="%Y-%m-%d")


class PickedFields:
    """Fields of a page or an inline: what has a list is picked from it."""

    further_options: Mapping[str, Sequence[tuple[str, str]]] = {}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A field without the stock pop-up links; countries and the like are picked from lists."""
        field = super().formfield_for_dbfield(  # type: ignore[misc]
            db_field, request, **kwargs
        )
        if field is None:
            return None
        if isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        options = choices.options(db_field.name) + list(self.further_options.get(db_field.name, ()))
        if options and isinstance(field, forms.CharField):
            field.widget = forms.Select(choices=options)
            field.help_text = ""
        return field


class BackOfficeAdmin(PickedFields, ScopedAdmin):
    """A page of the back office."""

    list_per_page = 50
    list_max_show_all = 0
    save_on_top = False
    actions: Sequence[Any] | None = None
    formfield_overrides = {
        models.DateField: {"widget": DateInput},
        models.DateTimeField: {"widget": forms.DateTimeInput(attrs={"type": "datetime-local"})},
    }

    views: Sequence[View] = ()
    list_lead = ""
    empty_title = ""
    empty_text = ""
    totals_field = ""  # money field whose sums, one per currency, stand below the list

    @property
    def media(self) -> forms.Media:
        """Widgets bring their own scripts; a page needs no others."""
        return forms.Media()

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """The declared filters, and the views as one more."""
        filters = list(super().get_list_filter(request))
        return [ViewFilter, *filters] if self.views else filters

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """What the list declares, and the name of a tab."""
        is_view = bool(self.views) and lookup == ViewFilter.parameter_name
        return is_view or super().lookup_allowed(lookup, value, request)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with its tabs, totals and words for an empty one."""
        words = {
            "list_lead": self.list_lead,
            "empty_title": self.empty_title,
            "empty_text": self.empty_text,
            "list_tools": self.list_tools(request),
        }
        response = super().changelist_view(request, words | (extra_context or {}))
        cl = getattr(response, "context_data", {}).get("cl")
        if isinstance(response, TemplateResponse) and isinstance(cl, ChangeList):
            context = response.context_data or {}
            context["list_views"] = self._tabs(request, cl)
            context["list_totals"] = self._totals(cl)
            context["clear_search_url"] = cl.get_query_string(remove=["q"])
        return response

    def list_tools(self, request: HttpRequest) -> list[Tool]:
        """Buttons over the list besides the one that adds a row."""
        return []

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page of one row shows besides its fields: `page_title`, `page_lead`, …"""
        return {}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """One row's page."""
        context = {
            "show_save_and_add_another": False,
            "is_view_only": not self.has_change_permission(request),
        }
        response = super().change_view(
            request, object_id, form_url, context | (extra_context or {})
        )
        if isinstance(response, TemplateResponse) and response.context_data is not None:
            row = response.context_data.get("original")
            if row is not None:
                response.context_data |= self.page_context(request, row)
        return response

    def _tabs(self, request: HttpRequest, cl: ChangeList) -> list[Tab]:
        if not self.views:
            return []
        current = request.GET.get("view", "")
        every = self.get_queryset(request)
        tabs = [Tab("All", "?", not current, None, False)]
        for view in self.views:
            number = None
            if view.is_counted:
                rows = view.rows(every).order_by()[:VIEW_COUNTED_MAX].count()
                number = "999+" if rows >= VIEW_COUNTED_MAX else count(rows)
                number = "" if number == "0" else number
            tabs.append(
                Tab(
                    view.label,
                    f"?view={view.name}",
                    current == view.name,
                    number or None,
                    view.is_late,
                )
            )
        return tabs

    def _totals(self, cl: ChangeList) -> dict[str, Any] | None:
        if not self.totals_field or not cl.result_count or cl.result_count > ROWS_COUNTED_MAX:
            return None
        rows = list(
            cl.queryset.order_by()
            .values("currency")
            .annotate(total=Sum(self.totals_field), number=Count("pk"))
            .order_by("-total")
        )
        number = sum(row["number"] for row in rows)
        names = self.opts.verbose_name, self.opts.verbose_name_plural
        return {
            "title": f"{people_count(number, str(names[0]), str(names[1]))}, total",
            "rows": [
                {"currency": row["currency"], "text": amount(row["total"], row["currency"])}
                for row in rows
            ],
        }


class ReadOnlyAdmin(BackOfficeAdmin):
    """Rows that only services write: they are shown, never edited, added or deleted by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes one."""
        return False


class KeptAdmin(BackOfficeAdmin):
    """Rows people edit but nobody deletes, because money hangs on them."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows with history stay."""
        return False


def today() -> Any:
    """The day in the reader's time zone."""
    return timezone.localdate()
