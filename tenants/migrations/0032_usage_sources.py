from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0031_origins")]

    operations = [
        migrations.CreateModel(
            name="UsageSource",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(choices=[("door", "Door")], max_length=10)),
                ("messages_in", models.PositiveBigIntegerField(default=0)),
                ("messages_out", models.PositiveBigIntegerField(default=0)),
                ("tokens_in", models.PositiveBigIntegerField(default=0)),
                ("tokens_out", models.PositiveBigIntegerField(default=0)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=models.deletion.CASCADE, related_name="usage_sources", to="tenants.tenant"
                    ),
                ),
            ],
            options={
                "db_table": "usage_sources",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "source"), name="usage_source_once"),
                ],
            },
        ),
    ]
