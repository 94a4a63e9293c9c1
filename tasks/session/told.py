"""What is told of a run's stages: the plan first, then each one in the plan's order.

A stage is told when it is decided, but never before one that comes earlier in the plan: doit looks
at images first, and several are made side by side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..errors import BuildError
from ..plan.stage import Plan, Stage, each_once
from ..spec.words import counted
from ..store import history

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run is about to do; `seconds` is about how long its stages take, None if unknown."""

    wanted: tuple[Stage, ...]
    build: tuple[Stage, ...] = ()
    pull: tuple[Stage, ...] = ()
    seconds: float | None = None

    @property
    def text(self) -> str:
        """In one line."""
        of = f"of {counted(len(self.wanted), 'stage')}"
        parts = [f"{len(self.build)} {of} to build"] if self.build else []
        if self.pull:
            parts.append(f"{len(self.pull)} {'to pull' if parts else of + ' to pull'}")
        if self.build and self.seconds is not None:
            parts.append(f"about {about(self.seconds)}")
        return ", ".join(parts) or f"all {counted(len(self.wanted), 'stage')} are in the cache"

    def would(self, stage: Stage) -> str:
        """What becomes of one stage: `build`, `pull`, or `none` where nothing is to do."""
        return "build" if stage in self.build else "pull" if stage in self.pull else "none"


def about(seconds: float) -> str:
    """A guess, no more exact than guesses are."""
    if seconds < 15:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    tens = round(seconds / 10) * 10
    return f"{tens // 60} min" + (f" {tens % 60} s" if tens % 60 and tens < 600 else "")


def spent(seconds: float) -> str:
    """A time that has passed."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {seconds % 60:.0f} s"


def wanted(plan: Plan, ends: Sequence[Stage], chosen: Sequence[str]) -> tuple[Stage, ...]:
    """The stages that these tasks ask for, and all that those may need, in the plan's order."""
    return plan.closure(asked(plan, ends, chosen))


def asked(plan: Plan, ends: Sequence[Stage], chosen: Sequence[str]) -> tuple[Stage, ...]:
    """The stages that these tasks ask for outright; `ends` are those that a build wants."""
    every = plan.stages if "build" not in chosen else ends
    return tuple(
        one for one in every if "build" in chosen or one.task in chosen or one.group in chosen
    )


def guess(tree: Sequence[float], images: Sequence[float], cpus: int) -> float:
    """How long it takes: one stage of the tree after the other, then the images side by side."""
    return sum(tree) + max(max(images, default=0.0), sum(images) / max(1, cpus))


