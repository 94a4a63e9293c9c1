"""Root filesystem trees: cleaned, given fixed times, packed into layer tarballs and unpacked again.

A layer tarball is the upper directory of an overlay mount, whiteouts (character devices 0/0) and
trusted.overlay.* attributes included; unpacked, it is a lower directory of the next mount.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import apt, holes, host, pax
from tasks.cache import LAST_EPOCH, Cache
from tasks.errors import BuildError, DamagedEntry
from tasks.lockfile import Record
from tasks.plan import Stage

OVERLAY_OWN = tuple(
    f"trusted.overlay.{name}" for name in ("origin", "impure", "nlink", "upper", "uuid")
)
"""Attributes by which overlayfs finds inodes of this very mount again: they are no content."""

LINKS = 40
"""Links that a path may lead through, as the kernel has it (path_resolution(7))."""

STATUS_LIMIT = 64 << 20
"""Bytes of a dpkg status that are read: Debian's whole archive installed would take no more."""

# What a build leaves and an image must not have: traces of the build host and of the time.
REMOVED = (
    "etc/ssh/ssh_host_*", "var/lib/dbus/machine-id", "var/cache/ldconfig/aux-cache",
    "var/log/*.log", "var/log/apt/*", "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/cache/debconf/*-old",
    "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "root/.bash_history",
    "var/lib/dpkg/lock*", "var/lib/apt/daily_lock", "var/cache/apt/archives/lock",
)  # fmt: skip
# Only a bootstrap tool writes these, from the host or for itself.
REMOVED_FROM_BASE = (
    "etc/resolv.conf", "etc/hostname", "etc/apt/sources.list", "etc/apt/sources.list.d/*",
    "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/apt.conf.d/*dpkg-options*", "dev/*", "run/*",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "var/lib/dpkg/available",
    "tmp/*", "debootstrap", "var/cache/apt/archives/partial/*",
)  # fmt: skip


TRACES = (
    "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
    "var/log/fontconfig.log", "var/cache/ldconfig/aux-cache",
    "var/log/apt/history.log*", "var/log/apt/term.log*", "var/log/apt/eipp.log*",
    "var/cache/apt/pkgcache.bin", "var/cache/apt/srcpkgcache.bin",
    "var/lib/apt/lists/lock", "var/lib/apt/daily_lock", "var/cache/apt/archives/lock",
    "var/lib/dpkg/status-old", "var/lib/dpkg/available-old", "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend",
    "var/cache/debconf/config.dat-old", "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
)  # fmt: skip
"""What tools note of their own running, also where the user's script ran them: never the user's,
unless `files` name it."""


def sweep(
    tree: Path, patterns: Sequence[str] = REMOVED, *, kept: Set[str] = frozenset()
) -> None:  # fmt: skip
    """Remove what a build leaves behind, never looking through a symlink; empty the machine-id.

    `kept` are paths, relative to the tree, that stay as they are: what the user made is no trace.
    """
    for pattern in patterns:
        for path in matching(tree, pattern):
            name = str(path.relative_to(tree))
            if name in kept or (path.name in ("partial", "auxfiles") and is_folder(path)):
                continue
            _remove(path, name, kept)
    machine_id = tree / "etc/machine-id"
    if "etc/machine-id" in kept:
        return
    # An empty one stays as it is, since its mode may be the user's.
    if _plain(tree, "etc") and stat.S_ISREG(_mode(machine_id)) and machine_id.stat().st_size:
        machine_id.write_bytes(b"")
        machine_id.chmod(0o644)


def matching(tree: Path, pattern: str) -> list[Path]:
    """What a pattern means in a tree: no whiteouts, and nothing behind a symlink.

    Without a whiteout the lower layer's file would be seen again.
    """
    folder, _, name = pattern.rpartition("/")
    directory = _plain(tree, folder)
    if directory is None:
        return []
    return [path for path in sorted(directory.glob(name)) if not _whiteout(path)]


def _whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _remove(path: Path, name: str, kept: Set[str]) -> None:
    if not is_folder(path):
        path.unlink()
    elif not any(one.startswith(f"{name}/") for one in kept):
        host.remove_tree(path)
    else:
        for child in list(path.iterdir()):
            if f"{name}/{child.name}" not in kept and not _whiteout(child):
                _remove(child, f"{name}/{child.name}", kept)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _plain(tree: Path, folder: str) -> Path | None:
    """A folder of the tree if every step to it is a real directory."""
    path = tree
    for step in folder.split("/") if folder else ():
        path = path / step
        if not stat.S_ISDIR(_mode(path)):
            return None
    return path


