"""Roles as sentences, and the only module that gives and ends them.

RoleAssignment is the truth. From it follow, in the same transaction, the guardian rows on each
customer and the memberships of the groups that stand for roles of the whole house. Both can be
made anew from the assignments at any time; `refresh_permissions` does it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import F, Q, QuerySet

from accounts import access
from accounts.models import (
    HOUSE_PERMISSIONS,
    CustomerUserPermission,
    Role,
    RoleAssignment,
    User,
    in_force,
)
from billing.errors import NotPermitted

CUSTOMER_PERMISSIONS: Final = (
    ("view_credits", "May see plan, credits, charges and limits"),
    ("view_invoices", "May see invoices"),
    ("view_payments", "May see payments and payment details"),
    ("download_documents", "May download documents"),
    ("change_terms", "May change plan, limits and payment terms"),
    ("draft_invoices", "May prepare and edit drafts of invoices"),
    ("run_invoices", "May make invoice runs"),
    ("issue_invoices", "May issue invoices"),
    ("correct_invoices", "May correct issued invoices by credit notes"),
    ("record_payments", "May record payments"),
    ("grant_credits", "May give credits"),
    ("place_holds", "May hold credits"),
    ("record_usage", "May record usage"),
    ("work", "May prepare and hand over work"),
    ("sign_off", "May sign off work"),
    ("approve", "May approve"),
    ("manage_people", "May decide who sees this customer"),
)
# Django declares these two itself, on every model.
STOCK_CUSTOMER_PERMISSIONS: Final = (
    ("view_customer", "May see the customer"),
    ("change_customer", "May change address, contacts and other details"),
)
SENTENCES: Final[dict[str, str]] = dict(
    (*STOCK_CUSTOMER_PERMISSIONS, *CUSTOMER_PERMISSIONS, *HOUSE_PERMISSIONS)
)
CUSTOMER_CODES: Final = frozenset(
    code for code, _ in (*STOCK_CUSTOMER_PERMISSIONS, *CUSTOMER_PERMISSIONS)
)
HOUSE_CODES: Final = frozenset(code for code, _ in HOUSE_PERMISSIONS)
READS: Final = frozenset(code for code in SENTENCES if code.startswith(("view_", "download_")))


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A role every installation has."""

    code: str
    name: str
    summary: str
    permissions: frozenset[str]
    is_house_wide: bool = True


_SEES_ALL_OF_A_CUSTOMER: Final = READS & CUSTOMER_CODES
BUILT_IN: Final = (
    BuiltIn(
        "finance-admin",
        "Finance admin",
        "Runs the whole cycle, from plans to month end, and decides who may do what.",
        frozenset(SENTENCES),
    ),
    BuiltIn(
        "clerk",
        "Clerk",
        "Prepares runs and invoices, records payments and usage; approves nothing.",
        READS
        - {"view_audit", "view_people"}
        | {
            "change_customer", "change_terms", "draft_invoices", "run_invoices", "issue_invoices",
            "record_payments", "place_holds", "record_usage", "import_usage", "work",
        },
    ),
    BuiltIn(
        "approver",
        "Approver",
        "Decides on what others have prepared: runs, invoices, credits and corrections.",
        READS - {"view_people"} | {"approve", "sign_off"},
    ),
    BuiltIn("auditor", "Auditor", "Sees everything and changes nothing.", READS),
    BuiltIn(
        "support",
        "Support",
        "Helps customers: sees their credits, charges and invoices, and may hold credits.",
        frozenset(
            {"view_customer", "view_credits", "view_invoices", "download_documents", "view_catalog"}
            | {"place_holds"}
        ),
    ),
    BuiltIn(
        "customer-manager",
        "Customer manager",
        "Looks after a customer: sees everything of it, prepares and hands over work, signs off.",
        _SEES_ALL_OF_A_CUSTOMER | {"place_holds", "work", "sign_off"},
        is_house_wide=False,
    ),
    BuiltIn(
        "viewer",
        "Viewer",
        "Sees a customer's credits and invoices and downloads documents.",
        frozenset({"view_customer", "view_credits", "view_invoices", "download_documents"}),
        is_house_wide=False,
    ),
)  # fmt: skip


