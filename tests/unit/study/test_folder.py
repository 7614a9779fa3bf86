from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from besom.errors import InputError
from besom.study.folder import MARKER, claim, foreign, keep_claim, lies_in, set_aside, store_beside
from besom.study.objective import objectives
from besom.study.study import Study

URL = "postgresql://me:secret@host/optuna"


def test_a_study_keeps_a_folder_of_its_own_across_sessions(tmp_path):
    folder = claim(tmp_path / "out", "id-1", "a", URL)

    assert folder == tmp_path / "out"
    assert claim(folder, "id-1", "a", URL) == folder
    keep_claim(folder, "id-1", "a", URL)
    assert "secret" not in (folder / MARKER).read_text()


def test_a_second_study_goes_to_a_place_of_its_own_and_says_so(tmp_path, capsys):
    claim(tmp_path, "id-1", "a", URL)

    assert claim(tmp_path, "id-2", "b/c", URL) == tmp_path / "study-b_c"
    assert "belongs to study 'a'" in capsys.readouterr().out
    # of the same name, in another storage
    assert claim(tmp_path, "id-3", "b/c", "sqlite:///other.db") == tmp_path / "study-b_c-2"
    assert claim(tmp_path, "id-2", "b/c", URL) == tmp_path / "study-b_c"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": 1}', "\x00"])
def test_a_marker_that_cannot_be_read_is_somebody_elses(content, tmp_path, capsys):
    (tmp_path / MARKER).write_text(content)

    assert claim(tmp_path, "id-1", "a", URL) == tmp_path / "study-a"


def test_the_folders_of_other_jobs_are_left_alone(tmp_path, capsys):
    """As Hydra's own sweeper has left them: job 0's checkpoints are not trial 0's."""
    (tmp_path / "0").mkdir()

    assert claim(tmp_path, "id-1", "a", URL) == tmp_path / "study-a"
    assert "holds the folders of other jobs" in capsys.readouterr().out


def test_of_two_studies_that_come_at_once_each_has_its_own(tmp_path, capsys):
    with ThreadPoolExecutor(8) as several:
        found = list(several.map(lambda n: claim(tmp_path, f"id-{n}", f"s{n}", URL), range(8)))

    assert len(set(found)) == 8
    for n, folder in enumerate(found):
        assert json.loads((folder / MARKER).read_text())["id"] == f"id-{n}"
        assert not [left for left in folder.iterdir() if left.name.startswith(".")]


def test_a_folder_that_another_study_has_taken_is_refused(tmp_path):
    claim(tmp_path, "id-2", "b", URL)

    with pytest.raises(InputError, match=r"study .a. has its trials in .* belongs to study .b."):
        keep_claim(tmp_path, "id-1", "a", URL)
    assert foreign(tmp_path, "id-1", "a")
    assert foreign(tmp_path, "id-2", "b") is None


def test_a_folder_that_was_deleted_is_made_again(tmp_path):
    keep_claim(tmp_path / "out", "id-1", "a", URL)

    assert foreign(tmp_path / "out", "id-1", "a") is None
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_what_lies_in_a_new_trials_folder_is_set_aside(tmp_path):
    for content in ("one", "two"):
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "last.ckpt").write_text(content)
        assert set_aside(tmp_path / "7")

    assert not (tmp_path / "7").exists()
    assert [(tmp_path / f"7.aside-{n}" / "last.ckpt").read_text() for n in (1, 2)] == ["one", "two"]


def test_nothing_is_set_aside_where_nothing_lies(tmp_path):
    (tmp_path / "7").mkdir()

    assert set_aside(tmp_path / "7") is None
    assert set_aside(Path(tmp_path / "8")) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]


# ── moved ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def moved(tmp_path):
    """A study in a folder that was then moved, with its storage: where it was, and where it is."""
    (tmp_path / "old").mkdir()
    recorded = claim(tmp_path / "old" / "multirun" / "day" / "time", "id-1", "a", f"sqlite:///{tmp_path}/old/optuna.db")
    (tmp_path / "old").rename(tmp_path / "new")
    return recorded, tmp_path / "new" / "multirun" / "day" / "time"


def test_a_folder_that_moved_with_its_storage_is_found(moved, tmp_path):
    recorded, now = moved
    assert lies_in(recorded, "id-1", f"sqlite:///{tmp_path}/new/optuna.db") == now


def test_of_a_copy_of_both_the_copys_own_folder_is_taken(moved, tmp_path):
    recorded, now = moved
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    assert lies_in(recorded, "id-1", f"sqlite:///{tmp_path}/new/optuna.db") == now
    assert lies_in(recorded, "id-1", f"sqlite:///{tmp_path}/old/optuna.db") == recorded


def test_another_studys_folder_at_that_place_is_not_taken_for_it(moved, tmp_path):
    recorded, _ = moved
    assert lies_in(recorded, "id-2", f"sqlite:///{tmp_path}/new/optuna.db") == recorded
    assert lies_in(recorded, "id-1", URL) == recorded


def test_a_store_that_moved_with_the_storage_is_found(tmp_path):
    (tmp_path / "mlflow.db").touch()
    storage = f"sqlite:///{tmp_path}/optuna.db"
    assert store_beside("sqlite:////no/such/mlflow.db", storage) == f"sqlite:///{tmp_path}/mlflow.db"
    assert store_beside("sqlite:////no/such/other.db", storage) == "sqlite:////no/such/other.db"
    assert store_beside("http://host:5000", storage) == "http://host:5000"
    assert store_beside(None, storage) is None


def test_a_study_whose_folder_moved_says_so_once_and_goes_on_there(tmp_path, capsys):
    def study(home, folder):
        url = f"sqlite:///{home}/optuna.db"
        return Study.create(url, "a", objectives("minimize", "y"), folder, {"x": "interval(0,1)"})

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    study(old, old / "multirun" / "1").keep_folder()
    old.rename(new)

    found = study(new, new / "multirun" / "2")
    assert found.folder == new / "multirun" / "1"
    found.keep_folder()
    assert "its folder lies in" in capsys.readouterr().out
    found.keep_folder()
    assert capsys.readouterr().out == ""
    assert not old.exists()


def test_a_folder_that_was_moved_by_itself_is_told_by_the_sweeps_own(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"

    def study(folder):
        return Study.create(url, "a", objectives("minimize", "y"), folder, {"x": "interval(0,1)"})

    study(tmp_path / "1")
    (tmp_path / "1").rename(tmp_path / "away")
    assert "hydra.sweep.dir=FOLDER" in str(Study(url, "a").gone_folder())
    assert study(tmp_path / "other").folder == tmp_path / "1"
    assert study(tmp_path / "away").folder == tmp_path / "away"
