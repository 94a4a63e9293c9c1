"""Keys as they were recorded before the house was built anew: moving code changes none.

A key that is to change on purpose changes here, too, with the recipe or the input that made it so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import samples
from support.world import PROJECT
from tasks.plan.entries import layer_entries, script_identity
from tasks.plan.plan import make_plan
from tasks.spec.load import load_spec

FORMATS = {
    "ext2": "-m0 -O ^dir_index", "ext3": "-J size=4", "ext4": "-O ^64bit -E stride=4",
    "xfs": "-b size=1024", "btrfs": "--nodesize=16384", "vfat": "-F 32",
}  # fmt: skip


APP: dict[str, Any] = {
    "name": "app", "packages": ["three"], "reads": ["hostname"],
    "files": {"/a": {"content": "x", "owner": "1:2", "mode": "0600"}, "/b": {"content": "y"}},
}  # fmt: skip


def keys(folder: Path) -> dict[str, dict[str, str]]:
    """The keys by task of the shipped specs, of each filesystem in each container, and of all."""
    specs = {name: load_spec(PROJECT / f"specs/{name}.yaml", schema=samples.SCHEMA)
             for name in ("minimal", "layered", "server")}  # fmt: skip
    for kind, options in FORMATS.items():
        for container in ("gzip", "zstd", "xz", "raw"):
            image = {"file": "b.img", "format": kind, "container": container, "options": options,
                     "label": "x", "size": "400M", "level": "best"}  # fmt: skip
            images = {"/": samples.IMAGE, "/boot": image}
            specs[f"{kind} {container}"] = samples.load(folder, images=images)
    base = {"tool": "debootstrap", "variant": "buildd"}
    specs["debootstrap"] = samples.load(folder, base=base)
    specs["all"] = samples.load(
        folder, packages=["one", "two:i386"], debconf=["a b string c"], hostname="a.b",
        timezone="UTC", locale="de_DE.UTF-8", layers=[APP],
    )  # fmt: skip
    found = {}
    for name, spec in specs.items():
        layers = {layer.name: [samples.record(f"{layer.name}-{number}") for number in (1, 2)]
                  for layer in spec.layers}  # fmt: skip
        lock = samples.lock([samples.record("apt"), samples.record("base")], layers)
        host = samples.host(
            spec,
            files={layer.name: [one.identity() for one in layer_entries(layer, spec)]
                   for layer in spec.layers},
            scripts={layer.name: script_identity(layer, spec)
                     for layer in spec.layers if layer.scripts},
            settings={"hostname": spec.settings.hostname, "timezone": spec.settings.timezone},
        )  # fmt: skip
        found[name] = {stage.task: stage.key for stage in make_plan(spec, lock, host).stages}
    return found


def test_keys_are_those_that_were_recorded(tmp_path: Path) -> None:
    recorded = json.loads((PROJECT / "tests/unit/recorded.json").read_text())
    assert keys(tmp_path / "specs") == recorded
