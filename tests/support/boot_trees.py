"""Small trees that hold what boot loaders are made of, and a machine that makes parts of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.builder import Builder, Reach
from tasks.host.log import Log
from tasks.host.tools import tool
from tasks.plan.keys import key
from tasks.plan.stage import Stage
from tasks.rootfs.overlay import Standing, Trees
from tasks.store.cache import Cache
from tasks.store.seen import SeenFiles

EPOCH = 1_700_000_000

RELEASE = "6.1.0-9-amd64"

LOADERS = (
    "usr/lib/shim/shimx64.efi.signed",
    "usr/lib/shim/mmx64.efi.signed",
    "usr/lib/shim/fbx64.efi.signed",
    "usr/lib/shim/BOOTX64.CSV",
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
)

KERNEL = (f"boot/vmlinuz-{RELEASE}", f"boot/initrd.img-{RELEASE}")

SYSTEMD_BOOT = ("usr/lib/systemd/boot/efi/systemd-bootx64.efi",)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A builder with trees of its own at hand, which nothing was unpacked for."""

    folder: Path
    builder: Builder
    below: tuple[Stage, ...]

    @property
    def tree(self) -> Path:
        """The topmost tree."""
        return self.builder.trees.folder / f"t{len(self.below)}"

    def stage(self, name: str, **inputs: Any) -> Stage:
        """A stage above the tree."""
        inputs = {"stage": "image", "name": name, **inputs, "parent": self.below[-1].key}
        return Stage(kind="image", name=name, key=key(inputs), inputs=inputs, suffix=".img")

    def file(self, stage: Stage) -> Path:
        """What a stage made."""
        return self.builder.cache.file(stage)


def machine(folder: Path, trees: int = 1, *, private: bool = False) -> Machine:
    """A machine in a folder, with so many empty trees, one on the other."""
    scratch = folder / "scratch"
    cache = Cache(folder / "cache", SeenFiles(folder / "seen.json"))
    builder = Builder(
        cache=cache,
        scratch=scratch,
        trees=Trees(scratch / "trees", cache),
        log=Log(None),
        reach=Reach(arch="amd64"),
        state=folder,
    )
    below = []
    for number in range(1, trees + 1):
        kind = "base" if number == 1 else "layer"
        stage = Stage(
            kind=kind, name=f"t{number}", key=f"{number:032x}", inputs={}, suffix=".tar.zst"
        )
        (scratch / f"trees/t{number}").mkdir(parents=True)
        facts: dict[str, Any] = {"epoch": EPOCH, "size": 0, "private": private}
        with cache.put(stage, facts) as target:
            target.write_bytes(b"")
        builder.trees.names[stage.key] = f"t{number}"
        builder.trees.known[stage.key] = Standing()
        below.append(stage)
    return Machine(folder=folder, builder=builder, below=tuple(below))


def fill(tree: Path, *names: str) -> None:
    """Stand-ins for files of packages: their content is their name, many times."""
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)


def with_program(tree: Path, *names: str) -> None:
    """Programs of the host, with the libraries that they need, at the places of a merged /usr."""
    for link in ("bin", "sbin", "lib", "lib64"):
        if not (tree / link).is_symlink():
            (tree / "usr" / link).mkdir(parents=True, exist_ok=True)
            (tree / link).symlink_to(f"usr/{link}")
    for name in names:
        path = Path(tool(name))
        found = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        for library in (*re.findall(r"(/\S+) \(0x", found), path):
            source = Path(library)
            place = str(source.parent).lstrip("/")
            where = tree / (place if place.startswith("usr") else f"usr/{place}")
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.resolve(), where / source.name)
