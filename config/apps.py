"""Replaces Django's admin by the back office site."""

from django.contrib.admin.apps import AdminConfig


class BackOfficeAdminConfig(AdminConfig):
    """The admin app, with BackOfficeSite as `admin.site`."""

    default_site = "config.site.BackOfficeSite"
