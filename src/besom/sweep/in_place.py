"""One try at a trial in the worker's own process, where a debugger can step into it: `isolation=none`.

Nothing guards the worker here: a crash of the trial is a crash of the sweep.
"""

from __future__ import annotations

from dataclasses import replace

from besom import trial
from besom.sweep.job import Job
from besom.sweep.outcome import Outcome, Terms, as_outcome


class InPlace:
    """As `attempt.Attempt`; what the trial prints goes where the worker's own words go."""

    def __init__(self, job: Job, terms: Terms) -> None:
        self._job = job
        self._terms = terms

    def pull(self) -> None:
        """There is no leash: this trial cannot outlive its worker."""

    def outcome(self) -> Outcome:
        trial.listen(_Here(self._terms))
        try:
            ended: Outcome = replace(self._job, task=lambda config: as_outcome(self._job.task, config)).run()
        except _Stopped:
            return Outcome("interrupted", reason="the sweep was stopped; started again, it goes on with this trial")
        finally:
            trial.listen(None)
        return ended


class _Stopped(BaseException):
    """Through the user's code, which may catch every Exception."""


class _Here:
    """The worker, as the trial sees it (`trial.Listener`)."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def report(self, value: float, step: int) -> bool:
        if self._terms.should_stop():
            raise _Stopped
        return self._terms.on_report(value, step)
