"""What a build may leave on the host and must not: processes, mounts, loop devices, files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support.world import World

# All stages in two seconds: no package is configured, and the tree is 4 MB.
SMALL = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: extract, include: [baseline, shell]}
layers:
  - {name: app, files: {/etc/motd: files/motd}, script: scripts/app.sh}
images:
  /: {file: web.img.gz, format: ext4, pack: loop}
  /boot: {file: web-boot.img.gz, format: ext2, pack: direct}
"""


def make_small(world: World) -> World:
    """Give the world's spec `web` the small tree."""
    world.write("web.yaml", SMALL)
    return world


# Every file that a finished build has; what else is found below a checkout is a leftover.
KNOWN = re.compile(
    r"""
      specs/(\w+\.(yaml|lock)|spec\.schema\.json|(keys|files|scripts)/[\w.]+)
    | cache/CACHEDIR\.TAG
    | cache/debs/([0-9a-f]{64}\.deb|\.lock)
    | cache/layers/(base|layer)-[0-9a-f]{32}\.(json|tar\.zst)
    | cache/images/(image|filesystem|esp|bios|verity|file)-[0-9a-f]{32}\.(json|img(\.gz|\.xz|\.zst)?|qcow2|vhd|vmdk|bmap|verity)
    | cache/locks/(prune|(base|layer|image|filesystem|esp|bios|verity|file)-[0-9a-f]{32})
    | cache/index/(\.[0-9a-f]{16}\.lock|(live-[0-9a-f]{16}|snapshot-[0-9a-f-]{49})/[^/]+)
    | out/\w+/([\w.-]+\.(img(\.gz|\.xz|\.zst)?|qcow2|vhd|vmdk|bmap)|\w+\.yaml|packages\.txt|SHA256SUMS|(build|host)\.json|log/[\w.-]+\.log)
    | \.doit/(\w+\.sqlite3|seen\.json|tools\.json|validated/[0-9a-f]{64}|resolved/[0-9a-f]{32}\.json
      |builds/\w+\.jsonl|made-of/\w+\.json|pruned\.json
      |built/(base|layer|image|filesystem|esp|bios|verity|disk|file)-[0-9a-f]{32}-[0-9a-f]{32}
      |scratch/strata-\d+/(\.lock|CACHEDIR\.TAG))
    """,
    re.VERBOSE,
)


# SIGKILL alone leaves these: apt's own unfinished list, and what sqlite takes its file back from.
AFTER_KILL = re.compile(
    r"cache/index/(live-[0-9a-f]{16}/partial/[^/]+|\.new-[0-9a-f]{16}(/[^/]+)?)"
    r"|\.doit/\w+\.sqlite3-journal|(cache/\w+|specs|out/\w+|\.doit(/resolved|/built|/builds|/made-of)?)/\.strata-[0-9a-f]{16}\.tmp"
)


def scratch(world: World) -> Path:
    """The folder of the world's scratch folders."""
    root = Path(world.env.get("STRATA_SCRATCH", world.root / ".doit/scratch"))
    return root / f"strata-{os.geteuid()}"


def leftovers(world: World, *, killed: bool = False) -> list[str]:
    """Files of a checkout that no finished build has."""
    found = []
    for folder, _, files in os.walk(world.root):  # does not follow the link to tasks/
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), world.root)
            if path == "dodo.py" or KNOWN.fullmatch(path):
                continue
            if not (killed and AFTER_KILL.fullmatch(path)):
                found.append(path)
    return sorted(found)


def distrusted(world: World) -> list[str]:
    """Records that speak of a file which is not there, or not whole."""
    wrong = []
    for record in (world.root / "cache").glob("*/*.json"):
        file = json.loads(record.read_text())["file"]
        path = record.with_name(file["name"])
        data = path.read_bytes() if path.exists() else b""
        if (len(data), hashlib.sha256(data).hexdigest()) != (file["size"], file["sha256"]):
            wrong.append(record.name)
    for path in (world.root / "cache/debs").glob("*.deb"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
            wrong.append(path.name)
    return wrong


# ---------------------------------------------------------------- the host


def _fields(pid: int) -> tuple[int, str] | None:
    """(parent, start time) of a process that is no zombie: proc(5), stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (int(fields[1]), fields[19])


def processes() -> dict[int, tuple[int, str]]:
    """Every process: its parent and start time."""
    found = ((int(name), _fields(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: fields for pid, fields in found if fields}


def family(pid: int) -> dict[int, str]:
    """A process and all that descend from it, in namespaces too: pid → start time."""
    everyone = processes()
    found = {pid}
    while more := {one for one, (parent, _) in everyone.items() if parent in found} - found:
        found |= more
    return {one: everyone[one][1] for one in found if one in everyone}


def _links(pid: int) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        yield os.readlink(f"/proc/{pid}/{name}")
    for name in os.listdir(f"/proc/{pid}/fd"):
        yield os.readlink(f"/proc/{pid}/fd/{name}")


def touching(marks: list[str], *, ours: set[int]) -> list[str]:
    """What on this host speaks of a path with one of these marks, but for the processes `ours`."""
    found = []
    readers: list[tuple[str, Callable[[int], str]]] = [
        ("links", lambda pid: "\n".join(_links(pid))),
        ("cmdline", lambda pid: Path(f"/proc/{pid}/cmdline").read_text(errors="replace")),
        ("maps", lambda pid: Path(f"/proc/{pid}/maps").read_text(errors="replace")),
        ("mountinfo", lambda pid: Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")),
    ]
    for pid in processes():
        for name, read in readers:
            if pid in ours and name != "mountinfo":
                continue
            try:
                text = read(pid)
            except OSError:
                continue  # it ends just now, or it is a thread of the kernel
            if any(mark in text for mark in marks):
                line = next(line for line in text.splitlines() if any(m in line for m in marks))
                found.append(f"process {pid}: {name}: {line[:200]!r}")
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if any(mark in text for mark in marks):
            found.append(f"{path}: {text.strip()}")
    return found


def settle(look: Callable[[], list[str]], seconds: float = 5) -> list[str]:
    """What `look` still finds after so many seconds, or as soon as it finds nothing."""
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
