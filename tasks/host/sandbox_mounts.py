"""What the commands of a sandbox find there: its mounts, /dev, /proc and /sys, and the new root.

A part of the program inside, see sandbox_init.py.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from .sandbox_calls import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    check,
    libc,
    mount,
    now,
)


def bind(source: str, target: str, *, readonly: bool) -> None:
    """Show source at target, which is made when it is missing; a read-only one takes two calls."""
    if not os.path.lexists(target):
        if os.path.isdir(source):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(source, target, "none", MS_BIND)
    flags = MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | (MS_RDONLY if readonly else 0)
    mount("none", target, "none", flags)


def mount_one(kind: str, source: str, target: str, options: str) -> None:
    """One entry of the plan's `mounts`."""
    os.makedirs(target, exist_ok=True)
    if kind == "overlay":
        # nodev: with CAP_MKNOD, which dpkg needs, a package could else read the host's disks.
        mount("overlay", target, "overlay", MS_NODEV, options)
    elif kind == "tmpfs":
        mount("tmpfs", target, "tmpfs", MS_NODEV | MS_NOSUID, options)
    elif kind in ("bind", "bind-ro"):
        bind(source, target, readonly=kind == "bind-ro")
    elif kind.startswith("loop:"):
        # mount(8) sets LO_FLAGS_AUTOCLEAR: the device goes with the mount.
        argv = ["mount", "-t", kind[5:], "-o", f"loop,{options}", source, target]
        subprocess.run(argv, check=True)
    else:
        raise ValueError(f"unknown mount {kind!r}")


def private_dev(dev: str, *, links: bool = True) -> None:
    """A /dev of the few nodes that maintainer scripts use.

    Each node is the host's own, bound on an empty file: read-only, which keeps its owner, mode and
    times as they are, and lets it be written to all the same. The tmpfs below is nodev, so that no
    node which somebody makes there can be opened.
    """
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    now("dev")
    mount("tmpfs", dev, "tmpfs", flags, "mode=755,size=1m")
    now("nodes")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        mount(f"/dev/{name}", f"{dev}/{name}", "none", MS_BIND)
        mount(
            "none",
            f"{dev}/{name}",
            "none",
            MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC,
        )
    for name in ("pts", "shm", ".strata"):
        os.mkdir(f"{dev}/{name}", 0o755)
    for name, to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("ptmx", "pts/ptmx"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        if links:
            os.symlink(to, f"{dev}/{name}")
    now("devpts")
    mount(
        "devpts",
        f"{dev}/pts",
        "devpts",
        MS_NOSUID | MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620,gid=5",
    )
    now("dev")
    mount("tmpfs", f"{dev}/shm", "tmpfs", flags, "mode=1777,size=10%")
    mount("tmpfs", f"{dev}/.strata", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=10%")


def private_proc(proc: str, given: str, real: list[str]) -> None:
    """/proc of the PID namespace, which can neither change nor reveal the host.

    Each entry that is no process is covered: by what the folder `given` has under its name, by
    nothing, or, if it is `real`, by itself. All are read-only, since an entry's owner and mode are
    one for all instances of /proc, the host's as well.
    """
    now("proc")
    mount("proc", proc, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for name in sorted(os.listdir(proc)):
        target = f"{proc}/{name}"
        if name.isdecimal() or name in ("self", "thread-self") or os.path.islink(target):
            continue
        kept = {
            path.partition("/")[2]: f"{proc}/{path}"
            for path in real
            if path.partition("/")[0] == name
        }
        # Opened while they can be seen.
        inner = {
            path: os.open(one, os.O_PATH)
            for path, one in kept.items()
            if path and os.path.exists(one)
        }
        source = f"{given}/proc/{name}"
        if "" in kept:
            source = target
        elif not os.path.exists(source):
            source = f"{given}/{'folder' if os.path.isdir(target) else 'file'}"
        bind(source, target, readonly=True)
        for path, descriptor in inner.items():
            bind(f"/proc/self/fd/{descriptor}", f"{target}/{path}", readonly=True)
            os.close(descriptor)


def private_sys(sys_folder: str, content: dict[str, str | None]) -> None:
    """A /sys of this content alone: no disk, CPU, firmware or loaded module of the host."""
    now("sys")
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("tmpfs", sys_folder, "tmpfs", flags, "mode=555,size=1m")
    fill(sys_folder, content)
    mount("none", sys_folder, "none", flags | MS_REMOUNT | MS_RDONLY)


def fill(folder: str, content: dict[str, str | None]) -> None:
    """Make files of these texts by their paths below a folder, and folders where it is null."""
    for path, text in content.items():
        full = f"{folder}/{path}"
        os.makedirs(full if text is None else os.path.dirname(full), exist_ok=True)
        if text is not None:
            with open(full, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(full, 0o444)


def enter(plan: dict[str, Any]) -> None:
    """Make plan['root'] the root of this namespace and let go of the host's tree."""
    root: str = plan["root"]
    for name in ("dev", "proc", "sys", "tmp", "run"):
        if os.path.islink(f"{root}/{name}"):
            raise ValueError(f"/{name} is a symlink in the tree")
        os.makedirs(f"{root}/{name}", exist_ok=True)
    seen: dict[str, Any] = plan["seen"]
    # What is bound from it stays when it is detached; nobody can write to it then.
    given = root + "/tmp"
    now("dev")
    mount("tmpfs", given, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m")
    fill(given, {"file": "", "folder": None})
    fill(given + "/proc", {**seen["proc"], **dict.fromkeys(seen["real"], "")})
    private_dev(root + "/dev")
    private_proc(root + "/proc", given, seen["real"])
    private_sys(root + "/sys", seen["sys"])
    for chroot in plan["chroots"]:
        # No /sys: a bootstrap tool sets its owner and mode, which a read-only one refuses.
        for name in ("dev", "proc"):
            os.makedirs(f"{root}{chroot}/{name}", exist_ok=True)
        private_dev(f"{root}{chroot}/dev", links=False)  # bootstrap tools make them
        private_proc(f"{root}{chroot}/proc", given, seen["real"])
    check(libc.umount2(given.encode(), MNT_DETACH), "detach what /proc shows")
    now("dev")
    mount("tmpfs", root + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", root + "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=10%")
    now("binds")
    for source, target in plan["binds"]:
        bind(source, root + target, readonly=True)
    for source, target in plan["writable"]:
        bind(source, root + target, readonly=False)
    now("pivot_root")
    os.chdir(root)
    # pivot_root(".", ".") stacks the old root on the new one; the detach then removes it whole.
    check(libc.pivot_root(b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "detach the host's tree")
    os.chdir("/")
