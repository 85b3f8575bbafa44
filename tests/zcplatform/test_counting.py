from __future__ import annotations

import pytest

from zcplatform.lib.words import count


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 secrets"), (1, "1 secret"), (2, "2 secrets"), (12_000, "12,000 secrets")]
)
def test_one_is_one(number, said):
    assert count(number, "secret") == said
