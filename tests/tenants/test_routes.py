"""Which routes should exist: what is wrong with one tenant keeps no other from being reached."""

import pytest

from tenants import routes
from tenants.models import Tenant


@pytest.mark.parametrize("wrong", [{"slug": "admin"}, {"agent_kind": "gone"}])
def test_a_tenant_that_may_not_be_routed_any_more_keeps_no_other_from_being_routed(world, caplog, wrong):
    bad, good = world.tenant("Bad", deploy=True), world.tenant("Good", deploy=True)
    Tenant.objects.filter(pk=bad.pk).update(**wrong)
    assert [route.slug for route in routes.desired()] == ["good"]
    assert "tenant is not routed" in caplog.text
    routes.sync()
    assert world.router.routes.keys() == {str(good.public_id)}
