"""Changes of a spec, its lock and its host, one at a time, for plans before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import samples
from support.samples import IMAGE, REPO, record
from tasks.plan.lockfile import Lock
from tasks.plan.stage import Host, Plan
from tasks.spec.model import Spec

Case = tuple[Spec, Lock, Host]


SPEC: dict[str, Any] = {
    "repos": [REPO, {**REPO, "name": "other", "suite": "other"}],
    "packages": ["one", "two"],
    "layers": [{"name": "app", "packages": ["three"], "debconf": ["a a/b string c"]}],
    "hostname": "host",
    "fstab": False,  # with one, most of an image is in the settings, too: test_fstab.py
    "images": {"/": IMAGE, "/boot": {"file": "b.img.gz", "format": "ext2"}},
}


ALL = {"base", "layer:packages", "layer:app", "layer:settings", "image:/", "image:/boot"}


IMAGES = {"image:/", "image:/boot"}


def plain_case(tmp_path: Path) -> Case:
    """SPEC with a lock and a host, as it is before a change."""
    spec = samples.load(tmp_path, **SPEC)
    lock = samples.lock(
        [record("apt"), record("dpkg")],
        {"packages": [record("one"), record("two")], "app": [record("three")]},
    )
    return spec, lock, samples.host(spec, settings={"hostname": "host"})


def changed(before: Plan, after: Plan) -> set[str]:
    """The tasks whose keys differ."""
    old, new = ({stage.task: stage.key for stage in one.stages} for one in (before, after))
    assert old.keys() == new.keys()
    return {task for task in old if old[task] != new[task]}


def of_spec(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (replace(case[0], **fields), case[1], case[2])


def of_layer(name: str, **fields: Any) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        layers = tuple(replace(layer, **fields) if layer.name == name else layer
                       for layer in case[0].layers)  # fmt: skip
        return replace(case[0], layers=layers), case[1], case[2]

    return change


def of_image(mount: str, **fields: Any) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        images = tuple(replace(image, **fields) if image.mount == mount else image
                       for image in case[0].images)  # fmt: skip
        return replace(case[0], images=images), case[1], case[2]

    return change


def of_base(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (replace(case[0], base=replace(case[0].base, **fields)), *case[1:])


def of_repo(**fields: Any) -> Callable[[Case], Case]:
    return lambda case: (
        replace(case[0], repos=tuple(replace(repo, **fields) for repo in case[0].repos)), *case[1:]
    )  # fmt: skip
