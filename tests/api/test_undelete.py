"""The way back from the trash by the API."""

from __future__ import annotations

from tenants import services
from tenants.models import Tenant
from tenants.provisioning.plans import PROCEDURE
from tenants.provisioning.runner import execute
from zcplatform.lib.actors import OPERATOR


def test_a_deleted_tenant_is_listed_to_its_members_and_brought_back_by_its_owner(acme, people):
    run = services.delete(actor=OPERATOR, tenant=acme)
    execute(run.pk, PROCEDURE)
    assert Tenant.objects.get(pk=acme.pk).status == "deleted"
    listed = people.owner.get("/tenants?status=deleted").json()["items"]
    assert [item["id"] for item in listed] == [str(acme.public_id)]
    assert people.stranger.get("/tenants?status=deleted").json()["items"] == []
    path = f"/tenants/{acme.public_id}/undelete"
    assert people.manager.post(path).status_code == 403
    assert people.stranger.post(path).status_code == 404
    back = people.owner.post(path)
    assert back.status_code == 202, back.content
    assert back.json()["access_token"].startswith("zct_")
    assert back["Location"] == f"/api/runs/{back.json()['run']['id']}"
    execute(back_run(acme).pk, PROCEDURE)
    assert people.owner.get(f"/tenants/{acme.public_id}").json()["status"] == "stopped"
    again = people.owner.post(path)
    assert (again.status_code, again.json()["error"]["type"]) == (409, "not_deleted")


def back_run(tenant):
    return tenant.runs.get(kind="undelete")
