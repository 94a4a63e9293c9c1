"""`strata boot disk=NAME`: a whole disk in QEMU, as its own loader starts it; nothing is kept.

the disk's file, of the cache or of out/NAME/ ─→ a throwaway overlay ─→ QEMU ─ its console ─ ours
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from ..errors import BuildError
from ..formats import compress
from ..host import firmware, qemu, safe, space
from ..host.disk_machine import DiskMachine, prepared
from ..host.log import Log
from ..plan.boot_tests import booted_file
from ..session.session import Session
from ..session.visits import say
from ..spec.disks import Disk, DiskFile
from ..spec.model import Spec
from ..spec.words import printable
from ..store.readable import need_readable
from .asked_machine import Wanted, need_free, run, ways


def boot_disk(session: Session, wanted: Wanted) -> NoReturn:
    """Boot it; ends as SystemExit, with the status that `boot` has."""
    spec = session.spec
    disk = chosen(spec, wanted.disk)
    name = firmware_of(spec, disk, wanted.firmware)
    if wanted.append:
        raise BuildError(
            f"append=: disk {disk.name} brings its kernel's command line with it",
            f"{spec.path}: disks.{disk.name}.cmdline is where that is given",
        )
    kind = qemu.machine_of(spec.arch, str(spec.path))
    firmware.find(spec.arch, name, f"firmware={name}")
    need_free([ours for ours, _its in wanted.forwards])
    rights = qemu.rights(kind)
    folder = session.scratch / "boot"
    folder.mkdir()
    file = disk.files[booted_file(disk)]
    with session.cache.used(session.screen.moving):
        path, place = _file(session, file, folder)
        machine = DiskMachine(
            arch=spec.arch,
            firmware=name,
            disk=path,
            format=file.format,
            memory=wanted.memory,
            sector=disk.sector,
            # With two, emulated, a kernel may meet code that the other one is just patching.
            cpus=wanted.cpus if rights.kvm or wanted.cpus_given else 1,
            forwards=wanted.forwards,
            network="network" in session.variables,
        )
        where = f"firmware={name}"
        with prepared(machine, rights, folder, where, Log(None)) as (words, lent):
            session.screen.moving("")
            for line in greeting(session.name, disk, place, machine, rights):
                say(line)
            code = run([*words, *qemu.CONSOLE, *lent.words], rights, lent.numbers, wanted)
    raise SystemExit(code)


def chosen(spec: Spec, name: str) -> Disk:
    """The disk that is meant, of several the first; BuildError where there is none of the name."""
    known = {one.name: one for one in spec.disks if one.files}
    if not known:
        raise BuildError(f"{spec.path}: there are no disks", "without disk= the images are booted")
    if name and name not in known:
        raise BuildError(
            f"disk={printable(name)}: {spec.path} has no such disk", f"it has {', '.join(known)}"
        )
    return known[name] if name else next(iter(known.values()))


def firmware_of(spec: Spec, disk: Disk, name: str) -> str:
    """The firmware to boot it under: the disk's first unless one is asked for.

    What a disk without a loader starts from is not known here: any that its architecture has.
    BuildError for one that neither the disk nor its architecture is made for.
    """
    made_for = [*disk.firmware, *(["uefi-secure"] if "uefi" in disk.firmware else [])]
    if disk.firmware and name and name not in made_for:
        raise BuildError(
            f"firmware={printable(name)}: disk {disk.name} of {spec.path} is not made for it",
            f"it is for {', '.join(dict.fromkeys(made_for))}",
        )
    found = name or (disk.firmware[0] if disk.firmware else "uefi")
    firmware.package_of(spec.arch, found, f"{spec.path}: disks.{disk.name}")
    return found


def _file(session: Session, file: DiskFile, folder: Path) -> tuple[Path, str]:
    """The disk's file, unpacked where it is compressed, and what it is called.

    The cache's, or a shared cache's; else the one in out/NAME/, which may be an older one.
    """
    stage = next(one for one in session.plan.stages if (one.kind, one.name) == ("file", file.name))
    published = session.out / file.name
    if session.exchange.have(stage):
        path = session.cache.require(stage).path
    elif published.is_file():
        path = published
    else:
        raise BuildError(
            f"{session.spec.path}: neither the cache nor {session.shown(session.out)} has "
            f"{file.name}",
            f"strata build spec={session.name} lock=keep makes it",
        )
    shown = session.shown(path)
    need_readable(path, shown)
    if file.container == "raw":
        return path, shown
    session.screen.moving(f"{file.name}: a copy for the machine")
    target = folder / "disk"
    space.need_room(session.places, "scratch", path.stat().st_size, "a copy of the disk to boot")
    with open(safe.reading(path), "rb") as packed:
        compress.decompress(packed, path.name, target, file.container)
    return target, shown


def greeting(
    name: str, disk: Disk, place: str, machine: DiskMachine, rights: qemu.Rights
) -> Iterator[str]:
    """What is said before the first line of the console."""
    how = "KVM" if rights.kvm else f"emulated, which is slow ({rights.why})"
    yield f"{name}: disk {disk.name} under {machine.firmware}, {machine.memory} MiB, {how}"
    yield f"  {place}"
    yield from ways(machine.forwards, machine.network)
