import multiprocessing
import os

import pytest
from django.core.exceptions import ImproperlyConfigured

from zcplatform import keys


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "keys"


@pytest.fixture(autouse=True)
def no_keys_from_outside(monkeypatch):
    for name in (*keys.NAMES, "INSTANCE"):
        monkeypatch.delenv(f"ZCPLATFORM_{name}", raising=False)


def test_keys_are_made_once_with_mode_0600_and_differ(folder):
    assert set(keys.create_missing(folder)) == {*keys.NAMES, "INSTANCE"}
    assert keys.create_missing(folder) == []
    values = [keys.read(name, folder) for name in keys.NAMES]
    assert len(set(values)) == 3
    assert all(len(value) >= keys.MIN_LENGTH for value in values)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert keys.instance_id(folder.parent)


def test_the_id_goes_into_the_home_wherever_the_keys_lie(folder, tmp_path):
    keys.create_missing(tmp_path / "elsewhere", folder.parent)
    assert keys.instance_id(folder.parent)
    assert not (tmp_path / "instance.id").exists()


def test_a_key_of_the_environment_is_not_made_a_file(folder, monkeypatch):
    monkeypatch.setenv("ZCPLATFORM_JWT_KEY", "x" * 43)
    assert "JWT_KEY" not in keys.create_missing(folder)
    assert not (folder / "jwt.key").exists()
    assert keys.read("JWT_KEY", folder) == "x" * 43


def _create(folder, barrier, queue):
    barrier.wait()
    queue.put(keys.create_missing(folder))


def test_processes_that_create_at_once_agree_on_one_set_of_keys(folder):
    context = multiprocessing.get_context("fork")
    for number in range(10):
        target, count = folder / str(number) / "keys", 4
        barrier, queue = context.Barrier(count), context.Queue()
        processes = [context.Process(target=_create, args=(target, barrier, queue)) for _ in range(count)]
        for process in processes:
            process.start()
        made = [name for _ in processes for name in queue.get(timeout=30)]
        for process in processes:
            process.join()
        assert {process.exitcode for process in processes} == {0}
        assert sorted(made) == sorted([*keys.NAMES, "INSTANCE"])
        assert sorted(path.name for path in target.iterdir()) == sorted(keys.NAMES.values())


def test_i6_a_loose_key_is_refused(folder):
    keys.create_missing(folder)
    (folder / "jwt.key").chmod(0o604)
    with pytest.raises(ImproperlyConfigured, match="chmod 600"):
        keys.read("JWT_KEY", folder)


def test_i6_a_linked_key_is_refused_even_when_it_points_nowhere(folder, tmp_path):
    keys.create_missing(folder)
    (folder / "jwt.key").rename(tmp_path / "real")
    (folder / "jwt.key").symlink_to(tmp_path / "real")
    with pytest.raises(ImproperlyConfigured, match="regular file"):
        keys.read("JWT_KEY", folder)
    (tmp_path / "real").unlink()
    with pytest.raises(ImproperlyConfigured, match="regular file"):
        keys.read("JWT_KEY", folder)


def test_i6_a_key_in_a_folder_that_others_can_write_is_refused(folder):
    keys.create_missing(folder)
    folder.chmod(0o777)
    with pytest.raises(ImproperlyConfigured, match="written by others"):
        keys.read("JWT_KEY", folder)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_i6_a_key_of_another_user_is_refused(folder):
    keys.create_missing(folder)
    os.chown(folder / "jwt.key", 4242, 4242)
    with pytest.raises(ImproperlyConfigured, match="belongs to uid 4242"):
        keys.read("JWT_KEY", folder)


@pytest.mark.parametrize("content", ["", "x" * 42, " " * 60])
def test_b10_a_short_key_is_refused_and_not_replaced(folder, content):
    keys.create_missing(folder)
    (folder / "jwt.key").write_text(content)
    with pytest.raises(ImproperlyConfigured, match="ZCPLATFORM_JWT_KEY is too short"):
        keys.read("JWT_KEY", folder)
    assert keys.create_missing(folder) == []
    assert (folder / "jwt.key").read_text() == content
