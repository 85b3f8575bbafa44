"""Two lines of work met here: the API's tables and the usage's. Nothing changes."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_api"), ("tenants", "0010_usage_and_job_results")]
    operations = []
