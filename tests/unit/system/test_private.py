from __future__ import annotations

import os
import tempfile

import pytest
from mlflow import MlflowClient

from besom.errors import InputError
from besom.study.storage import open_storage
from besom.system.cache import cache_folder
from besom.system.private import refuse_foreign_links
from besom.tracking.mlflow_store import Store


@pytest.fixture(autouse=True)
def open_to_all():
    umask = os.umask(0)
    yield
    os.umask(umask)


def _mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_a_studys_file_is_its_owners_alone(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/optuna.db").engine.dispose()

    assert _mode(tmp_path / "optuna.db") == 0o600


def test_a_file_that_is_shared_stays_shared(tmp_path):
    (tmp_path / "optuna.db").touch(0o660)
    open_storage(f"sqlite:///{tmp_path}/optuna.db").engine.dispose()

    assert _mode(tmp_path / "optuna.db") == 0o660


def test_mlflows_file_and_its_artifacts_are_their_owners_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "cells")
    run = store.create_run("one", {})
    store.client.log_text(run, "words", "words.txt")

    assert _mode(tmp_path / "mlflow.db") == 0o600
    assert _mode(tmp_path / "mlruns") == 0o700
    assert isinstance(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run).info.run_id, str)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a link of another user's")
def test_another_users_link_is_not_followed(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "theirs")
    refuse_foreign_links(tmp_path / "outputs" / "today")
    os.lchown(tmp_path / "outputs", 12345, 12345)

    with pytest.raises(InputError, match="outputs is a link of another user's"):
        refuse_foreign_links(tmp_path / "outputs" / "today")


def test_a_spare_cache_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("BESOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spare = tmp_path / f"besom-{os.getuid()}"

    assert cache_folder() == spare
    spare.chmod(0o777)
    with pytest.raises(InputError, match="set BESOM_CACHE"):
        cache_folder()
