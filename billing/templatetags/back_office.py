"""Pieces of the skin: icons, the list table, filter chips, paging and the menu's groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, cast

from django import template
from django.contrib.admin.helpers import AdminReadonlyField
from django.contrib.admin.templatetags.admin_list import result_headers
from django.contrib.admin.utils import (
    display_for_field,
    display_for_value,
    label_for_field,
    lookup_field,
)
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db import models
from django.template import TemplateSyntaxError
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from billing.templatetags.billing_format import NOTHING, count, day, digits, moment, money_text

register = template.Library()

_MONEY_PLACES: Final = (2, 3)  # booked money; credits have six places, prices ten

ROWS_COUNTED_MAX: Final = 10_000  # what the lists' paginator counts exactly

_NUMBERS: Final = (
    models.IntegerField,
    models.DecimalField,
    models.FloatField,
)


@register.simple_tag
def icon(name: str) -> SafeString:
    """One drawing of the sprite; decoration only, the words stand beside it."""
    return format_html('<svg class="icon" aria-hidden="true"><use href="#i-{}"></use></svg>', name)


@register.filter
def initials(user: Any) -> str:
    """Up to two letters that stand for a person."""
    words = str(user.get_full_name() or user.get_username()).replace("@", " ").split()
    return "".join(word[0] for word in words[:2]).upper()


@register.simple_tag
def menu_group(menu: Sequence[Any] | None, opts: Any) -> str:
    """The title of the menu group a model's pages stand in, or nothing."""
    label = opts.label_lower
    for group in menu or ():
        if any(label == item.model_label for item in group.items):
            title = str(group.title)
            return "" if title.lower() == str(opts.verbose_name_plural).lower() else title
    return ""


@dataclass(frozen=True, slots=True)
class Header:
    """One column head of a list."""

    text: str
    classes: str
    url: str | None
    aria_sort: str
    is_toggle: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a list: what it says, how it stands, where it leads."""

    tag: str
    classes: str
    value: str
    url: str | None
    label: str  # the column's name, shown where a row becomes a card


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a list."""

    checkbox: str
    cells: list[Cell]


@register.inclusion_tag("admin/change_list_results.html")
def result_table(cl: ChangeList) -> dict[str, Any]:
    """The table of a list. Numbers stand right; a column's own classes come from its function."""
    columns = [_column_classes(str(name), cl.model_admin) for name in cl.list_display]
    return {
        "caption": cl.opts.verbose_name_plural,
        "headers": list(_headers(cl, columns)),
        "rows": list(_rows(cl, columns)),
    }


def _column_classes(name: str, model_admin: Any) -> str:
    classes = [f"field-{name}"] if name != "action_checkbox" else ["action-checkbox-column"]
    try:
        field = model_admin.opts.get_field(name)
    except FieldDoesNotExist:
        classes.append(getattr(getattr(model_admin, name, None), "cell_class", ""))
    else:
        if isinstance(field, _NUMBERS) and not field.is_relation:
            classes.append("num")
        elif isinstance(field, models.DateField):
            classes.append("nowrap tnum")
    return " ".join(part for part in classes if part)


def _headers(cl: ChangeList, columns: Sequence[str]) -> Iterator[Header]:
    for header, classes in zip(result_headers(cl), columns, strict=True):
        is_sorted = header.get("sorted", False)
        yield Header(
            text=str(header["text"]),
            classes=f"{classes} sorted" if is_sorted else classes,
            url=cast("str | None", header.get("url_toggle" if is_sorted else "url_primary")),
            aria_sort=("ascending" if header["ascending"] else "descending") if is_sorted else "",
            is_toggle="action-checkbox" in classes,
        )


def _rows(cl: ChangeList, columns: Sequence[str]) -> Iterator[Row]:
    for row in cl.result_list:
        checkbox = ""
        cells: list[Cell] = []
        has_link = False
        for name, classes in zip(map(str, cl.list_display), columns, strict=True):
            if name == "action_checkbox":
                checkbox = cl.model_admin.action_checkbox(row)
                continue
            leads = cl.list_display_links and name in cl.list_display_links
            value = _cell_value(name, row, cl.model_admin)
            cells.append(
                Cell(
                    tag="th" if leads and not has_link else "td",
                    classes=f"{classes} dash" if value == NOTHING else classes,
                    value=value,
                    url=cl.url_for_result(row) if leads else None,
                    label=_label(name, classes, cl),
                )
            )
            has_link = has_link or bool(leads)
        yield Row(checkbox=checkbox, cells=cells)


