"""A trial in a worker's hands: attempted, kept alive by its lease, told to the study, recorded in MLflow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from besom.sweep.attempt import Attempt
from besom.sweep.in_place import InPlace
from besom.sweep.job import App, Job
from besom.sweep.lease import LeaseLost
from besom.sweep.outcome import Outcome, State, Terms, tail
from besom.sweep.plan import Plan
from besom.sweep.space import Value, label
from besom.sweep.study import ENDS, PARENT_RUN, RUN, TRIAL, Claim, Stop, Study
from besom.tracking import Recorder, RunLog, Store
from besom.tracking.recorder import Status

BEATS = 5  # of a holder in the time of one lease

log = logging.getLogger(__name__)


class Hold:
    """From the claim of a trial to its end in the study and in MLflow, whose only writer for this trial it is."""

    def __init__(
        self, plan: Plan, app: App, study: Study, store: Store | None, claim: Claim, stopped: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._app = app
        self._study = study
        self._store = store
        self._claim = claim
        self._stopped = stopped
        self._lost = threading.Event()
        self._let_go = threading.Event()
        self._attempt: Attempt | InPlace | None = None

    def run(self) -> None:
        """Raises LeaseLost: the trial is another worker's by now; this one has nothing more to say."""
        pulse = threading.Thread(target=self._beat, name="besom-pulse", daemon=True)
        pulse.start()
        try:
            outcome, recorder = self._try()
        except LeaseLost:
            raise
        except BaseException:  # this worker is broken, not the trial: another takes it
            self._study.requeue(self._claim, "interrupted")
            raise
        finally:
            self._let_go.set()
            pulse.join()
        if self._lost.is_set():
            raise LeaseLost(f"trial {self._claim.number} was taken from this worker, which was not heard of in time")
        again = self._tell(outcome)
        if recorder:
            _finish(recorder, outcome, again)

    def _try(self) -> tuple[Outcome, Recorder | None]:
        number, trial = self._claim.number, self._claim.trial
        values = self._plan.space.suggest(trial)
        folder = self._study.folder / str(number)
        run_log = RunLog(folder / "run.jsonl")
        run_log.params({key.lstrip("+"): value for key, value in values.items()})
        recorder = self._recorder(values, run_log)
        try:
            config = self._app.compose(number, self._plan.space.overrides(values), folder)
        except Exception as error:  # Hydra's and OmegaConf's own: this point makes no config, the next one may
            return Outcome("failed", kind="config", reason=f"{type(error).__name__}: {error}"), recorder
        self._attempt = self._begin(self._app.job(config), folder)
        outcome = self._attempt.outcome()
        if outcome.state == "complete":
            named = zip(self._plan.objectives, outcome.values, strict=False)
            run_log.metrics({objective.key: value for objective, value in named}, step=0)
        if outcome.state == "failed":
            run_log.tags({"besom.output": tail(folder / "output.log")})
        return outcome, recorder

    def _begin(self, job: Job, folder: Path) -> Attempt | InPlace:
        plan = self._plan
        terms = Terms(self._on_report, self._must_end, leash_s=0.8 * plan.lease_s, timeout_s=plan.trial_timeout_s)
        return InPlace(job, terms) if plan.isolation == "none" else Attempt(job, folder / "output.log", terms)

    def _on_report(self, value: float, step: int) -> bool:
        if len(self._plan.objectives) > 1:  # no one number tells whether such a trial is worth its end
            return False
        trial = self._claim.trial
        if step not in self._study.reported(self._claim):  # a retried attempt repeats some
            trial.report(value, step)
        return bool(trial.should_prune())

    def _must_end(self) -> bool:
        return self._lost.is_set() or self._stopped()

    def _beat(self) -> None:
        """Renew the lease, then pull the trial's leash: a worker that cannot do the first does not do the second."""
        lease = self._claim.lease
        while not self._let_go.wait(self._plan.lease_s / BEATS):
            lease = lease.renewed()
            try:
                self._study.renew(self._claim, lease)
            except LeaseLost:
                self._lost.set()
                return
            except Exception as error:  # the storage is away: it may be back before the lease is over
                log.warning("the lease of trial %s could not be renewed, trying again: %s", self._claim.number, error)
                continue
            if self._attempt:
                self._attempt.pull()

    def _tell(self, outcome: Outcome) -> bool:
        """True when the trial waits for another attempt."""
        study, claim = self._study, self._claim
        log.info("trial %s: %s %s %s", claim.number, outcome.state, outcome.kind, outcome.reason)
        if outcome.state == "complete" and len(outcome.values) != len(self._plan.objectives):
            return self._tell_wrong_count(len(outcome.values))
        match outcome.state:
            case "complete":
                study.complete(claim, outcome.values)
            case "pruned":
                study.prune(claim)
            case "interrupted":
                study.requeue(claim, "interrupted")
                return True
            case "failed":
                if self._plan.is_retried(outcome) and study.retries_left(claim, self._plan.max_retries) > 0:
                    study.requeue(claim, outcome.kind)
                    return True
                study.fail(claim, outcome.kind, outcome.reason)
        return False

    def _tell_wrong_count(self, count: int) -> bool:
        """With the first trial to complete the sweep is wrong, and is stopped; with a later one, the trial."""
        wanted = len(self._plan.objectives)
        reason = f"the task function returned {count} numbers, but hydra.sweeper.direction has {wanted}"
        if self._study.counts().complete:
            self._study.fail(self._claim, "bad value", reason)
            return False
        self._study.request_stop(Stop("refused", f"{reason}: list one direction for each number"))
        self._study.requeue(self._claim, "interrupted")
        return True

    def _recorder(self, values: Mapping[str, Value], run_log: RunLog) -> Recorder | None:
        """Raises LeaseLost: another attempt's run counts; the one made here is gone."""
        if self._store is None:
            return None
        trial, ends = self._claim.trial, self._claim.trial.user_attrs.get(ENDS, [])
        parent = self._study.recall(PARENT_RUN)
        run_id = trial.user_attrs.get(RUN)
        if ends:
            run_log.tags({"besom.attempts": str(len(ends) + 1), "besom.earlier_attempts": ", ".join(ends)})
            # an attempt may have been killed after it had made the run, before it could say so
            run_id = run_id or self._store.find_child(parent, {TRIAL: str(trial.number)})
        tags = {"besom.study": self._study.name, TRIAL: str(trial.number), "mlflow.source.name": self._plan.program}
        name = f"{trial.number} · {label(values)}"
        recorder = Recorder(self._store, run_log.path, name=name, tags=tags, parent=parent, run_id=run_id)
        recorder.start()
        assert recorder.run_id is not None
        try:
            self._study.has_run(self._claim, recorder.run_id)
        except LeaseLost:
            if run_id is None:
                recorder.withdraw()
            raise
        return recorder


STATUS: dict[State, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}


def _finish(recorder: Recorder, outcome: Outcome, again: bool) -> None:
    reason = f"{outcome.kind}: {outcome.reason}" if outcome.kind else outcome.reason
    try:
        recorder.finish(STATUS[outcome.state], reason, outcome="requeued" if again else outcome.state)
    except Exception:  # MLflow is away: the trial is told and its log is whole, so the sweep goes on
        log.exception("run %s was not ended in MLflow; all it has to say is in the trial's run.jsonl", recorder.run_id)
