"""Of a storage whose file is damaged each command says so in one message."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from sqlalchemy import text

from besom.cli.doctor import examine
from besom.cli.stop import stop
from besom.errors import BesomError
from besom.study.attrs import N_TRIALS
from besom.study.lookup import chosen, chosen_among
from besom.study.objective import objectives
from besom.study.queue import Queue
from besom.study.snapshot import StudySnapshot
from besom.study.storage import StorageDamaged, StorageFull, told_plainly
from besom.study.study import Study

PAGE = 4096
RANDOM = random.Random(0).randbytes


def _sampler(number: int) -> RandomSampler:
    return RandomSampler(seed=number)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = _create(tmp_path)
    study.remember(N_TRIALS, 5)
    queue = Queue(study)
    for number in range(5):
        claim = queue.claim(5, _sampler, NopPruner())
        assert claim
        queue.complete(claim, [float(number)])
    return study


def _create(folder: Path) -> Study:
    return Study.create(f"sqlite:///{folder}/optuna.db", "s", objectives("maximize", "acc"), folder, {"lr": ""})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "its first page": lambda content: RANDOM(PAGE) + content[PAGE:],
    "all but its first page": lambda content: content[:PAGE] + RANDOM(len(content) - PAGE),
    "all its pages are empty": lambda content: content[:PAGE] + bytes(len(content) - PAGE),
    "its second half is gone": lambda content: content[: len(content) // 2],
    "another file": lambda content: b"hello " * 1000,
    "a date that is none": lambda content: content.replace(b"20", b"2;"),
}
QUESTIONS: dict[str, Callable[[str, Path], object]] = {
    "status": lambda url, folder: [StudySnapshot.of(chosen_among(url, None)[0]), *chosen_among(url, None)[1]],
    "report": lambda url, folder: StudySnapshot.of(chosen(url, "s")),
    "doctor": lambda url, folder: examine(url, None, None, fix=False),
    "stop": lambda url, folder: stop(url, "s"),
    "sweep": lambda url, folder: [Queue(_create(folder)).claim(9, _sampler, NopPruner()), _create(folder).trials()],
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_message_with_its_path_and_a_way_on(study, tmp_path, damage, question):
    file = tmp_path / "optuna.db"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))

    with pytest.raises(BesomError) as refused:
        QUESTIONS[question](study.url, tmp_path)

    assert refused.value.exit_code == 2
    if (question, damage) != ("stop", "a date that is none"):  # which does not read it
        assert f"{file} is damaged" in str(refused.value)
        assert ".recover" in str(refused.value)


def test_it_is_found_amid_a_sweep_too(study, tmp_path):
    queue = Queue(study)
    file = tmp_path / "optuna.db"
    with file.open("r+b") as content:
        content.write(RANDOM(file.stat().st_size))

    with pytest.raises(StorageDamaged, match="is damaged"):
        queue.claim(9, _sampler, NopPruner())


def test_pages_that_nobody_reads_are_found_by_doctor(study, tmp_path):
    file = tmp_path / "optuna.db"
    content = file.read_bytes()
    last = len(content) // PAGE * PAGE - PAGE
    file.write_bytes(content[:last] + RANDOM(PAGE))

    with pytest.raises(StorageDamaged, match="is damaged"):
        examine(study.url, None, None, fix=False)


def test_a_full_disk_is_one_message_with_its_folder(study, tmp_path):
    with pytest.raises(StorageFull, match=f"the disk of {tmp_path} is full.*make room"):
        _fill(study)


def _fill(study: Study) -> None:
    with told_plainly(study.url), study._rdb.engine.connect() as connection:
        connection.execute(text("PRAGMA max_page_count=1"))
        connection.execute(text("CREATE TABLE more AS SELECT randomblob(1000000)"))
