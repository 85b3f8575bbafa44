"""The platform's admin site."""

from django.contrib.admin import AdminSite


class PlatformAdminSite(AdminSite):
    site_header = site_title = "zcplatform"
    index_title = "Fleet"
