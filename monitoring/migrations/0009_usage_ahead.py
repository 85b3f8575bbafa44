from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0008_agreements"), ("tenants", "0032_usage_sources")]

    operations = [
        migrations.AddField("usagecounter", "turn", models.PositiveBigIntegerField(default=0)),
        migrations.AddField("usagecounter", "passed", models.JSONField(default=dict)),
        migrations.AddField("usagecounter", "ahead", models.JSONField(default=dict)),
    ]
