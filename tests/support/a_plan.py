"""A plan of a few stages, for what is told of a run."""

from __future__ import annotations

from dataclasses import replace

from tasks.plan.stage import Plan, Product, Result, Stage
from tasks.session.screen import Screen
from tasks.session.told import Told


def stage(kind: str, name: str) -> Stage:
    return Stage(kind=kind, name=name, key=f"{abs(hash(name)):032x}"[:32], inputs={}, suffix="")


BASE = stage("base", "base")


LAYERS = stage("layer", "packages"), stage("layer", "app")


IMAGES = tuple(
    replace(stage("image", name), on=tuple(one.task for one in (BASE, *LAYERS)))
    for name in ("/", "/boot")
)


PLAN = Plan(
    lock=None,  # type: ignore[arg-type]
    base=BASE,
    layers=LAYERS,
    tops=IMAGES,
    products=tuple(Product(name=one.name, stage=one) for one in IMAGES),
)


class Run:
    """As much of a session as what is told needs."""

    def __init__(self, chosen: tuple[str, ...] = ("build",)) -> None:
        self.plan = PLAN
        self.ends = PLAN.ends
        self.results: dict[str, Result] = {}
        self.screen = Screen()
        self.lines: list[str] = []
        self.told = Told(self)  # type: ignore[arg-type]
        self.told.chosen = chosen

    def say(self, one: Stage) -> None:
        self.lines.append(one.name)