def write_marks(tree: Path, auto: Sequence[str]) -> None:
    """Mark packages, by name:arch, as installed for what needs them: apt's extended_states.

    A bootstrap tool installs by dpkg alone, and to apt all without a mark was asked for.
    """
    if not auto:
        return
    folder = _plain(tree, "var/lib/apt")
    path = folder / "extended_states" if folder else tree
    if not folder or (os.path.lexists(path) and not stat.S_ISREG(_mode(path))):
        raise BuildError("base: /var/lib/apt is not as apt makes it: packages cannot be marked",
                         "a package of the base replaced it")  # fmt: skip
    marked = set(auto)
    if path.exists():  # a package's script has called apt-mark
        text = path.read_text(encoding="utf-8", errors="replace")
        marked |= {":".join(slot) for slot in apt.marked_auto(text)}
    path.write_text(apt.extended_states(sorted(marked)), encoding="utf-8")
    path.chmod(0o644)


def begun(folder: Path) -> int:
    """Now, in ns, by the clock that gives files of this folder their times: it is a coarse one."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns


@dataclass(frozen=True, kw_only=True)
class Rare:
    """What few trees have and `pack` must know of."""

    several_xattrs: bool = True
    """Something has more than one extended attribute."""
    sparse: bool = False
    """A file has holes."""
    sockets: tuple[str, ...] = ()
    """Sockets that were in the tree, relative to it: no tar has them."""


def clamp_times(tree: Path, epoch: int, since: int) -> Rare:
    """Give all that is newer than epoch (seconds) that time: the build's own is no content.

    So is what was written since the stage began (`begun`), where the host's clock is behind epoch.
    Directories come after their entries: setting those does not touch them, removing would.
    Holes of files are settled on the way (tasks.holes), and sockets removed: the tarball has none,
    so this tree, as what lies below the next one, may not show them either.
    """
    limit = epoch * 1_000_000_000
    until = time.time_ns()

    def own(mtime: int) -> bool:
        return mtime > limit or since <= mtime <= until

    several = sparse = False
    sockets = []
    stack = [os.fspath(tree)]
    while stack:
        folder = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    stack.append(entry.path)
                elif stat.S_ISREG(info.st_mode) and holes.sparse(info):
                    sparse = holes.settle(entry.path, info) or sparse
                    os.utime(entry.path, ns=(info.st_mtime_ns, info.st_mtime_ns))
                elif stat.S_ISSOCK(info.st_mode):
                    sockets.append(entry.path)
                    continue
                if own(info.st_mtime_ns):
                    os.utime(entry.path, ns=(limit, limit), follow_symlinks=False)
                several = several or has_several(entry.path)
    if own(os.stat(tree).st_mtime_ns):
        os.utime(tree, ns=(limit, limit))
    for path in sockets:
        folder = os.path.dirname(path)
        time_ns = os.stat(folder).st_mtime_ns
        os.unlink(path)
        os.utime(folder, ns=(time_ns, time_ns))
    names = tuple(sorted(os.path.relpath(path, tree) for path in sockets))
    several = several or has_several(os.fspath(tree))
    return Rare(several_xattrs=several, sparse=sparse, sockets=names)


def has_several(path: str) -> bool:
    """Whether something has more than one extended attribute that is content."""
    names = os.listxattr(path, follow_symlinks=False)
    return len(names) > 1 and len(set(names).difference(OVERLAY_OWN)) > 1


def deb_epoch(debs: Sequence[Path]) -> int:
    """The newest build date, in seconds, that .debs carry: the ar header's date, deb(5).

    It is a part of the file, so the same .debs give the same date, and no Release's churn is in it.
    """
    newest = 0
    for path in debs:
        with path.open("rb") as file:
            head = file.read(68)
        if head[:8] != b"!<arch>\n":
            raise BuildError(f"{path}: not a .deb")
        date = head[24:36].strip()
        newest = max(newest, int(date) if date.isdigit() else 0)
    return min(newest, LAST_EPOCH)


SPARSE = ("--sparse", "--hole-detection=seek", "--sparse-version=0.0")
"""For GNU tar; of its three formats 0.0 alone has no process number in its names."""


def pack(tree: Path, target: Path, log: host.Log, *, rare: Rare = Rare(), size: int = 0) -> None:
    """Write a tree as a zstd-compressed tar whose bytes depend on the tree alone.

    Each filesystem lists extended attributes in an order of its own, and GNU tar keeps it. Where
    something has several, what tar writes is put in order on its way. `size` is what is told of it.
    """
    if size:
        log.step(f"packing {size / 1e6:.0f} MB")
    # Never one: newer versions then leave the multi-threaded mode, and with it its bytes.
    compressor = ["zstd", "-3", f"-T{max(2, len(os.sched_getaffinity(0)))}"]
    tar = ["tar", "--create", "--directory", str(tree), "--sort=name", "--numeric-owner",
           "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
           "--xattrs", "--xattrs-include=*",
           *(f"--xattrs-exclude={name}" for name in OVERLAY_OWN),
           *(SPARSE if rare.sparse else ())]  # fmt: skip
    what = "packing the tree"
    if not rare.several_xattrs:
        host.run([*tar, "--file", str(target), "--use-compress-program", " ".join(compressor), "."],
                 log=log, what=what)  # fmt: skip
        return
    argv = [*tar, "--file", "-", "."]
    log.line("+ " + shlex.join(argv) + " | " + shlex.join(compressor))
    with (
        target.open("wb") as file,
        tempfile.TemporaryFile() as said,
        host.running(host.popen(argv, stdout=host.PIPE, stderr=said)) as reader,
        host.running(host.popen(compressor, stdin=host.PIPE, stdout=file, stderr=said)) as writer,
    ):
        assert reader.stdout is not None
        assert writer.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pax.sort_xattrs(reader.stdout, writer.stdin)
            writer.stdin.close()
        reader.stdout.close()
        status = writer.wait() or reader.wait()
        said.seek(0)
        for line in said.read().decode("utf-8", "replace").splitlines():
            log.line(line)
        if status:
            raise log.failure(what, f"failed (exit status {status}):\n{host.last_lines(log.tail)}")


def unpack(source: Path, sha256: str, target: Path, log: host.Log) -> None:
    """Extract a layer tarball, checking its SHA-256 on the way: DamagedEntry when it is another."""
    target.mkdir()
    log.line(f"# unpacking {source.name}")
    digest = hashlib.sha256()
    # A file for what tar says: nobody reads a pipe while the archive is being written to another.
    with tempfile.TemporaryFile() as output, source.open("rb") as file:
        process = host.popen(
            ["tar", "--extract", "--file", "-", "--directory", str(target), "--zstd",
             "--numeric-owner", "--same-permissions", "--xattrs", "--xattrs-include=*",
             "--delay-directory-restore"],
            stdin=host.PIPE, stdout=output, stderr=host.STDOUT,
        )  # fmt: skip
        with host.running(process):
            assert process.stdin is not None
            listening = True
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                # When tar gives up, the digest of the rest tells a damaged file from a full disk.
                if listening:
                    try:
                        process.stdin.write(chunk)
                    except BrokenPipeError:
                        listening = False
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        output.seek(0)
        message = output.read().decode("utf-8", "replace").strip()
    if digest.hexdigest() != sha256:
        raise DamagedEntry(f"{source}: its SHA-256 is not its record's", "run the command again")
    if status:
        raise log.failure(f"unpacking {source.name}", f"failed: {message[-500:]}")


@dataclass(frozen=True, kw_only=True)
class Upper:
    """A writable overlay in scratch: names are relative to `base`, where it is mounted from."""

    base: Path
    name: str
    lower: Sequence[str]
    begun: int
    """When it was made, in ns: what is as new was written by the stage."""

    @property
    def path(self) -> Path:
        """What was written."""
        return self.base / self.name

    def mount(self, target: str) -> list[str]:
        """The sandbox's mount entry."""
        return host.Overlay(
            lower=self.lower, target=target, upper=self.name, work=f"{self.name}.work"
        ).mount()


