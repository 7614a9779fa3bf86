"""The study's page: one file, with all that it needs inside."""

from __future__ import annotations

import base64
import functools
import gzip
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

import besom
from besom.reporting.chart import Chart
from besom.reporting.charts import charts
from besom.reporting.look import THEMES, clipped
from besom.reporting.tables import attempts, parameters
from besom.reporting.timeline import timeline
from besom.space.space import short
from besom.study.attrs import KIND, OVERRIDES, REASON
from besom.study.snapshot import StudySnapshot, listed, point, seconds, tie, why
from besom.system.storable import on_one_line

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
TOP = 10  # trials in the table
SHOWN = 3  # commands of a Pareto front
MAX_REASON = 2000  # characters of one; trials.csv has it whole
REASONS = 30  # of failures; a thousand trials may each have their own
LONGEST = 200  # characters of a reason


def page(snapshot: StudySnapshot) -> str:
    """HTML that loads nothing: it opens from a disk, and in MLflow's sandboxed frame."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # whatever users have named is escaped on its way into the page
    house = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = [Shown.of(chart) for chart in charts(snapshot)]
    return house.get_template("page.html.j2").render(
        snapshot=snapshot,
        tiles=list(_tiles(snapshot)),
        best=[_Best.of(group, snapshot) for group in snapshot.best_groups[:SHOWN]],
        points=len(snapshot.best_groups),
        top=snapshot.ranked()[:TOP],
        first=_first(snapshot),
        keys=parameters(snapshot),
        kinds=_kinds(snapshot),
        failures=_failures(snapshot),
        charts=list(_laid_out([chart for chart in shown if chart.figure])),
        missing=[chart for chart in shown if not chart.figure],
        plotly=_library() if any(chart.figure for chart in shown) else "",
        themes=_json(THEMES),
        version=besom.__version__,
        script=_trusted("page.js"),
        style=_trusted("page.css"),
        word={"point": point, "short": short, "number": number, "span": span, "seconds": seconds, "attempts": attempts},
    )


@dataclass(frozen=True)
class Shown:
    """A chart as the page takes it."""

    title: str
    says: str
    wide: bool
    figure: Markup | None
    height: int
    least_px: int = 0

    @classmethod
    def of(cls, chart: Chart) -> Shown:
        if chart.figure is None:
            return cls(chart.title, chart.says, chart.wide, None, 0)
        return cls(
            chart.title,
            chart.says,
            chart.wide,
            _script(chart.figure.to_json()),
            int(chart.figure.layout.height),
            chart.least_px,
        )


def _laid_out(shown: list[Shown]) -> Iterator[Shown]:
    """A narrow chart that has no other beside it takes the whole row."""
    left = deque(shown)
    while left:
        one = left.popleft()
        if one.wide or not left or left[0].wide:
            yield replace(one, wide=True)
        else:
            yield from (one, left.popleft())


@dataclass(frozen=True)
class _Best:
    number: int
    said: str
    shared: str  # which trials have these values too
    command: str

    @classmethod
    def of(cls, group: list[FrozenTrial], snapshot: StudySnapshot) -> _Best:
        trial = group[0]
        pairs = zip(snapshot.objectives, trial.values, strict=True)
        said = " · ".join(f"{objective.name} {number(value)}" for objective, value in pairs)
        command = snapshot.command(trial) if OVERRIDES in trial.user_attrs else ""
        return cls(trial.number, said, tie(group, said), command)


def _first(snapshot: StudySnapshot) -> list[int]:
    """The numbers of those to be marked among the best: not where that is all of them."""
    best = [trial.number for group in snapshot.best_groups for trial in group]
    return best if len(best) < TOP else []


def number(value: float) -> str:
    return f"{value:.6g}"


def span(time_s: float | None) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`"""
    if time_s is None:
        return ""
    if time_s < 99.95:
        return f"{time_s:.1f} s"
    minutes, rest = divmod(round(time_s), 60)
    return f"{minutes} min {rest:02} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _tiles(snapshot: StudySnapshot) -> Iterator[tuple[str, str, str]]:
    """What stands at the top: a class of colour, a number, and what it counts."""
    counts = snapshot.counts
    for word in ("complete", "pruned", "failed", "running", "waiting"):
        count = getattr(counts, word)
        if count or word in ("complete", "pruned", "failed"):
            yield word, str(count), word
    yield "", f"{counts.finished} of {snapshot.n_trials or '?'}", "trials done"
    time = timeline(snapshot)
    if time.bars:
        yield "", span(max(bar.begin + bar.seconds for bar in time.bars)), "of sweeping"
        lost = [bar.seconds for bar in time.bars if bar.trial.state in (TrialState.PRUNED, TrialState.FAIL)]
        yield "", span(sum(lost)), f"in pruned and failed trials ({sum(lost) / (time.busy_s or 1.0):.0%})"
        yield "", f"{time.idle_share:.1%}", "slots idle"


def _kinds(snapshot: StudySnapshot) -> list[tuple[str, int, str, str]]:
    """Of the failures a kind, how often, its most frequent reason, and which trials; the most frequent kind first."""
    alike: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in snapshot.trials:
        if trial.state == TrialState.FAIL:
            alike[_kind(trial)].append(trial)
    return [
        (kind, len(members), _reason(members), listed([trial.number for trial in members]))
        for kind, members in sorted(alike.items(), key=lambda row: -len(row[1]))
    ]


def _kind(trial: FrozenTrial) -> str:
    """`oom`, or `exception ValueError`."""
    kind, reason = trial.user_attrs.get(KIND) or "no reason given", trial.user_attrs.get(REASON) or ""
    name = re.match(r"[\w.]+(?=:|$)", reason)
    return f"{kind} {name[0]}" if kind == "exception" and name else str(kind)


def _reason(members: list[FrozenTrial]) -> str:
    reasons = Counter(clipped(" ".join((trial.user_attrs.get(REASON) or "").split()), LONGEST) for trial in members)
    [(reason, _)] = reasons.most_common(1)
    return f"{reason} (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else reason


def _failures(snapshot: StudySnapshot) -> list[tuple[str, int, str]]:
    """Why, how often, and which trials; the most frequent first."""
    alike: dict[str, list[int]] = defaultdict(list)
    for trial in snapshot.trials:
        if trial.state == TrialState.FAIL:
            alike[on_one_line(why(trial), MAX_REASON) or "no reason given"].append(trial.number)
    rows = sorted(alike.items(), key=lambda row: -len(row[1]))
    shown = [(reason, len(which), listed(which)) for reason, which in rows[:REASONS]]
    left = sum(len(which) for _, which in rows[REASONS:])
    return [*shown, (f"{len(rows) - REASONS} other reasons: trials.csv has them all", left, "")] if left else shown


@functools.cache
def _library() -> str:
    """plotly.js, which every browser since 2023 unpacks by itself: 4.8 MB become 2."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _json(value: Any) -> Markup:
    import json

    return _script(json.dumps(value))


def _script(json: str) -> Markup:
    """JSON inside a <script>, which no text in it can end."""
    from markupsafe import Markup

    return Markup(json.replace("<", "\\u003c"))


def _trusted(name: str) -> Markup:
    from markupsafe import Markup

    return Markup((HERE / name).read_text(encoding="utf-8"))
