"""`strata boot`: a spec's images in QEMU, with the console here and nothing kept.

images of the cache ─→ raw copies in scratch ─→ drives ─┐
trees of the cache ─→ kernel, initrd ───────────────────┴→ QEMU ─ its console ─ ours
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import BuildError
from ..formats import compress
from ..host import qemu, safe, space, terminal
from ..host.process import popen, running
from ..host.terminal import Ends
from ..plan.stage import Stage
from ..rootfs.kernel import Kernel, kernel
from ..session.session import Session
from ..session.visits import say
from ..spec.words import printable
from ..store.readable import need_readable
from ..store.record import Entry

LATE = 124
"""The exit status where `timeout=` was over first: timeout(1)'s."""

MEMORY = 1024
"""MiB."""

LEAST = 1024
"""The first port that a user who is not root may listen on."""

LEAVE = "Ctrl-A x ends it, Ctrl-A c is QEMU's monitor"

PACKAGES = {"amd64": "linux-image-cloud-amd64", "i386": "linux-image-686",
            "arm64": "linux-image-arm64", "armhf": "linux-image-armmp"}  # fmt: skip
"""Debian's kernels: on Ubuntu it is linux-virtual."""


def boot(session: Session) -> NoReturn:
    """Boot it; ends as SystemExit with the status that docs/questions.md tells."""
    spec = session.spec
    wanted = asked(session)
    images = sorted(session.plan.images, key=lambda one: str(one.inputs["mount"]))
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
        code = run(booted, rights, [one for one in kept if one >= 0], wanted)
    raise SystemExit(code)


# ---------------------------------------------------------------- what was asked for


class Wanted:
    """What the command line says of the machine; BuildError for what it cannot be."""

    def __init__(self, given: dict[str, str], cpus: int) -> None:
        self.memory = _memory(given.get("memory", ""))
        self.cpus = _number("cpus", given.get("cpus", ""), 1, 255) or min(2, cpus)
        self.append = given.get("append", "").split()
        self.expect = given.get("expect", "").encode()
        self.timeout = _seconds(given.get("timeout", ""))
        self.ssh = _number("ssh", given.get("ssh", ""), LEAST, 65535) or _free_port()
        self.forwards = [(self.ssh, 22), *_forwards(given.get("forward", ""))]
        ours = [port for port, _its in self.forwards]
        if len(set(ours)) < len(ours):
            raise BuildError(
                "forward=, ssh=: one port of this host cannot lead to two of the machine's",
                "give another one",
            )


def asked(session: Session) -> Wanted:
    """What this run's variables say."""
    return Wanted(dict(session.variables), len(os.sched_getaffinity(0)))


def _number(name: str, text: str, least: int, most: int) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise BuildError(f"{name}={printable(text)}: expected a number from {least} to {most}")
    return int(text)


def _memory(text: str) -> int:
    """MiB of `1024`, `1024M` or `2G`."""
    match = re.fullmatch(r"([0-9]{1,7})([MG]?)", text or str(MEMORY))
    size = int(match[1]) << (10 if match[2] == "G" else 0) if match else 0
    if size < 64:
        raise BuildError(f"memory={printable(text)}: expected MiB, as 1024, or 2G; 64 at least")
    return size


def _seconds(text: str) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", text) or float(text) == 0:
        raise BuildError(f"timeout={printable(text)}: expected seconds, as 300")
    return float(text)


def _forwards(text: str) -> list[tuple[int, int]]:
    found = []
    for pair in text.split(",") if text else ():
        ours, colon, its = pair.partition(":")
        if not colon:
            raise BuildError(
                f"forward={printable(text)}: expected a port of this host and one of the machine's",
                "as in forward=8080:80,8443:443",
            )
        here = _number("forward", ours or "0", LEAST, 65535)
        there = _number("forward", its or "0", 1, 65535)
        assert here
        assert there
        found.append((here, there))
    return found


def need_free(ports: Sequence[int]) -> None:
    """BuildError where another program listens: QEMU's own message names no port."""
    for port in ports:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise BuildError(
                f"port {port} of 127.0.0.1: {error.strerror}",
                "another program listens there: give ssh= or forward= another port",
            ) from error


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


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
    for ours, its in booted.forwards:
        use = f": ssh -p {ours} USER@127.0.0.1" if its == 22 else ""
        yield f"  127.0.0.1:{ours} leads to its port {its}{use}"
    if not booted.network:
        yield "  it reaches no network (network=1 lets it)"
    yield f"  nothing that it writes is kept{'; ' + LEAVE if terminal.both() else ''}"


def run(booted: qemu.Booted, rights: qemu.Rights, files: Sequence[int], wanted: Wanted) -> int:
    """Run it to its end; the exit status. BuildError where QEMU fails or `expect=` did not come."""
    person = terminal.both()
    shown = Shown(wanted.expect)
    until = time.monotonic() + wanted.timeout if wanted.timeout else None
    with contextlib.ExitStack() as stack:
        if person:
            master, slave = os.openpty()
            os.set_inheritable(slave, False)
            ends, theirs = Ends(input=master, outputs={master: 1}, terminal=True), [slave] * 3
        else:
            (out, said), (err, complained) = os.pipe(), os.pipe()
            nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            ends, theirs = Ends(input=-1, outputs={out: 1, err: 2}), [nothing, said, complained]
        command = rights.command(qemu.argv(booted))
        process = popen(command, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], files=files)
        for one in set(theirs):
            os.close(one)
        stack.enter_context(running(process))
        why = terminal.relay(ends, typed=person, seen=shown.add, until=until)
        if why != "ended":
            process.kill()  # there is nothing of it to be kept
    if why == "late":
        say(f"\nnot {'shown' if wanted.expect else 'ended'} within timeout={wanted.timeout:g}")
        return LATE
    if why == "seen":
        say("\nthe console showed what was expected")
        return 0
    if why == "ended" and process.returncode != 0:
        raise BuildError(f"QEMU ended with exit status {process.returncode}: what it said is above")
    if wanted.expect and why == "ended":
        raise BuildError(
            f"the machine ended, and never showed {printable(wanted.expect.decode())!r}"
        )
    return 0


class Shown:
    """Looks for a text in what a console shows, whatever its colours and wherever it is cut."""

    MARGIN = 4096
    """Bytes before the last ones that may be a part of it, or of what moves a cursor."""

    SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])|\r")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.rest = b""

    def add(self, data: bytes) -> bool:
        """More of the console; whether the text has been shown by now."""
        if not self.text:
            return False
        shown = self.rest + data
        self.rest = shown[-len(self.text) - self.MARGIN :]
        return self.text in self.SEQUENCE.sub(b"", shown)