class Trees:
    """The trees that this process has at hand, unpacked, for the stages that need them next.

    What a stage has just written stays here as the lower directory of the next one: only what
    comes from the cache is ever unpacked.
    """

    def __init__(self, folder: Path, cache: Cache) -> None:
        self.folder = folder
        self.cache = cache
        self.names: dict[str, str] = {}
        self.count = 0
        self.unpacking = threading.Lock()

    def _name(self) -> str:
        self.count += 1
        return str(self.count)

    def lower(self, stages: Sequence[Stage], log: host.Log) -> list[str]:
        """Lower directories for these stages, from the top one down, relative to `folder`."""
        with self.unpacking:  # of several threads, the others wait for what one unpacks
            self._unpack(stages, log)
        return [self.names[stage.key] for stage in reversed(stages)]

    def _unpack(self, stages: Sequence[Stage], log: host.Log) -> None:
        packed = {stage.key: self.cache.require(stage) for stage in stages
                  if stage.key not in self.names}  # fmt: skip
        # Entries of older versions do not tell.
        size = sum(int(entry.facts.get("size", 0)) for entry in packed.values())
        log.need_room("scratch", size, f"unpacking {len(packed)} trees")
        lacking = [stage for stage in stages if stage.key in packed]
        if lacking:
            log.step(f"unpacking {', '.join(stage.name for stage in lacking)}")
            names = [self._name() for _stage in lacking]
            # Each is one tar that waits for the filesystem, so that two CPUs are used by two.
            with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
                work = [
                    pool.submit(unpack, packed[stage.key].path, packed[stage.key].sha256,
                                self.folder / name, log)
                    for stage, name in zip(lacking, names, strict=True)
                ]  # fmt: skip
            for stage, name, future in zip(lacking, names, work, strict=True):
                try:
                    future.result()
                except DamagedEntry:
                    self.cache.damaged(stage, log.step)
                    raise
                self.names[stage.key] = name

    @contextlib.contextmanager
    def upper(self, stage: Stage, lower: Sequence[str]) -> Iterator[Upper]:
        """A fresh upper directory; when the block ends well, it is the stage's tree."""
        name = self._name()
        since = begun(self.folder)
        if not lower:
            (self.folder / "empty").mkdir(exist_ok=True)
            lower = ["empty"]
        for suffix in ("", ".work"):
            (self.folder / (name + suffix)).mkdir()
        (self.folder / name).chmod(0o755)
        try:
            yield Upper(base=self.folder, name=name, lower=lower, begun=since)
        except BaseException:
            host.remove_tree(self.folder / name)
            raise
        finally:
            host.remove_tree(self.folder / (name + ".work"))
        self.names[stage.key] = name