def _label(name: str, classes: str, cl: ChangeList) -> str:
    """Figures and days need their name on a narrow screen; words speak for themselves."""
    if "phone-push" in classes or ("num" not in classes and "tnum" not in classes):
        return ""
    return str(label_for_field(name, cl.model, cl.model_admin))


def _cell_value(name: str, row: models.Model, model_admin: Any) -> str:
    try:
        field, attribute, value = lookup_field(name, row, model_admin)
    except ObjectDoesNotExist:
        return NOTHING
    if field is None or field.auto_created:
        is_flag = getattr(attribute, "boolean", False)
        return _yes_no(value) if is_flag else _plain_value(value)
    if isinstance(field.remote_field, models.ManyToOneRel):
        return _plain_value(getattr(row, field.name))
    if isinstance(field, models.BooleanField):
        return _yes_no(value)
    if isinstance(value, date):
        return _plain_value(value)
    return str(display_for_field(value, field, NOTHING))


def _plain_value(value: object) -> str:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return day(value)
    return str(display_for_value(value, NOTHING))


def _yes_no(value: object) -> str:
    return str(_("yes")) if value else str(_("no"))


@register.simple_tag
def readonly_text(field: AdminReadonlyField) -> str:
    """A field that is only shown: amounts, days and instants as everywhere else on the site."""
    name, row = cast("str", field.field["field"]), field.form.instance
    try:
        column = row._meta.get_field(name)
        value = getattr(row, name)
    except (FieldDoesNotExist, AttributeError, TypeError):
        return str(field.contents())
    if isinstance(value, (bool, date)):
        return _yes_no(value) if isinstance(value, bool) else _plain_value(value)
    if isinstance(column, models.DecimalField) and value is not None:
        currency = getattr(row, "currency", "")
        is_money = column.decimal_places in _MONEY_PLACES and len(currency) == 3
        return money_text(value, currency) if is_money else digits(value, 0)
    if isinstance(column, models.JSONField):
        return ", ".join(f"{key}: {part}" for key, part in value.items()) if value else NOTHING
    return str(field.contents())


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter in use, and the address without it."""

    title: str
    value: str
    remove_url: str


@register.simple_tag
def active_filters(cl: ChangeList) -> list[Chip]:
    """The filters in use, each with its removal."""
    chips = []
    for spec in cl.filter_specs:
        choices = list(spec.choices(cl))
        chosen = next((choice for choice in choices[1:] if choice["selected"]), None)
        if chosen is not None and spec.template != "admin/filter_hidden.html":
            chips.append(
                Chip(
                    title=str(spec.title),
                    value=str(chosen["display"]),
                    remove_url=str(choices[0]["query_string"]),
                )
            )
    return chips


@dataclass(frozen=True, slots=True)
class PageNote:
    """Where in the list the reader stands."""

    text: str
    newer_url: str | None
    older_url: str | None


@register.simple_tag
def page_note(cl: ChangeList) -> PageNote:
    """`1–50 of 64`; a list longer than the counted rows says so instead of counting on."""
    first = (cl.page_num - 1) * cl.list_per_page + 1
    last = first + len(cl.result_list) - 1
    if cl.result_count > ROWS_COUNTED_MAX + 1:
        total = _("about %(count)s") % {"count": count(cl.result_count)}
    elif cl.result_count > ROWS_COUNTED_MAX:
        total = _("more than %(count)s") % {"count": count(ROWS_COUNTED_MAX)}
    else:
        total = count(cl.result_count)
    return PageNote(
        text=_("%(first)s–%(last)s of %(total)s")
        % {"first": count(first), "last": count(last), "total": total},
        newer_url=cl.get_query_string({PAGE_VAR: cl.page_num - 1}) if cl.page_num > 1 else None,
        older_url=(
            cl.get_query_string({PAGE_VAR: cl.page_num + 1})
            if cl.page_num < cl.paginator.num_pages
            else None
        ),
    )


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: object) -> str:
    """The page's own query string with some values changed; None takes one away."""
    request = context.get("request")
    if request is None:
        raise TemplateSyntaxError("the page has no request")
    params = request.GET.copy()
    for name, value in changes.items():
        if value is None:
            params.pop(name, None)
        else:
            params[name] = str(value)
    return f"?{params.urlencode()}"
