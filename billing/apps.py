"""Django's entry into the billing app."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    """The billing app; its system checks are registered at start."""

    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Billing"

    def ready(self) -> None:
        """Register the system checks."""
        from billing import checks  # noqa: F401
