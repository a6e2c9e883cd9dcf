"""The site refuses to start with a page that could show somebody else's rows."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.contrib import admin
from django.contrib.admin.filters import FieldListFilter, RelatedFieldListFilter
from django.contrib.admin.utils import get_fields_from_path, get_model_from_relation
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import FieldDoesNotExist
from django.db import connections
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP

from accounts.access import CUSTOMER_MODEL
from accounts.admin.scoped import ScopedAdmin, ScopedFields, ScopedRelatedFilter
from accounts.models import User
from accounts.roles import SENTENCES

Apps = Sequence[AppConfig] | None
CODES: Final = (
    "view_permission",
    "add_permission",
    "change_permission",
    "delete_permission",
    "house_permission",
)


@register(Tags.admin)
def pages_are_scoped(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Every page and every inline of every site asks `accounts.access`."""
    found: list[CheckMessage] = []
    for site in admin.sites.all_sites:
        for page in site._registry.values():
            found += page_errors(page)
    return found


def page_errors(page: Any) -> list[CheckMessage]:
    """What is wrong with one page; nothing, usually."""
    if not isinstance(page, ScopedAdmin):
        return [_error("E001", page, "is no ScopedAdmin, so it shows everybody's rows")]
    found = [*_codes(page), *_actions(page), *_filters(page), *_fields(page)]
    found += [
        _error("E002", page, f"has {inline.__name__}, whose choices are not scoped")
        for inline in _inlines(page)
        if not issubclass(inline, ScopedFields) and not _is_read_only(inline)
    ]
    if page.list_editable:
        found.append(_error("E003", page, "edits in its list, where no row is asked for"))
    return found


def _inlines(page: Any) -> list[type[Any]]:
    return list(page.inlines)


def _codes(page: ScopedAdmin) -> Iterator[CheckMessage]:
    for name in CODES:
        code = getattr(page, name)
        if code is not None and code not in SENTENCES:
            yield _error("E004", page, f"asks for {code}, which no role can give")
    steps = [] if page.owner in {None, "pk"} else str(page.owner).split(LOOKUP_SEP)
    is_customer = page.model._meta.label_lower == CUSTOMER_MODEL
    if is_customer != (page.owner == "pk"):
        yield _error("E005", page, "is owned by itself, or it is the customer and not so declared")
    elif steps and not _ends_at_customer(page.model, steps):
        yield _error("E005", page, f"has the owner {page.owner}, which leads to no customer")


def _actions(page: Any) -> Iterator[CheckMessage]:
    for function, name, _ in page._get_base_actions():
        if page.actions is not None and not getattr(function, "allowed_permissions", None):
            yield _error("E006", page, f"has the action {name}, which does not say for whom it is")


def _filters(page: Any) -> Iterator[CheckMessage]:
    for item in page.list_filter:
        if isinstance(item, str):
            path, chosen = item, None
        elif isinstance(item, (tuple, list)):
            path, chosen = item
        else:
            continue
        if _crosses_customers(page.model, path):
            yield _error("E007", page, f"filters by {path}, across customers")
        if (
            chosen is not None
            and issubclass(chosen, FieldListFilter)
            and issubclass(chosen, RelatedFieldListFilter)
            and not issubclass(chosen, ScopedRelatedFilter)
        ):
            yield _error("E008", page, f"filters by {path} with choices that are not scoped")


def _fields(page: ScopedAdmin) -> Iterator[CheckMessage]:
    if page.raw_id_fields:
        yield _error("E009", page, "has raw_id_fields, which tell the label of any row")
    if page.view_on_site:
        yield _error("E010", page, "links to the site, which tells the address of any row")


def _crosses_customers(model: type[Model], path: str) -> bool:
    """Whether a filter's path passes through rows that belong to customers, or to people."""
    try:
        fields = get_fields_from_path(model, path)
    except FieldDoesNotExist:
        return False
    for field in fields:
        if not field.is_relation:
            continue
        target = get_model_from_relation(field)
        is_customer = target._meta.label_lower == CUSTOMER_MODEL
        if is_customer or _owner_field(target) or issubclass(target, User):
            return True
    return False


def _owner_field(model: type[Model]) -> bool:
    return any(
        field.many_to_one and _label(field.related_model) == CUSTOMER_MODEL
        for field in model._meta.fields
        if field.is_relation
    )


def _label(model: Any) -> str:
    return str(model._meta.label_lower)


def _ends_at_customer(model: type[Model], steps: Iterable[str]) -> bool:
    at: Any = model
    for step in steps:
        try:
            field = at._meta.get_field(step)
        except FieldDoesNotExist:
            return False
        if not field.is_relation:
            return False
        at = field.related_model
    return bool(at._meta.label_lower == CUSTOMER_MODEL)


def _is_read_only(inline: type[Any]) -> bool:
    """An inline that shows and offers no choices: everything in it is read only."""
    fields = getattr(inline, "fields", None)
    read_only = set(getattr(inline, "readonly_fields", ()))
    return bool(fields) and set(fields or ()) <= read_only


@register(Tags.database)
def generic_permissions_are_empty(
    app_configs: Apps, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """guardian's generic tables stay empty: their rows would outlive what they point at."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        tables = set(connections[alias].introspection.table_names())
        for name in ("UserObjectPermission", "GroupObjectPermission"):
            model = apps.get_model("guardian", name)
            if model._meta.db_table in tables and model._default_manager.using(alias).exists():
                found.append(
                    Error(
                        f"{model._meta.db_table} has rows; only accounts.roles gives permissions.",
                        hint="Delete the rows and give a role instead.",
                        id="accounts.E011",
                    )
                )
    return found


def _error(number: str, page: Any, what: str) -> Error:
    name = f"{type(page).__module__}.{type(page).__qualname__}"
    return Error(f"{name} {what}.", obj=type(page), id=f"accounts.{number}")
