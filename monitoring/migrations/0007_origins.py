"""Each notifier's secret was entered for the address that stands beside it now."""

from django.db import migrations

from tenants.fields import place_of


def note_origins(apps, _schema_editor):
    rows = apps.get_model('monitoring', 'Notifier').objects.filter(kind='webhook', secret__isnull=False)
    for row in rows.select_related('secret').iterator(chunk_size=500):
        row.secret.origin = place_of(row.config['url'])
        row.secret.save(update_fields=['origin'])


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0006_leader'),
        ('vault', '0002_origins'),
    ]

    operations = [
        migrations.RunPython(note_origins, migrations.RunPython.noop),
    ]