def sentences(permissions: Iterable[str]) -> list[str]:
    """The permissions as sentences, in the order of the lists above."""
    held = set(permissions)
    return [sentence for code, sentence in SENTENCES.items() if code in held]


@transaction.atomic
def sync_roles(*, at: datetime) -> list[str]:
    """Bring the built-in roles up to this release; custom roles stay as they are.

    Running it again changes nothing. Returns the names of roles that were made or changed.
    """
    _permission_ids()
    changed = []
    for built_in in BUILT_IN:
        role = Role.objects.filter(code=built_in.code).first() or Role(code=built_in.code)
        wanted = {
            "name": built_in.name,
            "summary": built_in.summary,
            "permissions": sorted(built_in.permissions),
            "is_house_wide": built_in.is_house_wide,
            "is_built_in": True,
        }
        if role.pk is None or any(getattr(role, name) != value for name, value in wanted.items()):
            for name, value in wanted.items():
                setattr(role, name, value)
            role.save()
            changed.append(role.name)
    for role in Role.objects.all():
        _write_group(role)
    refresh_permissions(at=at, everybody=True)
    return changed


@transaction.atomic
def define_role(
    role: Role, *, permissions: Iterable[str], actor: User | None, at: datetime
) -> Role:
    """Save a role with these permissions and let them hold for everybody who has it.

    Raises NotPermitted when the actor gives what the actor does not hold, or changes a role of
    their own, or a built-in role.
    """
    wanted = _complete(permissions)
    before = set() if role.pk is None else set(Role.objects.get(pk=role.pk).permissions)
    if role.is_built_in:
        raise NotPermitted("A built-in role cannot be changed; make one of your own.")
    require_held(actor, wanted - before, at)
    if role.pk is not None:
        _require_other_people(actor, Q(role=role), at)
    role.permissions = sorted(wanted)
    role.save()
    _write_group(role)
    holders = RoleAssignment.objects.filter(role=role).values_list("user_id", flat=True)
    _rewrite(set(holders), at)
    return role


@transaction.atomic
def assign(
    *,
    user: User,
    role: Role,
    customer_id: int | None,
    valid_from: datetime,
    valid_until: datetime | None = None,
    actor: User | None,
    reason: str = "",
    at: datetime | None = None,
) -> RoleAssignment:
    """Give a person a role on one customer, or on the whole house when `customer_id` is None.

    The role holds from `valid_from` on and no longer at `valid_until`. No actor means the
    installation itself, such as the demonstration's data. Without `at` it is given now, by the
    database's clock.
    Raises NotPermitted when the actor may not give it.
    """
    if valid_until is not None and valid_until <= valid_from:
        raise NotPermitted("A role ends after it starts.")
    require_may_assign(actor=actor, user=user, role=role, customer_id=customer_id, at=at)
    assignment = RoleAssignment.objects.create(
        user=user,
        role=role,
        customer_id=customer_id,
        valid_from=valid_from,
        valid_until=valid_until,
        reason=reason[:300],
        given_by=actor,
    )
    _rewrite({user.pk}, at or assignment.given_at, customer_id)
    return assignment


def require_may_assign(
    *,
    actor: User | None,
    user: User,
    role: Role,
    customer_id: int | None,
    at: datetime | None = None,
) -> None:
    """Refuse what `assign` refuses, without giving anything. Raises NotPermitted."""
    if customer_id is None and not role.is_house_wide:
        raise NotPermitted(f"{role.name} is given for a customer, not for the whole house.")
    _require_may_decide(actor, user, role, customer_id, at)


@transaction.atomic
def end(assignment_id: int, *, at: datetime, actor: User | None) -> RoleAssignment:
    """End an assignment at `at`; one that has not begun never does. Its row stays as history.

    Raises NotPermitted when the actor may not decide about this person.
    """
    assignment = RoleAssignment.objects.select_for_update().get(pk=assignment_id)
    _require_may_decide(actor, assignment.user, assignment.role, assignment.customer_id, at)
    if assignment.valid_until is None or assignment.valid_until > at:
        assignment.valid_until = max(at, assignment.valid_from)
        assignment.ended_by = actor
        assignment.save(update_fields=("valid_until", "ended_by"))
        _rewrite({assignment.user_id}, at, assignment.customer_id)
    return assignment


