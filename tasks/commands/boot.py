"""`strata boot`: a spec's images in QEMU, with the console here and nothing kept.

images of the cache ─→ raw copies in scratch ─→ drives ─┐
trees of the cache ─→ kernel, initrd ───────────────────┴→ QEMU ─ its console ─ ours
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import BuildError
from ..formats import compress
from ..host import qemu, safe, space
from ..plan.stage import Stage
from ..rootfs.kernel import Kernel, kernel
from ..session.session import Session
from ..session.visits import say
from ..spec.words import printable
from ..store.readable import need_readable
from ..store.record import Entry
from .asked_machine import asked, need_free, run, ways
from .boot_disk import boot_disk

PACKAGES = {"amd64": "linux-image-cloud-amd64", "i386": "linux-image-686",
            "arm64": "linux-image-arm64", "armhf": "linux-image-armmp"}  # fmt: skip
"""Debian's kernels: on Ubuntu it is linux-virtual."""


def boot(session: Session) -> NoReturn:
    """Boot it; ends as SystemExit with the status that docs/questions.md tells."""
    spec = session.spec
    wanted = asked(session)
    if wanted.disk or (spec.disks and not spec.images):
        boot_disk(session, wanted)
    if wanted.firmware:
        raise BuildError(
            f"firmware={printable(wanted.firmware)}: images are booted without any",
            "disk= boots a disk" if spec.disks else f"{spec.path} has no disks, which have one",
        )
    images = sorted(session.plan.images, key=lambda one: str(one.inputs["mount"]))
    if not images:
        raise BuildError(
            f"{spec.path}: there is nothing to boot: it has neither images nor disks",
            "add an image of / to images, or a disk to disks",
        )
    if images[0].inputs["mount"] != "/":
        raise BuildError(f"{spec.path}: images: there is none of /", "boot needs the image of /")
    machine = qemu.machine_of(spec.arch, str(spec.path))
    need_free([ours for ours, _its in wanted.forwards])
    entries = _entries(session, [*session.plan.tree, *images])
    folder = session.scratch / "boot"
    folder.mkdir()
    with session.cache.used(session.screen.moving):
        trees = [entry.path for entry in entries[: len(session.plan.tree)]]
        found = _kernel(session, trees, folder)
        drives = _drives(session, images, entries[len(trees) :], folder)
    rights = qemu.rights(machine)
    uuid = entries[len(trees)].facts["uuid"]
    # Without an initrd nobody looks for a filesystem by its UUID.
    root = f"root=UUID={uuid}" if found.initrd else "root=/dev/vda"
    words = [root, "ro", f"console={machine.console}", "panic=-1", *wanted.append]
    with contextlib.ExitStack() as stack:
        files = [found.vmlinuz, found.initrd, *drives]
        kept = [stack.enter_context(_lent(one, rights, one in drives)) if one else -1
                for one in files]  # fmt: skip
        named = [f"/proc/self/fd/{one}" for one in kept]
        booted = qemu.Booted(
            arch=spec.arch,
            memory=wanted.memory,
            cpus=wanted.cpus,
            kernel=named[0],
            initrd=named[1] if found.initrd else None,
            append=" ".join(words),
            drives=named[2:],
            forwards=wanted.forwards,
            network="network" in session.variables,
            kvm=rights.kvm,
        )
        session.screen.moving("")
        for line in greeting(session.name, found, booted, rights):
            say(line)
        code = run(qemu.argv(booted), rights, [one for one in kept if one >= 0], wanted)
    raise SystemExit(code)


# ---------------------------------------------------------------- what it is made of


def _entries(session: Session, stages: Sequence[Stage]) -> list[Entry]:
    """The cache's entries; what lacks is taken from shared caches, and else named."""
    lacking = [stage.title for stage in stages if not session.exchange.have(stage, stages)]
    found = [session.cache.get(stage) for stage in stages]
    if lacking or None in found:
        raise BuildError(
            f"{session.spec.path}: the cache has no {', '.join(lacking)}",
            f"strata build spec={session.name} lock=keep makes what lacks",
        )
    entries = [entry for entry in found if entry is not None]
    for entry in entries:
        need_readable(entry.path, session.shown(entry.path))
    return entries


def _kernel(session: Session, tarballs: Sequence[Path], folder: Path) -> Kernel:
    session.screen.moving("looking for the kernel")
    found = kernel(tarballs, folder)
    if found is None:
        package = PACKAGES.get(session.spec.arch, "a kernel")
        raise BuildError(
            f"{session.spec.path}: the tree has no kernel: nothing is called /boot/vmlinuz-…",
            f"add {package} (linux-virtual on Ubuntu) and initramfs-tools to its packages",
        )
    return found


def _drives(
    session: Session, images: Sequence[Stage], entries: Sequence[Entry], folder: Path
) -> list[Path]:
    """Raw copies of the images, with their holes: what the machine writes is written to these."""
    size = sum(int(entry.facts["raw"]["size"]) for entry in entries)
    space.need_room(session.places, "scratch", size, "a copy of the images to boot")
    found = []
    for number, (stage, entry) in enumerate(zip(images, entries, strict=True)):
        session.screen.moving(f"{stage.title}: a copy for the machine")
        target = folder / f"drive-{number}"
        with open(safe.reading(entry.path), "rb") as packed:
            compress.decompress(packed, entry.path.name, target, entry.facts["container"])
        found.append(target)
    return found


@contextlib.contextmanager
def _lent(path: Path, rights: qemu.Rights, written: bool) -> Iterator[int]:
    """A file for QEMU, by a descriptor: its user has no way to the folder that it is in."""
    descriptor = os.open(path, os.O_RDWR if written else os.O_RDONLY)
    try:
        if rights.user is not None:
            os.fchown(descriptor, rights.user, rights.user)
        os.fchmod(descriptor, 0o600 if written else 0o400)
        yield descriptor
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- running


def greeting(name: str, found: Kernel, booted: qemu.Booted, rights: qemu.Rights) -> Iterator[str]:
    """What is said before the first line of the console."""
    how = "KVM" if rights.kvm else f"emulated, which is slow ({rights.why})"
    yield f"{name}: Linux {printable(found.version)}, {booted.memory} MiB, {how}"
    yield from ways(booted.forwards, booted.network)
