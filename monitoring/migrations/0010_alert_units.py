from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0009_usage_ahead")]

    operations = [
        migrations.AddField("alert", "unit", models.CharField(blank=True, max_length=20)),
        migrations.AddField("alert", "which", models.JSONField(blank=True, default=list)),
    ]