@transaction.atomic
def refresh_permissions(*, at: datetime, everybody: bool = False) -> int:
    """Make derived rows anew where time has passed them by; rows added, changed or removed.

    Beginnings and ends hold without it, at their instants. It is for a second beginning after an
    end, and it keeps groups and lapsed rows tidy. `everybody` repairs whatever went astray.
    """
    people = _everybody() if everybody else _passed_by(at)
    return _rewrite(people, at)


def _everybody() -> set[int]:
    memberships = User.groups.through.objects.filter(group__role__isnull=False)
    return {
        user_id
        for rows in (
            RoleAssignment.objects.all(),
            CustomerUserPermission.objects.all(),
            memberships,
        )
        for user_id in rows.order_by().values_list("user_id", flat=True).distinct()
    }


def _passed_by(at: datetime) -> set[int]:
    """People with a lapsed row, or a group that does not fit their roles of the house."""
    lapsed = CustomerUserPermission.objects.filter(valid_until__lte=at)
    people = set(lapsed.values_list("user_id", flat=True).distinct())
    held = set(_held_groups(at).values_list("user_id", "role__group_id"))
    rows = User.groups.through.objects.filter(group__role__isnull=False)
    return people | {user_id for user_id, _ in held ^ set(rows.values_list("user_id", "group_id"))}


def _complete(permissions: Iterable[str]) -> set[str]:
    """The permissions with what they rest on: who may do anything to a customer may see it."""
    wanted = set(permissions)
    if unknown := wanted - set(SENTENCES):
        raise ValueError(f"no such permission: {', '.join(sorted(unknown))}")
    if wanted & CUSTOMER_CODES:
        wanted.add("view_customer")
    return wanted


def _require_may_decide(
    actor: User | None, user: User, role: Role, customer_id: int | None, at: datetime | None
) -> None:
    if actor is None or access.permitted(actor, at).is_superuser:
        return
    if actor.pk == user.pk:
        raise NotPermitted("Nobody decides about their own roles.")
    may_here = access.may(actor, "manage_roles", None, at) or (
        customer_id is not None and access.may(actor, "manage_people", customer_id, at)
    )
    if not may_here:
        raise NotPermitted("You may not decide who has which role here.")
    codes = set(role.permissions)
    require_held(actor, codes if customer_id is None else codes & CUSTOMER_CODES, at, customer_id)


def require_held(
    actor: User | None,
    codes: set[str],
    at: datetime | None = None,
    customer_id: int | None = None,
) -> None:
    """Nobody gives more than they have: raises NotPermitted with the sentences that are missing."""
    if actor is None:
        return
    missing = [code for code in codes if not access.may(actor, code, customer_id, at)]
    if missing:
        told = "; ".join(sentences(missing))
        raise NotPermitted(f"You cannot give what you do not have yourself: {told}.")


def _require_other_people(actor: User | None, roles: Q, at: datetime) -> None:
    if actor is None or access.permitted(actor, at).is_superuser:
        return
    if RoleAssignment.objects.filter(roles, in_force(at), user=actor).exists():
        raise NotPermitted("Nobody changes a role of their own.")


def _write_group(role: Role) -> None:
    """The group that stands for a role of the whole house, with the role's permissions."""
    if not role.is_house_wide:
        return
    if role.group is None:
        role.group, _ = Group.objects.get_or_create(name=f"role: {role.code}")
        role.save(update_fields=("group",))
    ids = _permission_ids()
    role.group.permissions.set([ids[code] for code in role.permissions])


def _permission_ids() -> dict[str, int]:
    """Ids of the permission rows by code, made when a migration has not made them yet."""
    customer = ContentType.objects.get_for_model(apps.get_model("billing", "Customer"))
    house = ContentType.objects.get_for_model(Role)
    mine = Q(content_type=customer, codename__in=CUSTOMER_CODES) | Q(
        content_type=house, codename__in=HOUSE_CODES
    )
    rows = Permission.objects.filter(mine)
    ids = dict(rows.values_list("codename", "pk"))
    missing = [code for code in SENTENCES if code not in ids]
    if missing:
        Permission.objects.bulk_create(
            Permission(
                content_type=customer if code in CUSTOMER_CODES else house,
                codename=code,
                name=SENTENCES[code],
            )
            for code in missing
        )
        ids = dict(rows.all().values_list("codename", "pk"))
    return ids