def find_in(folder: Path, lower: Sequence[str], path: str) -> Path | None:
    """The topmost version of a path in a stack of lower directories, None if it is hidden.

    What is not a directory hides all that lies below it, and so does an opaque directory
    (Linux, Documentation/filesystems/overlayfs).
    """
    for name in lower:
        here = folder / name
        hides = False
        for step in path.split("/"):
            if here != folder / name:
                if not stat.S_ISDIR(_mode(here)):
                    return None
                hides = hides or _opaque(here)
            here = here / step
            mode = _mode(here)
            if stat.S_ISCHR(mode):
                return None
            if not mode:
                break
        else:
            return here
        if hides:
            return None
    return None


def resolved(folder: Path, lower: Sequence[str], path: str) -> str:
    """Where a path of a stack of trees leads, relative to it; its last step is not followed.

    Symlinks lead within the tree, as they do for what runs in it; a loop of them leads nowhere.
    """
    steps = [step for step in path.split("/") if step not in ("", ".")]
    here: list[str] = []
    links = 0
    while steps:
        step = steps.pop(0)
        if step == "..":
            here = here[:-1]
            continue
        here.append(step)
        found = find_in(folder, lower, "/".join(here)) if steps else None
        if found is not None and stat.S_ISLNK(_mode(found)):
            links += 1
            if links > LINKS:
                break
            text = os.readlink(found)
            here = [] if text.startswith("/") else here[:-1]
            steps = [step for step in text.split("/") if step not in ("", ".")] + steps
    return "/".join(here)


