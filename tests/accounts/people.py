"""A seller, customers and people for the tests of who may see what."""

from itertools import count
from typing import Any

from accounts.models import Role, User
from billing.models import Customer, LegalEntity

_serial = count(1)
PASSWORD = "correct horse battery staple"


def seller() -> LegalEntity:
    return LegalEntity.objects.get_or_create(
        code="ACC",
        defaults={"name": "Seller", "legal_name": "Seller Ltd", "country": "IE", "currency": "EUR"},
    )[0]


def customer(name: str = "", **fields: Any) -> Customer:
    number = next(_serial)
    return Customer.objects.create(
        legal_entity=seller(),
        code=f"A{number}",
        name=name or f"Customer {number}",
        country="IE",
        currency="EUR",
        **fields,
    )


def person(username: str = "", **fields: Any) -> User:
    return User.objects.create_user(
        username or f"person{next(_serial)}", password=PASSWORD, **fields
    )


def role(code: str) -> Role:
    return Role.objects.get(code=code)
