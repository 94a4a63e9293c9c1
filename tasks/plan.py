"""Spec, lock and what the host has of them → stages with their keys. Pure: no I/O at all.

base ─→ layer "packages" ─→ layer … ─→ layer "settings" ─┬→ image /
                                                         └→ image /boot …
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from tasks import ext, given, mkfs
from tasks.errors import BuildError
from tasks.lockfile import FORMAT, SCAN, Lock, LockedLayer, Record
from tasks.spec import Image, Layer, Spec

RECIPES = {"base": 5, "layer": 7, "image": 4}
"""Raised when a stage's code would make other bytes from the same inputs."""

SUFFIX = {"gzip": ".img.gz", "zstd": ".img.zst", "xz": ".img.xz", "raw": ".img"}
CONTAINER_TOOL = {"gzip": "", "zstd": "zstd", "xz": "xz", "raw": ""}
GZIP_TOOL = {"fast": "isal", "default": "isal", "best": "zlib-ng"}
"""What deflates at each level: see tasks.compress."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One node of the graph; `inputs` is all that its key is made of, as JSON values."""

    kind: str
    name: str
    key: str
    inputs: Mapping[str, Any]
    suffix: str

    @property
    def tree(self) -> str:
        """Names the tree: its own key of base or layer, of an image that of the last layer."""
        return str(self.inputs["parent"]) if self.kind == "image" else self.key

    @property
    def entry(self) -> str:
        """The name of its cache entry, without a suffix."""
        return f"{self.kind}-{self.key}"

    @property
    def task(self) -> str:
        """Its doit task."""
        return self.kind if self.kind == "base" else f"{self.kind}:{self.name}"

    @property
    def log(self) -> str:
        """The name of its log file in out/NAME/log/."""
        slug = self.name.strip("/").replace("/", "-") or "root"
        return "base.log" if self.kind == "base" else f"{self.kind}-{slug}.log"


