"""What a build needs of its host, tried for real: one table for `doit doctor` and for builds.

The program of the sandbox does here all that it does for a stage, with the very same flags and
options, but for running anything; what fails first is told by its sentence in NEEDS.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BuildError
from . import space
from .process import capture
from .sandbox import DPKG_CAPABILITIES, PROGRAM, Overlay, Sandbox
from .scratch import scratch_root

CONTAINER = (
    "build on the host itself, or give the container what it lacks: docker run --cap-add SYS_ADMIN "
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined"
)


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing that a build does: its title, the sentence when it fails, and what to do then.

    `{scratch}` stands for the folder, `{kind}` for its filesystem. `hints` are for single errnos.
    """

    title: str
    sentence: str
    hint: str
    hints: Mapping[int, str] = field(default_factory=dict)


NEEDS: dict[str, Need] = {
    "namespaces": Need(
        title="namespaces of its own",
        sentence="this process may not make namespaces ({text})", hint=CONTAINER,
        hints={errno.ENOSPC: "raise the limits: sysctl user | grep namespaces",
               errno.EINVAL: "the kernel is built without them"}),
    "propagation": Need(
        title="mounts of its own",
        sentence="mounts cannot be kept from the host: the root folder is no mount point here, as "
        "in a plain chroot",
        hint="outside of it, mount the folder on itself and enter it again: mount --bind DIR DIR",
        hints=dict.fromkeys((errno.EPERM, errno.EACCES), CONTAINER)),
    "proc": Need(title="mounting /proc", sentence="/proc cannot be mounted ({text})",
                 hint=CONTAINER),
    "overlay": Need(
        title="an overlay in scratch",
        sentence="no overlay can be mounted in scratch, {scratch}, which is on {kind} ({text})",
        hint="set STRATA_SCRATCH to a folder on ext4, xfs, btrfs or tmpfs: a volume in a container",
        hints={errno.ENODEV: "modprobe overlay", errno.EPERM: CONTAINER, errno.EACCES: CONTAINER}),
    "bind": Need(title="binding folders", sentence="no folder can be bound ({text})",
                 hint=CONTAINER),
    "dev": Need(title="a /dev of its own", sentence="no tmpfs can be mounted ({text})",
                hint=CONTAINER),
    "nodes": Need(
        title="the nodes of /dev", sentence="the host's device nodes cannot be bound ({text})",
        hint="/dev must have null, zero, full, random, urandom and tty: mount --bind /dev DIR/dev, "
        "in a chroot"),
    "devpts": Need(title="terminals of its own", sentence="no devpts can be mounted ({text})",
                   hint=CONTAINER),
    "sys": Need(title="a /sys of its own", sentence="no tmpfs can be mounted ({text})",
                hint=CONTAINER),
    "binds": Need(title="binding programs", sentence="no folder can be bound ({text})",
                  hint=CONTAINER),
    "pivot_root": Need(
        title="pivot_root", sentence="the root folder cannot be exchanged ({text})",
        hint="it may be the initramfs: build on a host whose root is on a disk",
        hints={errno.EPERM: CONTAINER}),
    "capabilities": Need(title="dropping capabilities",
                         sentence="capabilities cannot be dropped ({text})", hint=CONTAINER),
    "seccomp": Need(
        title="a filter of system calls", sentence="system calls cannot be filtered ({text})",
        hint="the kernel needs CONFIG_SECCOMP_FILTER, and a container to be let use it",
        hints={errno.EPERM: CONTAINER, errno.EACCES: CONTAINER}),
    "loop": Need(
        title="a loop device", sentence="no loop device can be mounted ({text})",
        hint="modprobe loop; in a container, docker run --privileged; or say `pack: direct` of "
        "each image, which needs none"),
}  # fmt: skip
"""By the names that sandbox_init.py has for what it does."""


SANDBOX = ("namespaces", "propagation", "proc", "overlay", "dev", "nodes", "devpts", "sys", "binds",
           "pivot_root", "capabilities", "seccomp")  # fmt: skip
"""Those of every stage, in the order in which sandbox_init.py does them."""


UNKNOWN = Need(title="a sandbox", sentence="no sandbox can be made ({text})", hint=CONTAINER)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What failed first, by its name in NEEDS; `message` and `hint` are for people."""

    name: str
    errno: int
    message: str
    hint: str

    def error(self) -> BuildError:
        """The same as what ends a build."""
        return BuildError(self.message, self.hint)


def sandbox(folder: Path) -> Failure | None:
    """Make a sandbox as for a layer, its tree below the folder; what failed, if anything."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="trial-") as name:
        base = Path(name)
        for one in ("low/usr", "up", "work"):
            (base / one).mkdir(parents=True)
        tree = Overlay(lower=["low"], upper="up", work="work", target="root")
        return _tried(
            Sandbox(
                base=base,
                mounts=[tree.mount()],
                root="root",
                binds=[("/usr", "/usr")],
                keep=DPKG_CAPABILITIES,
            ),
            folder,
        )


def loop(folder: Path) -> Failure | None:
    """Mount a small filesystem through a loop device, as for an image with `pack: loop`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="trial-") as name:
        raw = Path(name) / "raw"
        raw.write_bytes(b"")
        os.truncate(raw, 1 << 20)
        status, _, said = capture(["mke2fs", "-q", "-F", str(raw)])
        if status:
            raise BuildError(f"mke2fs failed: {said.strip()[-200:]}")
        mount = ["loop:ext2", str(raw), "filled", "noatime"]
        return _tried(Sandbox(base=Path(name), mounts=[mount]), folder)


def _tried(one: Sandbox, scratch: Path) -> Failure | None:
    status, out, said = capture(one.command(), stdin=one.plan(trial=True))
    try:
        answer = json.loads(out.splitlines()[-1])
        name, number, text = answer["failed"], answer["errno"], answer["text"]
    except (ValueError, IndexError):
        # unshare(1) came no further.
        name, number, text = "namespaces", *_refused(said)
    if not name and not status:
        return None
    if name == "loop":
        text = " ".join(said.split()) or text
    need = NEEDS.get(name, UNKNOWN)
    message = need.sentence.format(scratch=scratch_root(), kind=filesystem(scratch), text=text)
    return Failure(name=name, errno=number, message=message, hint=need.hints.get(number, need.hint))


def _refused(said: str) -> tuple[int, str]:
    """The errno and a few words of which namespaces cannot be made."""
    _status, out, _said = capture([*PROGRAM, "namespaces"])
    rows = [line.split() for line in out.splitlines()]
    if not rows:
        return 0, " ".join(said.split())
    number = int(rows[0][1])
    return number, f"{', '.join(name for name, _ in rows)}: {os.strerror(number)}"


def filesystem(path: Path) -> str:
    """The kind of filesystem that holds a path, as mount(8) names it; by proc(5)'s mountinfo."""
    device = os.stat(space.mount_point(path)).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        if line.split()[2] == wanted:
            return line.partition(" - ")[2].split()[0]
    return "an unknown filesystem"
