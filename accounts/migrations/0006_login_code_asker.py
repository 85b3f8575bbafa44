import zcplatform.lib.clock
from django.db import migrations, models


class Migration(migrations.Migration):
    """Codes live ten minutes and those of before have no asker, so the table is made anew."""

    dependencies = [
        ('accounts', '0005_mail_urgency'),
    ]

    operations = [
        migrations.DeleteModel(name='LoginCode'),
        migrations.CreateModel(
            name='LoginCode',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.EmailField(db_index=True, max_length=254)),
                ('handle_hash', models.CharField(max_length=64, unique=True)),
                ('network', models.CharField(blank=True, max_length=64)),
                ('crowd', models.BooleanField(default=False)),
                ('code_hash', models.CharField(max_length=64)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('attempts_of_network', models.PositiveSmallIntegerField(default=0)),
                ('created_at', models.DateTimeField(default=zcplatform.lib.clock.now)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('used_at', models.DateTimeField(null=True)),
            ],
            options={
                'db_table': 'login_codes',
            },
        ),
    ]