class Told:
    """Of one run: what has been said of it so far."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.chosen: Sequence[str] = ("build",)
        self.built_since = time.monotonic()
        self._decided: set[str] = set()
        self._said: set[str] = set()

    @cached_property
    def wanted(self) -> tuple[Stage, ...]:
        """The stages that the run is about."""
        return wanted(self.session.plan, self.session.ends, self.chosen)

    @cached_property
    def forecast(self) -> Forecast:
        """What the run is about to do, as the caches are now."""
        plan = self.session.plan
        lacking: list[Stage] = []
        pull: list[Stage] = []
        seen: set[str] = set()
        # From what is asked for downwards: of what is there, nothing below is needed.
        ways = list(asked(plan, self.session.ends, self.chosen))
        while ways:
            seen |= {one.task for one in ways}
            without = [one for one in ways if not self._there(one)]
            come = self._within_reach([one for one in without if one.kept])
            lacking += without
            pull += come
            below = {one.task: one for way in without if way not in come for one in plan.below(way)}
            ways = [one for task, one in below.items() if task not in seen]
        lacking = each_once(one for one in self.wanted if one in lacking)
        build = tuple(one for one in lacking if one not in pull)
        return Forecast(
            wanted=self.wanted,
            build=build,
            pull=tuple(one for one in lacking if one in pull),
            seconds=self._seconds(build),
        )

    def _there(self, stage: Stage) -> bool:
        return stage.kept and self.session.cache.get(stage) is not None

    def _within_reach(self, stages: Sequence[Stage]) -> list[Stage]:
        """Those that a shared cache would give."""
        shared = self.session.shared
        if shared is None or not shared.policy.pull or not stages:
            return []
        from ..remote.remotes import AT_ONCE

        with ThreadPoolExecutor(min(AT_ONCE, len(stages))) as pool:
            there = list(pool.map(shared.where, stages))
        return [one for one, place in zip(stages, there, strict=True) if place]

    def _seconds(self, build: Sequence[Stage]) -> float | None:
        """About how long these take, by what they took on this host; None unless all are known."""
        import os

        if not build:
            return None
        session = self.session
        own = history.builds(session.state, session.name)
        others: list[history.Build] | None = None
        times: dict[str, float] = {}
        for stage in build:
            seconds = history.took(own, stage.task)
            if seconds is None:
                if others is None:
                    others = history.of_others(session.state, session.name)
                seconds = history.took(others, stage.task)
                if seconds is None:
                    seconds = history.took_kind(others, stage.kind)
            if seconds is None:
                return None
            times[stage.task] = seconds
        return guess(
            [times[one.task] for one in build if not one.beside],
            [times[one.task] for one in build if one.beside],
            len(os.sched_getaffinity(0)),
        )

    # ------------------------------------------------------------ telling

    def plan(self, chosen: Sequence[str]) -> None:
        """Say what is about to be done, unless that is nothing; without a plan there is none."""
        self.chosen = chosen
        session = self.session
        try:
            forecast = self.forecast
        except BuildError:
            return  # told by the stage that needs it
        session.screen.event(
            "plan",
            build=len(forecast.build),
            pull=len(forecast.pull),
            seconds=None if forecast.seconds is None else round(forecast.seconds, 1),
            stages=[{**_named(one), "would": forecast.would(one)} for one in forecast.wanted],
        )
        if forecast.build or forecast.pull:
            session.screen.note(forecast.text)
            self.built_since = time.monotonic()
            session.screen.raise_bar(self._foot)

    def _foot(self) -> str:
        """The bar's last row: how far the whole run is."""
        forecast, now = self.forecast, time.monotonic()
        done = sum(
            known.result in ("built", "pulled") for known in list(self.session.results.values())
        )
        all_of = len(forecast.build) + len(forecast.pull)
        from .bar import clock

        text = f"{min(done, all_of)} of {all_of} done, {clock(now - self.session.started)}"
        if forecast.build and forecast.seconds is not None:
            left = forecast.seconds - (now - self.built_since)
            text += f", about {about(left)} left" if left > 1 else ""
        return text

    def began(self, stage: Stage) -> None:
        """A stage is being made."""
        self.session.screen.event("stage", **_named(stage), state="begun")

    def decided(self, stage: Stage) -> None:
        """It is known what becomes of a stage; what is not held up by an earlier one is said."""
        if stage.task in self._decided:
            return
        self._decided.add(stage.task)
        session = self.session
        if session.screen.events:
            known = session.result(stage)
            session.screen.event(
                "stage",
                **_named(stage),
                state=known.result,
                seconds=round(known.seconds, 3),
                bytes=known.bytes,
            )
        for one in self.wanted:
            if one.task not in self._decided:
                break
            self._say(one)

    def failed(self, task: str) -> None:
        """A stage failed: what is known of others is said before that."""
        self.rest()
        stage = next((one for one in self._stages() if one.task == task), None)
        if stage is not None:
            self.session.screen.event("stage", **_named(stage), state="failed")

    def rest(self, *, all: bool = False) -> None:
        """Say what was held up; with `all` also what no task had to look at."""
        for stage in self._stages():
            if all:
                self.decided(stage)
            if stage.task in self._decided:
                self._say(stage)

    def _stages(self) -> tuple[Stage, ...]:
        """All of the plan; none where there is no plan."""
        session = self.session
        return session.plan.stages if "plan" in vars(session) else ()

    def _say(self, stage: Stage) -> None:
        if stage.task not in self._said:
            self._said.add(stage.task)
            self.session.say(stage)

    def total(self) -> str:
        """What the run did, in a few words."""
        session = self.session
        known = list(session.results.values())
        of = f"of {counted(len(self.wanted), 'stage')}"
        parts = [
            f"{number} {of} {what}"
            for what in ("built", "pulled")
            if (number := sum(one.result == what for one in known))
        ]
        parts = [parts[0], *(one.replace(f" {of}", "") for one in parts[1:])] if parts else []
        done = ", ".join(parts) or "nothing to build"
        return f"{done}, {spent(time.monotonic() - session.started)}"


def _named(stage: Stage) -> dict[str, str]:
    """A stage in an event."""
    return {"task": stage.task, "stage": stage.kind, "name": stage.name, "key": stage.key}