_Key = tuple[int, int, int]  # person, permission, customer
_Span = tuple[datetime, datetime | None]


def _rewrite(user_ids: set[int], at: datetime, customer_id: int | None = None) -> int:
    """Make the derived rows of these people what their assignments say; rows touched.

    customer_id: only the rows of this customer need it.
    """
    if not user_ids:
        return 0
    # One writer per person: two assignments at once would each miss the other's.
    people = User.objects.select_for_update(no_key=True).filter(pk__in=user_ids)
    list(people.order_by("pk").values_list("pk"))
    touched = _rewrite_rows(user_ids, at, customer_id) + _rewrite_memberships(user_ids, at)
    access.forget()
    return touched


def _rewrite_rows(user_ids: set[int], at: datetime, customer_id: int | None) -> int:
    wanted = _wanted_rows(user_ids, at, customer_id)
    present = CustomerUserPermission.objects.filter(user_id__in=user_ids)
    if customer_id is not None:
        present = present.filter(content_object_id=customer_id)
    stale: list[int] = []
    late: list[CustomerUserPermission] = []
    for row in present:
        span = wanted.pop((row.user_id, row.permission_id, row.content_object_id), None)
        if span is None:
            stale.append(row.pk)
        elif span != (row.valid_from, row.valid_until):
            row.valid_from, row.valid_until = span
            late.append(row)
    CustomerUserPermission.objects.filter(pk__in=stale).delete()
    CustomerUserPermission.objects.bulk_update(late, ("valid_from", "valid_until"), 1000)
    CustomerUserPermission.objects.bulk_create(
        (
            CustomerUserPermission(
                user_id=user_id,
                permission_id=permission_id,
                content_object_id=here,
                valid_from=span[0],
                valid_until=span[1],
            )
            for (user_id, permission_id, here), span in wanted.items()
        ),
        batch_size=5000,
    )
    return len(stale) + len(late) + len(wanted)


def _wanted_rows(user_ids: set[int], at: datetime, customer_id: int | None) -> dict[_Key, _Span]:
    ids = _permission_ids()
    spans: dict[_Key, list[_Span]] = {}
    alive = Q(valid_until=None) | Q(valid_until__gt=at) & Q(valid_until__gt=F("valid_from"))
    where = Q(customer__isnull=False) if customer_id is None else Q(customer_id=customer_id)
    rows = RoleAssignment.objects.filter(alive, where, user_id__in=user_ids)
    for user_id, here, start, stop, codes in rows.order_by("valid_from").values_list(
        "user_id", "customer_id", "valid_from", "valid_until", "role__permissions"
    ):
        for code in codes:
            if code in CUSTOMER_CODES:
                spans.setdefault((user_id, ids[code], here), []).append((start, stop))
    return {key: first_span(parts) for key, parts in spans.items()}


def first_span(spans: Sequence[_Span]) -> _Span:
    """The first unbroken stretch of time that `spans`, sorted by their starts, cover together."""
    start, stop = spans[0]
    for later_start, later_stop in spans[1:]:
        if stop is None or later_start > stop:
            break
        if later_stop is None or later_stop > stop:
            stop = later_stop
    return start, stop


def _held_groups(at: datetime) -> QuerySet[RoleAssignment]:
    return RoleAssignment.objects.filter(
        in_force(at), customer__isnull=True, role__group__isnull=False
    )


def _rewrite_memberships(user_ids: set[int], at: datetime) -> int:
    through: Any = User.groups.through
    held = _held_groups(at).filter(user_id__in=user_ids)
    wanted = set(held.values_list("user_id", "role__group_id"))
    rows = through.objects.filter(user_id__in=user_ids, group__role__isnull=False)
    present = {
        (user_id, group_id): pk
        for pk, user_id, group_id in rows.values_list("pk", "user_id", "group_id")
    }
    stale = [pk for key, pk in present.items() if key not in wanted]
    through.objects.filter(pk__in=stale).delete()
    fresh = [through(user_id=user, group_id=group) for user, group in wanted - present.keys()]
    through.objects.bulk_create(fresh)
    return len(stale) + len(fresh)
