from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0010_alert_units"), ("tenants", "0033_image")]

    operations = [
        migrations.CreateModel(
            name="RunTotals",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveBigIntegerField(default=0)),
                ("sums", models.JSONField(default=dict)),
            ],
            options={"db_table": "run_totals"},
        ),
    ]
