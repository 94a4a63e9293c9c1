"""A stage of the graph, the plan that has them all, and what keys take from the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .lockfile import Lock, Record

TREE = ("base", "layer")
"""Kinds of the stages that make the tree; all others are above it."""


ABSENT = "lacking"
"""Version of what this host has not got, and only boot tests need: nothing is made under such a
key, so that no cache has it."""


STANDS_ON = ("parent", "filesystem", "verity", "parts", "disk", "file", "blobs")
"""Inputs that are keys of other stages."""


HOLDS = {"verity": "filesystem", "esp": "verity", "file": "file", "export": "blob"}
"""Kinds of stages that have digests of others in them, which are of this kind: a key does not
decide the bytes of those, so such a stage counts only beside the very ones that it was made of."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One node of the graph; `inputs` is all that its key is made of, as JSON values."""

    kind: str
    name: str
    key: str
    inputs: Mapping[str, Any]
    suffix: str
    on: tuple[str, ...] = ()
    """Tasks of the stages that it is made of: of a tree's part all below it, from the base up."""

    @property
    def tree(self) -> str:
        """Names the tree: its own key of base or layer, of others that of the layer they are of."""
        return self.key if self.kind in TREE else str(self.inputs.get("parent", ""))

    @property
    def entry(self) -> str:
        """The name of its cache entry, without a suffix."""
        return f"{self.kind}-{self.key}"

    @property
    def kept(self) -> bool:
        """Whether the cache keeps it: a whole disk is written in scratch, for its files."""
        return self.kind != "disk"

    @property
    def beside(self) -> bool:
        """Whether others of its kind are made at the same time: parts of the tree stand on each
        other, a disk goes to scratch, and a boot test has memory and seconds for itself alone."""
        return self.kept and self.kind not in (*TREE, "test")

    @property
    def group(self) -> str:
        """The doit task of all of its kind: `test` is Strata's own tests."""
        return "boot_test" if self.kind == "test" else self.kind

    @property
    def task(self) -> str:
        """Its doit task."""
        return self.group if self.kind == "base" else f"{self.group}:{self.name}"

    @property
    def title(self) -> str:
        """What it is called on the screen."""
        return self.kind if self.kind == "base" else f"{self.kind} {self.name}"

    @property
    def log(self) -> str:
        """The name of its log file in out/NAME/log/."""
        slug = self.name.strip("/").replace("/", "-") or "root"
        return "base.log" if self.kind == "base" else f"{self.kind}-{slug}.log"


@dataclass(kw_only=True)
class Result:
    """What became of one stage; `bytes` is what its file takes, holes left out.

    `began` is in seconds since the run began, 0 for what took no time of its own.
    """

    result: str
    seconds: float
    bytes: int
    began: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """What keys take from the host: made by tasks.inputs."""

    tools: Mapping[str, str]
    files: Mapping[str, list[list[Any]]]
    scripts: Mapping[str, Any]
    """A script alone by its digest, others as a list of digest, variables and network."""
    debconf: Mapping[str, list[str]]
    settings: Mapping[str, Any]
    epoch: int | None
    reads: Mapping[str, list[str]] = field(default_factory=dict)
    """The settings that a layer's script may look at, by the layer's name."""
    accounts: Mapping[str, list[list[Any]]] = field(default_factory=dict)
    version: str = ""
    """The image's, as tasks.plan.image_version has it."""
    sources: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    """Of files that partitions hold, by disk and partition: SHA-256 and size in bytes."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each boot test's script, by its path as the spec has it."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """What is published of a stage, by its name in out/NAME/: a file, or a folder of files."""

    name: str
    stage: Stage
    folder: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every stage of one build, in the order in which they are made."""

    lock: Lock
    base: Stage
    layers: tuple[Stage, ...]
    tops: tuple[Stage, ...]
    """What stands on the tree: each after those that it is made of."""
    products: tuple[Product, ...]
    """What is published: images in their order, then files of disks, then exports."""
    version: str = ""
    """The images' version, "" for none."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return (self.base, *self.layers, *self.tops)

    @property
    def tree(self) -> tuple[Stage, ...]:
        """Base and layers: what an image is filled from."""
        return (self.base, *self.layers)

    @property
    def images(self) -> tuple[Stage, ...]:
        """Those of the spec's `images`, in their order."""
        return tuple(one for one in self.tops if one.kind == "image")

    @property
    def files(self) -> tuple[str, ...]:
        """What the images are called in out/NAME/, in their order; no part of any key."""
        return tuple(one.name for one in self.products if one.stage.kind == "image")

    @property
    def tests(self) -> tuple[Stage, ...]:
        """Boot tests, which gate what is published."""
        return tuple(one for one in self.tops if one.kind == "test")

    @property
    def ends(self) -> tuple[Stage, ...]:
        """What a build wants: all that is published, and the tests."""
        found = {one.stage.task: one.stage for one in self.products}
        # Of OCI the layers' blobs are published beside what names them.
        blobs = [one for one in self.tops if one.kind == "blob"]
        return (*blobs, *found.values(), *self.tests)

    @cached_property
    def _by_task(self) -> Mapping[str, Stage]:
        return {one.task: one for one in self.stages}

    def below(self, stage: Stage) -> tuple[Stage, ...]:
        """The stages that one is made of, all of the tree's part from the base up."""
        if stage.kind in TREE:
            return self.tree[: self.tree.index(stage)]
        return tuple(self._by_task[name] for name in stage.on)

    def held(self, stage: Stage) -> tuple[Stage, ...]:
        """Those of them whose digests a stage has in it."""
        return tuple(one for one in self.below(stage) if one.kind == HOLDS.get(stage.kind))

    def parts(self, stage: Stage) -> tuple[Stage, ...]:
        """Those of them that the cache keeps: in place of a disk what that is made of."""
        found: dict[str, Stage] = {}
        for one in self.below(stage):
            more = (one,) if one.kept else self.parts(one)
            found |= {part.task: part for part in more}
        return tuple(found.values())

    def closure(self, stages: Iterable[Stage]) -> tuple[Stage, ...]:
        """These and all that they are made of, in the plan's order."""
        found: set[str] = set()
        ways = list(stages)
        while ways:
            one = ways.pop()
            if one.task not in found:
                found.add(one.task)
                ways += self.below(one)
        return tuple(one for one in self.stages if one.task in found)

    def records(self, stage: Stage) -> tuple[Record, ...]:
        """The locked .debs that a stage is made of."""
        if stage.kind == "base":
            return self.lock.base
        found = [one.records for one in self.lock.layers if one.name == stage.name]
        return found[0] if stage.kind == "layer" and found else ()

    @property
    def tools(self) -> dict[str, str]:
        """The host's tools in the keys, with the versions that these see."""
        found: dict[str, str] = {}
        for stage in self.stages:
            found |= tools_of(stage.inputs)
        return {name: version for name, version in sorted(found.items()) if version != ABSENT}


def each_once(stages: Iterable[Stage]) -> list[Stage]:
    """Of stages with one key the first: two disks of a spec may have the same boot loader."""
    found: dict[str, Stage] = {}
    for one in stages:
        found.setdefault(one.entry, one)
    return list(found.values())


def tools_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The tools in a stage's inputs, and their versions."""
    found = inputs.get("tools", {})
    if "tool_version" in inputs:
        found = {str(inputs["tool"]): inputs["tool_version"]}
    return dict(found) if isinstance(found, dict) else {}


def other_tools(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The tools whose versions differ, a line each, of those that both name."""
    return [
        f"{name}: {old[name]} → {new[name]}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
