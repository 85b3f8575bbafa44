"""What is in the trash, and the way back, on the pages."""

from __future__ import annotations

from tenants import services
from tenants.models import Run, Tenant
from tenants.states import Status
from tests.pages.conftest import browser
from zcplatform.lib.actors import OPERATOR


def delete(stage):
    stage.world.drive(services.delete(actor=OPERATOR, tenant=stage.tenant))
    return f"/deleted-tenants/{stage.tenant.public_id}/undelete"


def test_the_owner_finds_what_was_deleted_and_brings_it_back(stage):
    path, owner = delete(stage), browser(stage.people["owner"])
    assert path in owner.get("/deleted-tenants").content.decode()
    shown = owner.post(path, follow=True)
    assert 'id="new-token">zct_' in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    stage.world.drive(Run.objects.get(kind="undelete"))
    assert Tenant.objects.get(pk=stage.tenant.pk).status == Status.STOPPED
    assert path not in owner.get("/deleted-tenants").content.decode()
    again = owner.post(path, follow=True)
    assert "This tenant is not deleted." in again.content.decode()
    assert owner.get("/tenants/acme/").status_code == 200


def test_others_see_it_and_may_not_and_strangers_do_not_see_it(stage):
    path = delete(stage)
    manager, stranger = browser(stage.people["manager"]), browser(stage.people["stranger"])
    page = manager.get("/deleted-tenants").content.decode()
    assert "acme" in page
    assert path not in page
    assert manager.post(path).status_code == 403
    assert "acme" not in stranger.get("/deleted-tenants").content.decode()
    assert stranger.post(path).status_code == 404
    assert browser().get("/deleted-tenants").status_code == 302
    assert Tenant.objects.get(pk=stage.tenant.pk).status == Status.DELETED