@dataclass(frozen=True, kw_only=True)
class Host:
    """What keys take from the host: made by tasks.inputs."""

    tools: Mapping[str, str]
    files: Mapping[str, list[list[Any]]]
    scripts: Mapping[str, str]
    debconf: Mapping[str, list[str]]
    settings: Mapping[str, Any]
    epoch: int | None
    reads: Mapping[str, list[str]] = field(default_factory=dict)
    """The settings that a layer's script may look at, by the layer's name."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every stage of one build, in the order in which they are made."""

    lock: Lock
    base: Stage
    layers: tuple[Stage, ...]
    images: tuple[Stage, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them."""
        return (self.base, *self.layers, *self.images)

    @property
    def tree(self) -> tuple[Stage, ...]:
        """Base and layers: what an image is filled from."""
        return (self.base, *self.layers)

    @property
    def tools(self) -> dict[str, str]:
        """The host's tools in the keys, with the versions that these see."""
        found: dict[str, str] = {}
        for stage in self.stages:
            found |= tools_of(stage.inputs)
        return dict(sorted(found.items()))


def canonical(value: Any) -> str:
    """JSON with one way to write each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key(value: Any) -> str:
    """xxh3-128 of a value's canonical JSON, as 32 hex digits: identity, not trust."""
    return xxhash.xxh3_128_hexdigest(canonical(value).encode())


def resolution_inputs(spec: Spec) -> str:
    """The digest of all that the lock depends on in a spec: a lock with another one is stale.

    So is a lock of an older form, which lacks something. Addresses are left out (a mirror with the
    same content gives the same lock), and so is the order of a package list.
    """
    return key({
        "format": FORMAT,
        # With them, what looks at them is found when the .debs are locked.
        **({"scan": SCAN} if spec.settings.shown else {}),
        "arch": spec.arch,
        "base": [spec.base.tool, spec.base.variant, sorted(set(spec.base.include))],
        "repos": [
            # Without pins as before there were any: a lock of then is not stale.
            [repo.name, repo.suite, repo.section, repo.priority, *filter(None, [repo.pins])]
            for repo in spec.repos
        ],
        "layers": [[layer.name, sorted(set(layer.packages))] for layer in spec.layers],
        "recommends": spec.recommends,
    })  # fmt: skip


def identities(records: tuple[Record, ...]) -> list[list[str]]:
    """The part of records that a key sees: the repo hash is made of these."""
    return sorted(list(record.identity) for record in records)


def image_tools(image: Image) -> set[str]:
    """The tools whose versions decide an image's bytes."""
    tools = {mkfs.TOOL[image.format]}
    if image.format == "vfat":
        tools.add("mcopy")  # which writes all that is in it
    tools.add(GZIP_TOOL[image.level] if image.container == "gzip"
              else CONTAINER_TOOL[image.container])  # fmt: skip
    return tools - {""}


def tools_for(spec: Spec) -> list[str]:
    """The tools whose versions are in this spec's keys."""
    return sorted({spec.base.tool}.union(*(image_tools(image) for image in spec.images)))


def tools_of(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The tools in a stage's inputs, and their versions."""
    found = inputs.get("tools", {})
    if "tool_version" in inputs:
        found = {str(inputs["tool"]): inputs["tool_version"]}
    return dict(found) if isinstance(found, dict) else {}


def other_tools(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The tools whose versions differ, a line each, of those that both name."""
    return [f"{name}: {old[name]} → {new[name]}" for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]]  # fmt: skip


def base_inputs(spec: Spec, lock: Lock, host: Host) -> dict[str, Any]:
    """All that a base is made of: tasks.base renders its command from this and nothing else."""
    tool, variant = spec.base.tool, spec.base.variant
    suite = None
    if tool == "mmdebstrap":
        # It is told the whole closure, so that of the variants one selects what another does.
        variant = "extract" if variant == "extract" else "custom"
    else:
        # It runs a script for the suite; mmdebstrap has none.
        suite = spec.repos[0].suite.strip("./") or "sid"
    auto, _manual = lock.marks(None)
    # Without apt there is nobody whose marks these would be.
    marked = spec.base.variant != "extract" and any(one.package == "apt" for one in lock.base)
    return {
        "arch": spec.arch,
        "foreign": list(spec.foreign),
        "tool": tool,
        "tool_version": host.tools[tool],
        "variant": variant,
        "suite": suite,
        "records": identities(lock.base),
        "auto": auto if marked else [],
        "epoch": host.epoch,
    }


def layer_inputs(spec: Spec, lock: Lock, number: int, host: Host) -> dict[str, Any]:
    """All that a layer is made of: tasks.layer renders its steps from this and nothing else.

    What was asked for is not in it, only what came of that: `alpha`, `alpha=1` and `alpha/stable`
    that lock the same package make the same layer.
    """
    layer = spec.layers[number]
    index, locked = next(
        (index, one) for index, one in enumerate(lock.layers) if one.name == layer.name
    )
    auto, manual = lock.marks(index)
    return {
        "arch": spec.arch,
        "foreign": list(spec.foreign),
        "records": identities(locked.records),
        "removes": sorted(locked.removes),
        "auto": auto,
        "manual": manual,
        "debconf": host.debconf[layer.name],
        "files": host.files[layer.name],
        "script": host.scripts.get(layer.name),
        "shown": shown_to(spec, lock, number, host),
        "epoch": host.epoch,
    }


def make_plan(spec: Spec, lock: Lock, host: Host) -> Plan:
    """The stages of a build."""
    check_answers(spec, lock)
    base = _stage("base", "base", ".tar.zst", None, base_inputs(spec, lock, host))
    layers: list[Stage] = []
    parent = base
    for number, layer in enumerate(spec.layers):
        given = layer_inputs(spec, lock, number, host)
        parent = _stage("layer", layer.name, ".tar.zst", parent, given)
        layers.append(parent)
    if spec.settings:
        parent = _stage("layer", "settings", ".tar.zst", parent,
                        {"settings": dict(host.settings), "epoch": host.epoch})  # fmt: skip
        layers.append(parent)
    mounts = [image.mount for image in spec.images]
    images = tuple(_image(image, mounts, parent, host) for image in spec.images)
    return Plan(lock=lock, base=base, layers=tuple(layers), images=images)


def late_answers(spec: Spec, lock: Lock, number: int) -> list[str]:
    """A layer's debconf answers for packages that are installed before, and ask no more."""
    layer = spec.layers[number]
    comes = next((one.records for one in lock.layers if one.name == layer.name), ())
    below = {record.package for record in lock.installed(number)}
    return given.unasked(
        layer.debconf, below, {record.package for record in comes}, spec.settings.given
    )


def check_answers(spec: Spec, lock: Lock) -> None:
    """BuildError for a late answer in whose place a field works, unless a script may ask for it."""
    for number, layer in enumerate(spec.layers):
        late = [line for line in late_answers(spec, lock, number) if given.field_of(line)]
        if late and not any(one.script is not None for one in spec.layers[number:]):
            where = "" if layer.name == "packages" else f"layers.{layer.name}."
            package, question, *_ = late[0].split(None, 2)
            raise BuildError(
                f"{spec.path}: {where}debconf: {package} {question}: {package} is installed below "
                "this layer and asks no more, so that the answer would be lost",
                f"use the spec's {given.field_of(late[0])}",
            )


def shown_to(spec: Spec, lock: Lock, number: int, host: Host) -> dict[str, str]:
    """The settings that a layer is shown, with their texts: what its packages and script look at.

    And what a layer below was shown: it is in the tree, and this one is redone with it.
    """
    locked = {layer.name: layer for layer in lock.layers}
    found: set[str] = set()
    for layer in spec.layers[: number + 1]:
        found |= looks_at(layer, locked[layer.name], host)
    return {name: text for name, text in spec.settings.shown.items() if name in found}


def looks_at(layer: Layer, adds: LockedLayer, host: Host) -> set[str]:
    """The settings that a layer's packages and script may look at; an empty word of the spec rules.

    Otherwise that word is beside what is found: nobody wants less than a package asks for.
    """
    if layer.reads == ():
        return set()
    return {*adds.reads, *host.reads.get(layer.name, ()), *(layer.reads or ())}


def _image(image: Image, mounts: list[str], tree: Stage, host: Host) -> Stage:
    prefix = image.mount.rstrip("/") + "/"
    return _stage("image", image.mount, SUFFIX[image.container], tree, {
        "mount": image.mount,
        "below": sorted(m for m in mounts if m != image.mount and m.startswith(prefix)),
        "format": image.format,
        "container": image.container,
        # Without effect on what is not compressed.
        "level": "" if image.container == "raw" else image.level,
        "pack": image.pack,
        "label": image.label,
        "uuid": image.uuid,
        "options": _options(image),
        "size": image.size,
        "free": image.free,
        "tools": {name: host.tools[name] for name in sorted(image_tools(image))},
    })  # fmt: skip


def _options(image: Image) -> list[str]:
    """What an image's options mean to its mkfs: `-m0` is `-m 0`."""
    words = mkfs.separate(image.options, image.format)
    return ext.meaning(words, image.format) if image.format in ext.DEFAULT_FEATURES else words


def _stage(
    kind: str, name: str, suffix: str, parent: Stage | None, inputs: dict[str, Any]
) -> Stage:
    inputs = {"stage": kind, "recipe": RECIPES[kind], **inputs}
    if parent is not None:
        inputs["parent"] = parent.key
    return Stage(kind=kind, name=name, key=key(inputs), inputs=inputs, suffix=suffix)
