from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('vault', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='secret',
            name='origin',
            field=models.CharField(blank=True, default='', editable=False, max_length=600),
        ),
    ]
