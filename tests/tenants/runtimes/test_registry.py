from types import SimpleNamespace

import pytest

from tenants.runtimes import runtime_for
from tenants.runtimes.process import ProcessRuntime
from zcplatform.lib.errors import Misconfigured


def node(runtime="process", endpoint=""):
    return SimpleNamespace(runtime=runtime, endpoint=endpoint)


def test_a_driver_is_made_once_per_endpoint():
    first = runtime_for(node())
    assert isinstance(first, ProcessRuntime)
    assert runtime_for(node()) is first
    assert runtime_for(node(endpoint="elsewhere")) is not first


def test_an_unknown_runtime_is_named():
    with pytest.raises(Misconfigured) as failed:
        runtime_for(node("teapot"))
    assert failed.value.type == "unknown_runtime"
