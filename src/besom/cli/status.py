"""`besom status`: where a study stands, from its storage alone, so from any terminal."""

from __future__ import annotations

import gc
import time
from datetime import datetime

from besom.study.command import Command
from besom.study.lookup import chosen_among
from besom.study.snapshot import StudySnapshot
from besom.study.study import LOOK_S, StopRequest, Study, listed
from besom.system.encoding import say
from besom.terminal import console, is_watched, progress
from besom.terminal.pace import left
from besom.terminal.screen import Screen
from besom.terminal.table import TerminalSize, picture
from besom.terminal.words import span

BOUNDLESS = TerminalSize(400, 1000)  # in a pipe nothing is cut


def status(url: str, name: str | None, *, follow: bool) -> None:
    """Print it; `follow`: show it until nobody sweeps the study, or until Ctrl-C, which the sweep does not hear.

    Raises:
        InputError: no such storage or study.
    """
    study, others = chosen_among(url, name)
    for one in others if name is None else ():
        say(f"study {one.name}: {one.finished} of {one.n_trials} trials{', being swept' * one.is_swept}")
    if follow and StudySnapshot.of(study).is_swept:
        try:
            _follow(study)
        except KeyboardInterrupt:
            say(f"the sweep goes on; to look at it again: besom status {study.name} -f")
            return
    _show(study)


def _follow(study: Study) -> None:
    gc.enable()  # this may go on for days
    if is_watched():
        say(_standing(study, StudySnapshot.of(study)), flush=True)
    with progress(study) as view:
        if not is_watched():
            _show(study)
        while StudySnapshot.of(study).is_swept:
            view.refresh()
            time.sleep(LOOK_S)


def _show(study: Study) -> None:
    snapshot, now = StudySnapshot.of(study), datetime.now()
    say(_standing(study, snapshot), flush=True)
    if is_watched():
        screen = console()
        screen.print(picture(snapshot, TerminalSize(screen.width, BOUNDLESS.height), now))
        return
    page = Screen(width=BOUNDLESS.width, highlight=False)
    with page.capture() as shown:
        page.print(picture(snapshot, BOUNDLESS, now))
    print("\n".join(line.rstrip() for line in shown.get().rstrip().splitlines()), flush=True)


def _standing(study: Study, snapshot: StudySnapshot) -> str:
    """`study digits: interrupted, 8 of 20 trials to go; go on with: besom sweep digits`"""
    lease, todo = snapshot.supervisor, left(snapshot)
    if lease and snapshot.is_swept:
        since = f", for {span(time.time() - lease.since)}" if lease.is_here() else ""
        how = f"being swept by process {lease.pid} on {lease.host}{since}"
    elif not todo:
        how = f"finished, {snapshot.counts.finished} of {snapshot.n_trials} trials"
    else:
        how = f"{_break(snapshot)}, {todo} of {snapshot.n_trials} trials to go; {_go_on(study)}"
    question = f"\n{snapshot.question}" if snapshot.question else ""
    changes = [f"\nafter {one.after} trials it went on with a change:\n{listed(one.lines)}" for one in snapshot.changes]
    return f"study {snapshot.name}: {how}{question}{''.join(changes)}"


def _break(snapshot: StudySnapshot) -> str:
    if snapshot.supervisor:
        return "its supervisor died"
    match snapshot.stop:
        case StopRequest(cause="settled" | "failing" | "refused", why=why):
            return f"stopped: {why}"
    return "interrupted"


def _go_on(study: Study) -> str:
    command = Command.of(study)
    return f"go on with: {command}" if command else "the same command goes on"
