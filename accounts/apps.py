"""The people who work here and what they may touch."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Users, roles and permissions."""

    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "People"

    def ready(self) -> None:
        """Register the system checks."""
        from accounts import checks  # noqa: F401
