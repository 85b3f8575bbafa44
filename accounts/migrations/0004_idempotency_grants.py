from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_codes_and_mail")]

    operations = [
        migrations.AddField(
            model_name="idempotencykey", name="grants", field=models.JSONField(default=list),
        ),
        migrations.AlterField(
            model_name="idempotencykey", name="scope", field=models.CharField(max_length=200),
        ),
    ]
