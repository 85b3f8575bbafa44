"""The image of what runs gets a column: so far it lay in a step of the latest run, which will not be kept for good."""

from django.db import migrations, models


def from_steps(apps, _schema_editor):
    steps = apps.get_model("tenants", "StepRecord").objects.filter(name="ensure_image", status="done")
    for tenant in apps.get_model("tenants", "Tenant").objects.exclude(handle=None).iterator(chunk_size=500):
        result = steps.filter(run__tenant=tenant).order_by("-pk").values_list("result", flat=True).first() or {}
        tenant.image = str(result.get("image", ""))[:200]
        tenant.save(update_fields=["image"])


class Migration(migrations.Migration):
    dependencies = [("tenants", "0032_usage_sources")]

    operations = [
        migrations.AddField("tenant", "image", models.CharField(blank=True, max_length=200)),
        migrations.RunPython(from_steps, migrations.RunPython.noop),
    ]
