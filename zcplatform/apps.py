from typing import Any

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class ZcplatformConfig(AppConfig):
    name = "zcplatform"

    def ready(self) -> None:
        from zcplatform import checks  # noqa: F401


class AdminConfig(SimpleAdminConfig):
    """Django's, but what it shows is loaded with the addresses, or to be checked: most commands need neither, and
    loading it takes as long as all the rest."""

    default_site = "zcplatform.admin.PlatformAdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_admin, checks.Tags.admin)


def check_admin(app_configs: Any, **options: Any) -> list[checks.CheckMessage]:
    """Django's check of the admin, of all that the admin shows."""
    admin.autodiscover()
    return check_admin_app(app_configs, **options)
