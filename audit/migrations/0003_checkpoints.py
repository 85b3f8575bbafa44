"""Old rows may leave by ``audit_archive``: a checkpoint keeps the chain provable, and only what one covers may go."""

from django.db import migrations, models

from audit import triggers


def let_archived_rows_go(apps, schema_editor):
    triggers.install_checkpoints(schema_editor.connection)


def keep_every_row(apps, schema_editor):
    triggers.remove_checkpoints(schema_editor.connection)


class Migration(migrations.Migration):

    dependencies = [
        ("audit", "0002_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created_at", models.DateTimeField()),
                ("first_id", models.BigIntegerField()),
                ("last_id", models.BigIntegerField(unique=True)),
                ("previous_hash", models.CharField(max_length=64)),
                ("last_hash", models.CharField(max_length=64)),
                ("file_name", models.CharField(max_length=200)),
                ("sha256", models.CharField(max_length=64)),
                ("public_key", models.CharField(max_length=64)),
                ("signature", models.CharField(max_length=128)),
            ],
            options={"db_table": "audit_checkpoints"},
        ),
        migrations.RunPython(let_archived_rows_go, keep_every_row),
    ]
