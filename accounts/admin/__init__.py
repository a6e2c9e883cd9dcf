"""The scoped ModelAdmin every page stands on, and the pages of people and roles."""

from accounts.admin.scoped import (
    LargePaginator,
    ScopedAdmin,
    ScopedRelatedFilter,
    ScopedStackedInline,
    ScopedTabularInline,
)

__all__ = [
    "LargePaginator",
    "ScopedAdmin",
    "ScopedRelatedFilter",
    "ScopedStackedInline",
    "ScopedTabularInline",
]
