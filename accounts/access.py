"""The only answer to "may this person?".

A permission is a code such as `view_invoices`. It is held on a customer, and everything of that
customer inherits it through `customer_id`, or on the whole house. What is asked here holds at this
instant: an inactive person has nothing, a role has nothing before its first or after its last day.

One query per person and request answers every question; nothing is remembered past the request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from django.contrib.postgres.aggregates import ArrayAgg
from django.contrib.postgres.fields import ArrayField
from django.db.models import BigIntegerField, BooleanField, F, Func, Model, QuerySet, Value

from accounts.models import CustomerUserPermission, RoleAssignment, in_force

Row = TypeVar("Row", bound=Model)

EVERYTHING: Final = None  # no limit: the whole house, also what belongs to no customer
NOTHING: Final[frozenset[int]] = frozenset()
CUSTOMER_MODEL: Final = "billing.customer"


@dataclass(frozen=True, slots=True)
class Permitted:
    """All that one person may do at one instant."""

    is_superuser: bool
    house: frozenset[str]
    customers: dict[str, frozenset[int]]

    def customer_ids(self, permission: str) -> frozenset[int] | None:
        """Customers `permission` is held on; EVERYTHING when on the whole house."""
        code = permission.rpartition(".")[2]
        if self.is_superuser or code in self.house:
            return EVERYTHING
        return self.customers.get(code, NOTHING)

    def __bool__(self) -> bool:
        return bool(self.is_superuser or self.house or self.customers)


NOBODY: Final = Permitted(is_superuser=False, house=frozenset(), customers={})
_request: ContextVar[dict[int, Permitted] | None] = ContextVar("accounts_request", default=None)


@contextmanager
def one_request() -> Iterator[None]:
    """Remember answers inside this block, which is one request, and forget them after it."""
    token = _request.set({})
    try:
        yield
    finally:
        _request.reset(token)


def forget(user_id: int | None = None) -> None:
    """Ask anew: roles changed in the middle of a request."""
    remembered = _request.get()
    if remembered is not None:
        if user_id is None:
            remembered.clear()
        else:
            remembered.pop(user_id, None)


def permitted(user: Any, at: datetime | None = None) -> Permitted:
    """All that `user` may do at `at`, or now by the database's clock."""
    if not getattr(user, "is_authenticated", False) or not user.is_active or user.pk is None:
        return NOBODY
    if at is not None:
        return _ask(user, at)
    remembered = _request.get()
    if remembered is None:
        return _ask(user, None)
    if user.pk not in remembered:
        remembered[user.pk] = _ask(user, None)
    return remembered[user.pk]


def visible_customer_ids(
    user: Any, permission: str, at: datetime | None = None
) -> frozenset[int] | None:
    """Ids of the customers on which `user` holds `permission`; EVERYTHING for the whole house."""
    return permitted(user, at).customer_ids(permission)


def may(user: Any, permission: str, where: Model | int | None, at: datetime | None = None) -> bool:
    """Whether `user` holds `permission` on a customer.

    where: the customer's id, the customer, or any row with a `customer_id`. None, and a row that
    belongs to no customer, ask for the whole house.
    """
    ids = visible_customer_ids(user, permission, at)
    if ids is EVERYTHING:
        return True
    customer_id = customer_id_of(where) if isinstance(where, Model) else where
    return customer_id is not None and customer_id in ids


def may_enter(user: Any) -> bool:
    """Whether the back office opens its door: active, and staff or holding any role now."""
    if not getattr(user, "is_active", False) or not getattr(user, "is_authenticated", False):
        return False
    return bool(user.is_staff or permitted(user))


def is_house_wide(user: Any, permission: str) -> bool:
    """Whether `user` holds `permission` on the whole house."""
    return visible_customer_ids(user, permission) is EVERYTHING


def scoped(
    queryset: QuerySet[Row], user: Any, permission: str, owner: str = "customer"
) -> QuerySet[Row]:
    """Only the rows of customers on which `user` holds `permission`.

    owner: path from the row to its customer, such as "customer" or "invoice__customer"; "pk" when
    the rows are customers. Rows that belong to no customer are for holders on the whole house.
    """
    ids = visible_customer_ids(user, permission)
    if ids is EVERYTHING:
        return queryset
    if not ids:
        return queryset.none()
    return queryset.filter(among(owner, ids))


def among(path: str, ids: Iterator[int] | frozenset[int] | list[int]) -> Func:
    """The condition `path = ANY(ids)`: one parameter however many ids."""
    return Func(
        F(path),
        Value(sorted(ids), output_field=ArrayField(BigIntegerField())),
        template="(%(expressions)s))",
        arg_joiner=" = ANY(",
        output_field=BooleanField(),
    )


def customer_id_of(row: Model, owner: str = "") -> int | None:
    """Id of the customer that `row` belongs to; None when it belongs to none.

    owner: path to follow, as in `scoped`; without it, the row's own `customer_id`.
    """
    if row._meta.label_lower == CUSTOMER_MODEL:
        return cast("int | None", row.pk)
    *steps, last = (owner or "customer").split("__")
    at: Any = row
    for step in steps:
        at = getattr(at, step, None)
    if isinstance(at, Model) and at._meta.label_lower == CUSTOMER_MODEL and last in {"pk", "id"}:
        return cast("int | None", at.pk)
    return cast("int | None", getattr(at, f"{last}_id", None))


def who_may(customer_id: int, at: datetime | None = None) -> QuerySet[RoleAssignment]:
    """The assignments in force that reach a customer: its own and those of the whole house."""
    reach = RoleAssignment.objects.filter(in_force(at), user__is_active=True)
    here = reach.filter(customer_id=customer_id) | reach.filter(customer__isnull=True)
    return here.select_related("user", "role", "customer").order_by(
        "user__name", "user__username", "role__name"
    )


def _ask(user: Any, at: datetime | None) -> Permitted:
    """One query: the codes held on customers, each with its ids, and those held house-wide."""
    if user.is_superuser:
        return Permitted(is_superuser=True, house=frozenset(), customers={})
    ids_type = ArrayField(BigIntegerField())
    on_customers = (
        CustomerUserPermission.objects.filter(in_force(at), user_id=user.pk)
        .values(code=F("permission__codename"))
        .annotate(ids=ArrayAgg("content_object_id"))
        .order_by()
        .values_list("code", "ids")
    )
    on_the_house = (
        RoleAssignment.objects.filter(in_force(at), user_id=user.pk, customer__isnull=True)
        .filter(role__is_house_wide=True)
        .annotate(
            code=Func(F("role__permissions"), function="unnest"),
            ids=Value(None, output_field=ids_type),
        )
        .order_by()
        .values_list("code", "ids")
    )
    house, customers = set(), {}
    for code, ids in on_customers.union(on_the_house, all=True):
        if ids is None:
            house.add(code)
        else:
            customers[code] = frozenset(ids)
    return Permitted(is_superuser=False, house=frozenset(house), customers=customers)
