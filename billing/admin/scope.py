"""What one reader may see, in the words the pages use; `accounts.access` gives the answers."""

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from accounts import access

Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Scope:
    """A reader, with the questions the pages ask about customers."""

    user: Any

    def limit(
        self, queryset: QuerySet[Row], permission: str, path: str = "customer"
    ) -> QuerySet[Row]:
        """Only the rows of customers the permission is held on."""
        return access.scoped(queryset, self.user, permission, path)

    def covers(self, permission: str, customer_id: int | None) -> bool:
        """Whether the permission is held on this customer; None asks for the whole house."""
        return access.may(self.user, permission, customer_id)

    def holds(self, *permissions: str) -> bool:
        """Whether one of the permissions is held anywhere."""
        ids = (access.visible_customer_ids(self.user, code) for code in permissions)
        return any(found is access.EVERYTHING or found for found in ids)

    @property
    def sees_runs(self) -> bool:
        """Runs concern every customer, so only a reader of the whole house sees them."""
        return access.is_house_wide(self.user, "view_invoices")


def scope_of(request: HttpRequest) -> Scope:
    """The scope of the person who asks."""
    return Scope(request.user)