def merged(
    folder: Path, lower: Sequence[str], path: str, hidden: Set[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """(path below `path`, where it is) of all that an overlay of these directories shows there.

    What is in a folder of `hidden`, by its path below `path`, is left out.
    """
    folders = [os.fspath(folder / name) for name in lower]
    for step in path.split("/") if path else ():
        folders = _below(folders, step)
    yield from _merged(folders, "", hidden)


def _below(folders: Sequence[str], name: str) -> list[str]:
    """The folders of this name in a stack of folders that are seen together."""
    found = []
    for folder in folders:
        path = os.path.join(folder, name)
        mode = _mode(Path(path))
        if not mode:
            continue
        if not stat.S_ISDIR(mode):
            break
        found.append(path)
        if _opaque(Path(path)):
            break
    return found


def _merged(folders: Sequence[str], below: str, hidden: Set[str]) -> Iterator[tuple[str, str]]:
    shown: dict[str, tuple[str, os.stat_result]] = {}
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name not in shown:
                    shown[entry.name] = entry.path, entry.stat(follow_symlinks=False)
    for name, (path, info) in sorted(shown.items()):
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            continue
        yield below + name, path
        if stat.S_ISDIR(info.st_mode) and below + name not in hidden:
            yield from _merged(_below(folders, name), f"{below}{name}/", hidden)


def is_folder(path: Path | None) -> bool:
    """Whether it is a directory itself, not a link to one."""
    return path is not None and stat.S_ISDIR(_mode(path))


def _opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def dpkg_status(folder: Path, lower: Sequence[str]) -> str:
    """dpkg's status text in a stack of trees; "" unless it is a plain file.

    A package's script may have put a link to a file of the host there, or a FIFO.
    """
    path = find_in(folder, lower, "var/lib/dpkg/status")
    if path is None or not stat.S_ISREG(_mode(path)):
        return ""
    if path.stat().st_size > STATUS_LIMIT:
        raise BuildError("var/lib/dpkg/status in the tree is no dpkg status: it has "
                         f"{path.stat().st_size} bytes", "a package's script wrote it")  # fmt: skip
    return path.read_text(encoding="utf-8", errors="replace")


def check_installed(
    status: str, expected: Sequence[Record], arch: str, what: str, script: str = ""
) -> None:
    """BuildError unless a dpkg status text has exactly these packages, all of them configured.

    apt has installed what is locked, so that a `script` that ran after it is what changed that.
    """
    if expected and not status:
        raise BuildError(
            f"{what}: the tree has no /var/lib/dpkg/status any more that is a plain file",
            f"let the script {script} leave it alone" if script
            else "some package's script replaced it",
        )  # fmt: skip
    found: set[tuple[str, str, str]] = set()
    broken: list[str] = []
    for stanza in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in stanza.splitlines() if not line.startswith(" ")
            and ": " in line
        )  # fmt: skip
        if not fields:
            continue
        state = fields.get("Status", "unknown").rpartition(" ")[2]
        name = fields.get("Package", "?")
        if state == "installed":
            found.add((name, fields.get("Version", ""), fields.get("Architecture", "")))
        elif state not in ("not-installed", "config-files"):
            broken.append(f"{name} is {state}")
    wanted = {(record.package, record.version, record.architecture) for record in expected}
    wrong = broken
    wrong += [f"{name} {version} is missing" for name, version, _ in sorted(wanted - found)]
    wrong += [f"{name} {version} is not in the lock" for name, version, _ in sorted(found - wanted)]
    if wrong and script:
        gone = sorted({name for name, _version, _arch in wanted - found} -
                      {name for name, _version, _arch in found})  # fmt: skip
        came = sorted({name for name, _version, _arch in found - wanted})
        said = [f"{name}-" for name in gone[:5]] + came[:5]
        raise BuildError(
            f"{what}: the script {script} changed which packages are installed, and the lock does "
            f"not know it: {'; '.join(wrong[:5])}",
            f"leave that to packages in place of the script: list {', '.join(said)} there"
            if said else "let the script leave packages as it found them",
        )  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BuildError(f"{what}: what is installed is not what is locked: "
                         f"{'; '.join(wrong[:5])}{more}",
                         "lock again with lock=latest; if it stays, this is a bug")  # fmt: skip


def facts(epoch: int, records: Sequence[Record], tree: Path) -> dict[str, Any]:
    """What base and layer records keep beside their inputs; `size` is the unpacked tree's.

    `private`: it has a file that is not for everybody, so its tarball is none either.
    """
    size, private = measured(tree)
    return {"epoch": epoch, "installed": len(records), "size": size, "private": private}


def measured(tree: Path) -> tuple[int, bool]:
    """Bytes that the files of a tree take in blocks of 4 KiB, holes left out: alike anywhere.

    And whether one that is not empty may not be read by others, as /etc/shadow.
    """
    size = 0
    private = False
    linked: set[int] = set()
    stack = [os.fspath(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    stack.append(entry.path)
                elif stat.S_ISREG(info.st_mode) and info.st_ino not in linked:
                    private = private or (info.st_size > 0 and not info.st_mode & stat.S_IROTH)
                    size += holes.taken(entry.path, info)
                    if info.st_nlink > 1:
                        linked.add(info.st_ino)
    return size, private
