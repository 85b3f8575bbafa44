"""Each secret that is there was entered for the address that stands beside it now."""

from django.db import migrations

from tenants.channels import CHANNELS
from tenants.fields import place_of
from tenants.providers import PROVIDERS


def note_origins(apps, _schema_editor):
    ties = apps.get_model('tenants', 'TenantSecret').objects.select_related('secret', 'channel', 'tenant__config')
    for tie in ties.exclude(channel=None, field='agent_token').iterator(chunk_size=500):
        tie.secret.origin = origin_of_channel(tie.channel) if tie.channel else origin_of_key(tie)
        tie.secret.save(update_fields=['origin'])


def origin_of_channel(channel):
    kind = CHANNELS.get(channel.channel_type)
    return kind.origin(channel.config) if kind else ''


def origin_of_key(tie):
    kind = PROVIDERS.get(tie.tenant.config.provider_name)
    address = (kind.base_url or tie.tenant.config.base_url) if kind and kind.has_model else ''
    return place_of(address) if address else ''


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0030_egress'),
        ('vault', '0002_origins'),
    ]

    operations = [
        migrations.RunPython(note_origins, migrations.RunPython.noop),
    ]
