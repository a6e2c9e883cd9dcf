"""The scoped ModelAdmin every page stands on, and the pages of people and roles."""

from accounts.admin.scoped import (
    LargePaginator,
    ScopedAdmin,
    ScopedRelatedFilter,
    ScopedStackedInline,
    ScopedTabularInline,
)

# The pages below register themselves, which loads the site, which loads pages that want the above.
from accounts.admin import people  # noqa: F401  isort: skip

__all__ = [
    "LargePaginator",
    "ScopedAdmin",
    "ScopedRelatedFilter",
    "ScopedStackedInline",
    "ScopedTabularInline",
]
