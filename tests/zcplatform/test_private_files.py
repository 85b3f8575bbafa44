from __future__ import annotations

import os
import stat

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests import processes
from zcplatform.lib.private_files import check_private, replace_private, write_private


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path / "a.key"


def test_a_new_file_is_whole_private_and_alone(path):
    previous = os.umask(0)
    try:
        write_private(path, b"one")
    finally:
        os.umask(previous)
    check_private(path)
    assert path.read_bytes() == b"one" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_there_is_not_overwritten(path):
    write_private(path, b"one")
    with pytest.raises(FileExistsError):
        write_private(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_replacement_is_private_too(path):
    write_private(path, b"one")
    replace_private(path, b"two")
    check_private(path)
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("point", "content"), [("private_files.written", b"one"), ("private_files.replaced", b"two")])
def test_killed_it_leaves_the_old_or_the_new(path, point, content):
    write_private(path, b"one")
    assert processes.run(lambda: replace_private(path, b"two"), f"{point}=kill") == processes.KILLED
    assert path.read_bytes() == content


def test_a_link_a_folder_and_a_loose_mode_are_refused(path):
    write_private(path, b"one")
    link = path.with_name("link")
    link.symlink_to(path)
    for bad in (link, path.parent):
        with pytest.raises(ImproperlyConfigured, match="regular file"):
            check_private(bad)
    path.chmod(0o640)
    with pytest.raises(ImproperlyConfigured, match="chmod 600"):
        check_private(path)
