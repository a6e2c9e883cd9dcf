"""Bring the built-in roles and all that follows from assignments up to date."""

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from accounts import roles


class Command(BaseCommand):
    """Idempotent; run after each migration."""

    help = "Bring the built-in roles, and the permissions that follow from assignments, up to date."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what changed."""
        changed = roles.sync_roles(at=timezone.now())
        told = ", ".join(changed) if changed else "nothing to change"
        self.stdout.write(f"roles: {told}")
