"""From which image an agent was made stands with its tenant: runs are let go in time."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps

from tenants import hardening, services
from tenants.models import Run, Tenant
from zcplatform.lib.actors import OPERATOR


@pytest.fixture
def running(world):
    return world.tenant(deploy=True)


def test_the_image_of_what_runs_is_known_without_any_run(running):
    assert running.image.startswith("fake:")
    Run.objects.all().delete()
    assert hardening.spec_of(running).image == running.image
    assert hardening.spec_of(running).fingerprint() == running.fingerprint
    assert hardening.deviations(running) == []


def test_it_goes_with_the_agent(world, running):
    world.drive(services.delete(actor=OPERATOR, tenant=running))
    gone = world.fresh(running)
    assert (gone.handle, gone.image) == (None, "")


def test_the_upgrade_takes_it_from_the_latest_run(running):
    row = Tenant.objects.filter(pk=running.pk)
    row.update(image="")
    import_module("tenants.migrations.0033_image").from_steps(apps, None)
    assert row.get().image == running.image
