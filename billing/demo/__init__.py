"""Demonstration data: three sellers, their customers and some months of plausible business.

Everything happens through the services, in the order of its dates, as if the house had been open
since then; the figures come from a fixed seed. The sellers are marked `is_demo`, and so are the
people; `remove` takes all of it away again and touches nothing else.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.core.files.storage import storages
from django.db import connection, transaction

from accounts import roles
from accounts.models import Role, RoleAssignment, User, in_force
from billing.demo import data
from billing.demo.story import Progress, Story
from billing.errors import MissingData
from billing.models import Customer, InvoiceDocument, LegalEntity

LOCK: Final = 0x64656D6F  # any fixed number: two at once take turns
LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike


@dataclass(frozen=True, slots=True)
class Login:
    """A demonstration person; the password is told once, when it is made."""

    username: str
    name: str
    duty: str
    password: str | None


@dataclass(frozen=True, slots=True)
class Logins:
    """Who can log in. `is_new` tells whether the data were made just now."""

    people: tuple[Login, ...]
    is_new: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove` took away: rows by table, and files of documents."""

    rows: tuple[tuple[str, int], ...]
    files: int
    people: int


def exists() -> bool:
    """Whether this installation has demonstration data."""
    return LegalEntity.objects.filter(is_demo=True).exists()


@transaction.atomic
def create(
    at: datetime,
    progress: Progress = lambda step, done, whole: None,
    *,
    new_passwords: bool = False,
) -> Logins:
    """Make the demonstration data as they would stand at `at`, all or nothing; once.

    Running it again makes nothing but a missing person. A person's password is made with the
    person, or anew when `new_passwords` asks for it.
    Raises MissingData when a real seller or person bears a name the demonstration needs.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    roles.sync_roles(at=at)
    _refuse_taken_names()
    people = {person.username: _person(person, new_passwords) for person in data.PEOPLE}
    is_new = not exists()
    if is_new:
        users = {name: user.pk for name, (user, _) in people.items()}
        Story(at, users, progress).tell()
    for person in data.PEOPLE:
        _give_role(person, people[person.username][0], at)
    return Logins(
        tuple(
            Login(person.username, person.name, person.duty, people[person.username][1])
            for person in data.PEOPLE
        ),
        is_new,
    )


def remove(at: datetime) -> Removed:
    """Take away every row and file of the demonstration; its people can no longer log in.

    Plans, packs and meters of the demonstration that a real customer uses are kept, and so are
    the VAT rates, which are facts.
    """
    storage = storages["documents"]
    with transaction.atomic():
        files = list(
            InvoiceDocument.objects.filter(customer__legal_entity__is_demo=True)
            .exclude(storage_name="")
            .values_list("storage_name", flat=True)
        )
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            cursor.execute("SELECT table_name, rows_removed FROM billing_remove_demo()")
            rows = tuple(cursor.fetchall())
        people = list(User.objects.filter(is_demo=True, is_active=True))
        for user in people:
            for assignment in RoleAssignment.objects.filter(in_force(at), user=user):
                roles.end(assignment.pk, at=at, actor=None)
            user.is_active = False
            user.set_unusable_password()
            user.save(update_fields=("is_active", "password"))
    for name in files:
        storage.delete(name)
    return Removed(rows, len(files), len(people))


# --- people ----------------------------------------------------------------------------------


def _refuse_taken_names() -> None:
    codes = [seller["code"] for seller in data.SELLERS]
    sellers = LegalEntity.objects.filter(code__in=codes, is_demo=False)
    names = [person.username for person in data.PEOPLE]
    taken = [
        *(f"the seller code {code}" for code in sellers.values_list("code", flat=True)),
        *User.objects.filter(username__in=names, is_demo=False).values_list("username", flat=True),
    ]
    if taken:
        raise MissingData(
            f"Demonstration data need {', '.join(taken)}, which real data use already. "
            "Keep them in an installation of their own (KETER_STATE_DIR)."
        )


def _person(person: data.Person, new_password: bool) -> tuple[User, str | None]:
    user = User.objects.filter(username=person.username, is_demo=True).first()
    if user is not None and user.is_active and not new_password:
        return user, None
    if user is None:
        user = User(
            username=person.username,
            name=person.name,
            email=f"{person.username}@tidemark.example",
            language=person.language,
            time_zone=person.time_zone,
            is_staff=not person.customers,
            is_demo=True,
        )
    groups = ("".join(secrets.choice(LETTERS) for _ in range(5)) for _ in range(3))
    password = "-".join(groups)
    user.is_active = True
    user.set_password(password)
    user.save()
    return user, password


def _give_role(person: data.Person, user: User, at: datetime) -> None:
    role = Role.objects.get(code=person.role)
    customers: list[int | None] = [None]
    if person.customers:
        found = Customer.objects.filter(legal_entity__is_demo=True, code__in=person.customers)
        customers = list(found.order_by("code").values_list("pk", flat=True))
    held = set(
        RoleAssignment.objects.filter(in_force(at), user=user, role=role).values_list(
            "customer_id", flat=True
        )
    )
    for customer_id in customers:
        if customer_id not in held:
            roles.assign(
                user=user,
                role=role,
                customer_id=customer_id,
                valid_from=at,
                actor=None,
                reason="demonstration",
                at=at,
            )
