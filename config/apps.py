"""Django's entries into the top floor."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class PlatformConfig(AppConfig):
    """Brings the platform's commands (serve, db_roles, migrate) to manage.py; has no models."""

    name = "config"


class BackOfficeAdminConfig(AdminConfig):
    """The admin app, with BackOfficeSite as `admin.site`."""

    default_site = "config.site.BackOfficeSite"
