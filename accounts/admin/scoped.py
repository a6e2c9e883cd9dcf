"""The ModelAdmin that leaks nothing: rows, choices, filters, prefilled values, labels and buttons.

Scoping the list alone is not enough: the stock admin shows rows of other customers through select
boxes, autocompletion, filters, prefilled forms and delete pages, and accepts them in a POST. Here
each of these asks `accounts.access`. A row that is hidden answers like a row that is missing.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ClassVar, Final, cast

from django.contrib import admin, messages
from django.contrib.admin.filters import RelatedFieldListFilter
from django.contrib.admin.options import BaseModelAdmin
from django.contrib.admin.utils import get_fields_from_path, get_model_from_relation
from django.core.exceptions import (
    BadRequest,
    FieldDoesNotExist,
    PermissionDenied,
    ValidationError,
)
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import Model, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.text import smart_split, unescape_string_literal

from accounts import access
from accounts.models import HOUSE_PERMISSIONS
from accounts.roles import CUSTOMER_PERMISSIONS

ROWS_COUNTED_MAX: Final = 10_000
FOUND_MAX: Final = 1_000
CHOICES_MAX: Final = 200
WORDS_MAX: Final = 8
# Lookups of a list's address that may follow an allowed field.
LOOKUPS: Final = frozenset(
    {"exact", "in", "isnull", "gt", "gte", "lt", "lte", "date", "year", "month", "day"}
)
# Permission a row is asked for, by the stock name of what is done with it.
STOCK: Final = ("view", "add", "change", "delete")


class LargePaginator(Paginator):
    """Counts at most 10,001 rows; past that the database's own estimate is good enough."""

    @cached_property
    def count(self) -> int:
        """Rows, exact up to 10,000."""
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        counted = rows.order_by()[: ROWS_COUNTED_MAX + 1].count()
        if counted <= ROWS_COUNTED_MAX or rows.query.where:
            return counted
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
                [rows.model._meta.db_table],
            )
            row = cursor.fetchone()
        return max(counted, row[0] if row else 0)

    @cached_property
    def num_pages(self) -> int:
        """Pages that may be opened: none past the rows that are counted."""
        return max(1, -(-min(self.count, ROWS_COUNTED_MAX) // self.per_page))


class ScopedRelatedFilter(RelatedFieldListFilter):
    """A filter by a related row whose choices are those the reader may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        """The visible rows, a bounded number of them."""
        rows = visible_rows(model_admin, get_model_from_relation(field), request)
        return [(row.pk, str(row)) for row in rows[:CHOICES_MAX]]


def visible_rows(
    model_admin: "ScopedFields", model: type[Model], request: HttpRequest
) -> QuerySet[Any]:
    """The rows of another model that the reader of `model_admin` may see and choose."""
    registered = model_admin.admin_site._registry.get(model)
    if isinstance(registered, ScopedAdmin):
        return registered.get_queryset(request)
    rows = model._default_manager.all()
    code = model_admin.view_permission
    if registered is None and code and access.is_house_wide(request.user, code):
        return rows
    # A model without a page shows nothing to a reader of single customers.
    return rows.none()


class ScopedFields(BaseModelAdmin):
    """What pages and inlines share: choices of relations are the reader's own."""

    # Path from a row to its customer: "customer", "invoice__customer"; "pk" for customers
    # themselves; None for rows of the house, which belong to no customer.
    owner: ClassVar[str | None] = None
    # Codes of accounts.roles or accounts.models. What is not declared is only a superuser's,
    # and deleting is nobody's.
    view_permission: ClassVar[str | None] = None
    add_permission: ClassVar[str | None] = None
    change_permission: ClassVar[str | None] = None
    delete_permission: ClassVar[str | None] = None
    view_on_site = False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A choice among the reader's rows; a POST of any other row is an invalid choice."""
        kwargs["queryset"] = self._narrowed(db_field, request, kwargs.get("queryset"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The same for several rows."""
        kwargs["queryset"] = self._narrowed(db_field, request, kwargs.get("queryset"))
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def choices_of(self, db_field: Any, request: HttpRequest) -> QuerySet[Any]:
        """Rows that may be put into `db_field`.

        The field that decides whose row this is takes only customers on which the reader may
        write, not all that the reader may see.
        """
        rows = visible_rows(self, db_field.remote_field.model, request)
        first, _, rest = (self.owner or "").partition(LOOKUP_SEP)
        if first == db_field.name:
            code = self.writing_permission(request)
            rows = self.limited(rows, request, code, rest or "pk")
        return rows

    def writing_permission(self, request: HttpRequest) -> str | None:
        """The code this request needs to write: that of adding, or of changing."""
        match = request.resolver_match
        if match is not None and (match.url_name or "").endswith("_add"):
            return self.add_permission or self.change_permission
        return self.change_permission

    def limited(
        self, rows: QuerySet[Any], request: HttpRequest, code: str | None, owner: str | None
    ) -> QuerySet[Any]:
        """Rows on which the reader holds `code`."""
        if code is None:
            return rows if is_superuser(request) else rows.none()
        if owner is None:
            return rows if access.is_house_wide(request.user, code) else rows.none()
        return access.scoped(rows, request.user, code, owner)

    def holds(self, request: HttpRequest, code: str | None, row: Model | None) -> bool:
        """Whether the reader holds `code` on `row`, or anywhere when there is no row."""
        if code is None:
            return is_superuser(request)
        ids = access.visible_customer_ids(request.user, code)
        if ids is access.EVERYTHING:
            return True
        if self.owner is None:
            return False
        if row is None:
            return bool(ids)
        return access.customer_id_of(row, self.owner) in ids

    def _narrowed(
        self, db_field: Any, request: HttpRequest, given: QuerySet[Any] | None
    ) -> QuerySet[Any]:
        rows = self.choices_of(db_field, request)
        return rows if given is None else given.filter(pk__in=rows.order_by().values("pk"))


class ScopedAdmin(ScopedFields, admin.ModelAdmin):
    """A page whose every answer is the reader's own."""

    show_full_result_count = False
    paginator = LargePaginator
    # A code that, held on the whole house, shows every row: how an auditor sees what is otherwise
    # for those who act on it.
    house_permission: ClassVar[str | None] = None
    # Further fields a list's address may filter by.
    lookups_allowed: ClassVar[Sequence[str]] = ()

    # --- Who may ---------------------------------------------------------------------------

    @property
    def reading_permission(self) -> str:
        """The code that shows a row."""
        return self.view_permission or ("view_customer" if self.owner else "view_catalog")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Shown in menus to whoever may see a row of it."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared, or house-wide."""
        return self.sees_all(request) or self.holds(request, self.reading_permission, obj)

    def sees_all(self, request: HttpRequest) -> bool:
        """Whether the reader sees every row by the house's own code."""
        code = self.house_permission
        return code is not None and access.is_house_wide(request.user, code)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Where declared; a new customer, which no role covers yet, by the house only."""
        code = self.add_permission or self.change_permission
        if self.owner == "pk" and code is not None:
            return access.is_house_wide(request.user, code)
        return self.holds(request, code, None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared."""
        return self.holds(request, self.change_permission, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared, else nobody, superusers included."""
        code = self.delete_permission
        return code is not None and self.holds(request, code, obj)

    # --- Rows ------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows the reader may see."""
        rows = super().get_queryset(request)
        if self.sees_all(request):
            return rows
        return self.limited(rows, request, self.reading_permission, self.owner)

    def get_ordering(self, request: HttpRequest) -> Any:
        """Always some order: pages of an unordered list repeat rows."""
        return super().get_ordering(request) or self.opts.ordering or ("-pk",)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """The row; hidden and missing alike are not found."""
        row = super().get_object(request, object_id, from_field)
        if row is None:
            raise Http404
        return row

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        raise Http404

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list."""
        if any("\x00" in part for pair in request.GET.lists() for part in (pair[0], *pair[1])):
            raise BadRequest("An address has no NUL in it.")
        return super().changelist_view(request, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save, after asking once more: the form may have moved the row to another customer."""
        code = self.change_permission if change else self.add_permission or self.change_permission
        if not self.holds(request, code, obj):
            raise PermissionDenied
        super().save_model(request, obj, form, change)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Values from the address, without rows the reader may not choose."""
        given = cast("dict[str, Any]", super().get_changeform_initial_data(request))
        return {name: value for name, value in given.items() if self._may_prefill(request, name)}

    def _may_prefill(self, request: HttpRequest, name: str) -> bool:
        try:
            field = self.opts.get_field(name)
        except FieldDoesNotExist:
            return False
        if not field.is_relation:
            return True
        if not isinstance(field, (models.ForeignKey, models.ManyToManyField)):
            return False
        wanted = {part for part in request.GET[name].split(",") if part}
        try:
            found = self.choices_of(field, request).filter(pk__in=wanted).order_by().count()
        except (ValueError, TypeError, ValidationError):
            return False
        return found == len(wanted)

    def get_deleted_objects(
        self, objs: Iterable[Any], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """What goes with a deletion, in numbers: names of other rows may be somebody else's."""
        names, counts, needed, protected = super().get_deleted_objects(objs, request)  # type: ignore[arg-type]
        shown: list[Any] = [str(row) for row in objs]
        own = str(self.opts.verbose_name_plural)
        shown += [f"{number} {name}" for name, number in counts.items() if name != own]
        kept = [f"{len(protected)} rows that are kept for ever"] if protected else []
        del names
        return shown, counts, needed, kept

    # --- Filters and search ----------------------------------------------------------------

    def get_list_filter(self, request: HttpRequest) -> Any:
        """The declared filters; those by a related row offer only visible ones."""
        return [self._scoped_filter(item) for item in super().get_list_filter(request)]

    def _scoped_filter(self, item: Any) -> Any:
        if isinstance(item, str):
            path, chosen = item, None
        elif isinstance(item, (tuple, list)):
            path, chosen = item
        else:
            return item
        if chosen is None:
            last = get_fields_from_path(self.model, path)[-1]
            return (path, ScopedRelatedFilter) if last.is_relation else item
        if issubclass(chosen, RelatedFieldListFilter) and not issubclass(
            chosen, ScopedRelatedFilter
        ):
            return path, ScopedRelatedFilter
        return item

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only what the list declares: a hidden column cannot be guessed through the address."""
        parts = lookup.split(LOOKUP_SEP)
        while len(parts) > 1 and parts[-1] in LOOKUPS:
            parts.pop()
        path = LOOKUP_SEP.join(parts)
        allowed = self._allowed_paths(request)
        if path in allowed:
            return True
        return (
            len(parts) > 1 and parts[-1] in {"id", "pk"} and LOOKUP_SEP.join(parts[:-1]) in allowed
        )

    def _allowed_paths(self, request: HttpRequest | None) -> set[str]:
        allowed = {"pk", self.opts.pk.name, *self.lookups_allowed}
        if self.date_hierarchy:
            allowed.add(self.date_hierarchy)
        if self.owner not in {None, "pk"}:
            owner = str(self.owner)
            first = owner.partition(LOOKUP_SEP)[0]
            allowed |= {owner, first, f"{first}_id"}
        filters: Any = self.list_filter if request is None else self.get_list_filter(request)
        for item in filters:
            if isinstance(item, str):
                allowed.add(item)
            elif isinstance(item, (tuple, list)):
                allowed.add(item[0])
        return allowed

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Rows in which every word is found.

        Two steps: related rows are searched by themselves, in their own index, and only their ids
        come here; an OR across a join would read both tables whole.
        """
        fields = self.get_search_fields(request) or ()
        words = _words(search_term)
        if not fields or not words:
            return queryset, False
        for word in words:
            anywhere = Q()
            for field in fields:
                anywhere |= self._found(request, str(field), word)
            queryset = queryset.filter(anywhere)
        return queryset, False

    def _found(self, request: HttpRequest, field: str, word: str) -> Q:
        how = {"^": "istartswith", "=": "iexact"}.get(field[0], "icontains")
        path = field.lstrip("^=@")
        *steps, last = path.split(LOOKUP_SEP)
        if not steps:
            return Q(**{f"{last}__{how}": word})
        relations: list[Any] = get_fields_from_path(self.model, LOOKUP_SEP.join(steps))
        target = get_model_from_relation(relations[-1])
        rows = visible_rows(self, target, request).order_by()
        if not isinstance(self.admin_site._registry.get(target), ScopedAdmin):
            rows = target._default_manager.order_by()  # own rows are shown, and only those
        ids = list(
            rows.filter(**{f"{last}__{how}": word}).values_list("pk", flat=True)[: FOUND_MAX + 1]
        )
        if len(ids) > FOUND_MAX:
            return Q(**{f"{path}__{how}": word})
        way = LOOKUP_SEP.join(steps)
        if any(info.m2m for relation in relations for info in relation.path_infos):
            own = self.model._default_manager.filter(**{f"{way}__in": ids})
            return Q(pk__in=own.order_by().values("pk"))
        return Q(access.among(way, ids))

    # --- Actions ---------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """The buttons over a list: only those that say whom they are for, on permitted rows."""
        offered: dict[str, Any] = super().get_actions(request)
        return {
            name: (self._on_permitted_rows(function), name, description)
            for name, (function, _, description) in offered.items()
            if getattr(function, "allowed_permissions", None)
        }

    def rows_held(
        self, request: HttpRequest, rows: QuerySet[Any], permissions: Sequence[str]
    ) -> QuerySet[Any]:
        """The rows on which the reader holds one of the permissions an action declares."""
        codes = [
            getattr(self, f"{name}_permission") if name in STOCK else name for name in permissions
        ]
        held: set[int] = set()
        for code in codes:
            if code is None:
                if is_superuser(request):
                    return rows
                continue
            ids = access.visible_customer_ids(request.user, code)
            if ids is access.EVERYTHING:
                return rows
            held |= ids or set()
        if self.owner is None or not held:
            return rows.none()
        return rows.filter(access.among(self.owner, list(held)))

    def _on_permitted_rows(self, action: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(action)
        def run(page: Any, request: HttpRequest, rows: QuerySet[Any]) -> Any:
            permitted = self.rows_held(request, rows, action.allowed_permissions)  # type: ignore[attr-defined]
            if permitted is not rows:
                left_out = rows.count() - permitted.count()
                if left_out:
                    text = f"{left_out} of the chosen rows are not yours to do this with."
                    self.message_user(request, text, messages.WARNING)
            return action(page, request, permitted)

        return run


class ScopedInlineMixin(ScopedFields):
    """Rows below a row: seen by whoever sees the row above, written where declared."""

    extra = 0

    def _above(self) -> ScopedAdmin:
        return cast("ScopedAdmin", self.admin_site._registry[self.parent_model])  # type: ignore[attr-defined]

    def _holds_above(self, request: HttpRequest, code: str | None, row: Any) -> bool:
        return code is not None and self._above().holds(request, code, row)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As the row above, or by a permission of its own."""
        code = self.view_permission or self._above().reading_permission
        return self._above().holds(request, code, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared."""
        return self._holds_above(request, self.add_permission or self.change_permission, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared."""
        return self._holds_above(request, self.change_permission, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Where declared."""
        return self._holds_above(request, self.delete_permission, obj)


class ScopedTabularInline(ScopedInlineMixin, admin.TabularInline):  # type: ignore[misc]
    """Rows below a row, as a table."""


class ScopedStackedInline(ScopedInlineMixin, admin.StackedInline):  # type: ignore[misc]
    """Rows below a row, one under the other."""


def is_superuser(request: HttpRequest) -> bool:
    """Whether an active superuser asks."""
    return access.permitted(request.user).is_superuser


def _words(text: str) -> list[str]:
    words = []
    for bit in smart_split(text.replace("\x00", "")):
        quoted = len(bit) > 1 and bit[0] in "\"'" and bit[0] == bit[-1]
        words.append(unescape_string_literal(bit) if quoted else bit)
    return words[:WORDS_MAX]


def _asks(code: str) -> Callable[..., bool]:
    def has_permission(self: ScopedAdmin, request: HttpRequest, obj: Any = None) -> bool:
        return self.holds(request, code, obj)

    has_permission.__doc__ = f"Whether the reader holds {code}."
    return has_permission


# An action may name any code: @admin.action(permissions=["issue_invoices"]).
for _code, _sentence in (*CUSTOMER_PERMISSIONS, *HOUSE_PERMISSIONS):
    setattr(ScopedAdmin, f"has_{_code}_permission", _asks(_code))
