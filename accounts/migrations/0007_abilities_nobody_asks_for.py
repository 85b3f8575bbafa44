"""``chat.use`` was in the matrix and nothing asked for it: chat takes an access token. It leaves custom roles too, which
could otherwise not be changed any more."""

from django.db import migrations

GONE = "chat.use"


def take_out(apps, _schema_editor):
    for role in apps.get_model("accounts", "Role").objects.all():
        if GONE in role.abilities:
            role.abilities = [name for name in role.abilities if name != GONE]
            role.save(update_fields=["abilities"])


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_login_code_asker")]

    operations = [migrations.RunPython(take_out, migrations.RunPython.noop)]
