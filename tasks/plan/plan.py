"""Spec, lock and what the host has of them → stages with their keys. Pure: no I/O at all.

base ─→ layer "packages" ─→ layer … ─→ layer "settings" ─┬→ image /
                                                         └→ image /boot …
"""

from __future__ import annotations

from typing import Any

from ..errors import BuildError
from ..spec import given
from ..spec.model import Layer, Spec
from . import booting, disks, exports, fstab, hostkeys, loaders
from .filesystems import filesystems, image_tools, on_disks
from .keys import identities
from .lockfile import Lock, LockedLayer
from .recipes import stage_of
from .stage import Host, Plan, Stage
from .tops import tops


def tools_for(spec: Spec) -> list[str]:
    """The tools whose versions are in this spec's keys."""
    found = {spec.base.tool}.union(*(image_tools(image) for image in filesystems(spec)))
    found |= disks.disk_tools(spec)
    if spec.tests:
        from . import boot_tests  # few specs have any, and none else need load what they boot in

        found |= boot_tests.tools(spec)
    return sorted(found.union(*(exports.tools(one) for one in spec.exports)))


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
        **({"debconf": host.debconf["base"]} if spec.base.debconf else {}),
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
        **{name: value for name, value in _machine(layer, host).items() if value},
    }


def _machine(layer: Layer, host: Host) -> dict[str, Any]:
    """What of a layer's inputs is only there where the spec has it: the keys of others stay."""
    return {
        "accounts": host.accounts.get(layer.name, []),
        "services": {verb: list(units) for verb, units in layer.services.given.items()},
        "remove": sorted(layer.remove),
    }


def make_plan(spec: Spec, lock: Lock, host: Host) -> Plan:
    """The stages of a build; BuildError for what a disk needs of the tree and the lock lacks."""
    check_answers(spec, lock)
    loaders.check(spec, lock)
    base = stage_of("base", "base", ".tar.zst", base_inputs(spec, lock, host))
    layers: list[Stage] = []
    parent = base
    for number, layer in enumerate(spec.layers):
        given = layer_inputs(spec, lock, number, host)
        parent = stage_of("layer", layer.name, ".tar.zst", given, parent=parent)
        layers.append(parent)
    # Of what the spec says nothing, the lock may: that there is a server that needs host keys.
    own = bool(spec.settings) or hostkeys.first_boot(spec, lock)
    settings, made_of = dict(host.settings) if own else {}, filesystems(spec)
    if fstab.wanted(spec, host.files):
        if not spec.disks:
            made_of = fstab.identified(made_of, parent.key, settings, host.epoch)
        # Asked for, it is an error where a script has made one; else that one stays.
        # Of what disks have, their own rows say all: a root that verity checks has none.
        beside = [one for one in made_of if one.mount not in on_disks(spec)]
        text = fstab.text_of(beside, booting.rows(spec))
        settings["fstab"] = {"text": text, "asked": bool(spec.settings.fstab)}
    if boot := booting.entries(spec, lock):
        settings["boot"] = [one.identity() for one in boot]
    if own or settings:
        given = {"settings": settings, "epoch": host.epoch}
        parent = stage_of("layer", "settings", ".tar.zst", given, parent=parent)
        layers.append(parent)
    above = tops(spec, lock, host, [base, *layers], made_of)
    return Plan(
        lock=lock,
        base=base,
        layers=tuple(layers),
        tops=above.stages,
        products=above.products,
        version=host.version,
    )


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
        if late and not any(one.scripts for one in spec.layers[number:]):
            where = "" if layer.name == "packages" else f"layers.{layer.name}."
            package, question, *_ = late[0].split(None, 2)
            place = layer.debconf_from.get(late[0], f"{spec.path}: {where}debconf")
            raise BuildError(
                f"{place}: {package} {question}: {package} is installed below "
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
