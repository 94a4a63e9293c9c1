"""How two builds of one lock differ: by tarball, member and field; by image, file and byte."""

from __future__ import annotations

import contextlib
import platform
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BuildError
from ..formats import compress, ext_bytes
from ..formats.filesystem import Filesystem
from ..formats.table import FILESYSTEMS
from ..host import safe, toolroot
from ..host.files import read_sha256, remove
from ..host.log import Log
from ..host.process import PIPE, capture, popen, running
from ..host.sandbox import DPKG_CAPABILITIES, Sandbox, step
from ..host.tools import tool
from ..rootfs import identities
from ..rootfs.drawn import KEPT
from ..session.session import Session
from ..spec.images import Image
from ..store.record import Entry
from .image_files import tar_of

DIFFOSCOPE_SECONDS = 600
"""After which diffoscope is ended: what differs is told by then."""


MEMBER_FIELDS = ("type", "mode", "uid", "gid", "size", "mtime", "linkname", "devmajor", "devminor")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether two results are the same in what counts; `text` says how they differ."""

    same: bool
    text: str


SAME = Verdict(same=True, text="")


@dataclass(kw_only=True)
class Drawn:
    """What packages drew by chance in the trees so far: it has other bytes in each build."""

    notices: list[identities.Notice] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    """Of what was found to differ, the first path by package."""

    def add(self, entry: Entry) -> None:
        """Note what a tree's record tells."""
        self.notices += identities.read(entry.facts.get("drawn"))

    def expected(self, path: str) -> bool:
        """Whether an absolute path may differ, which is noted."""
        notice = identities.differing(self.notices, path)
        if notice is not None:
            self.seen.setdefault(notice.package, path)
        return notice is not None

    def told(self) -> Verdict:
        """A sentence on what was found to differ."""
        found = ", ".join(f"{package} ({path})" for package, path in self.seen.items())
        return Verdict(
            same=True, text=f"the same files, but for what packages drew by chance: {found}"
        )


# ---------------------------------------------------------------- trees


def compare_trees(old: Entry | None, new: Entry, drawn: Drawn, fresh: Session, log: Log) -> Verdict:
    """How two layer tarballs differ, if they do."""
    if old is None or old.sha256 == new.sha256:
        return SAME
    own = Drawn(notices=drawn.notices)
    found = compare_tars(old.path, new.path, log, own.expected)
    drawn.seen |= own.seen
    if not found and own.seen:
        return own.told()
    if not found:
        text = "the same files, packed by another version of tar or zstd"
        return Verdict(same=True, text=text)
    _diffoscope(old.path, new.path, fresh, log)
    return Verdict(same=False, text=found)


def compare_tars(
    one: Path, other: Path, log: Log, expected: Callable[[str], bool] = lambda _path: False
) -> str:
    """The first member and field in which two sorted tars, plain or zstd, differ; "" if none do.

    `expected` says of an absolute path whether it may.
    """
    with _members(one, log) as left, _members(other, log) as right:
        a, b = left.next(), right.next()
        while a is not None or b is not None:
            if a is not None and b is not None and a.name == b.name:
                found = _compare_members(left, a, right, b)
                if found and not expected(_path(a)):
                    return f"{_path(a)}: {found}"
                a, b = left.next(), right.next()
            # tar sorts each folder by itself.
            elif b is None or (a is not None and a.name.split("/") < b.name.split("/")):
                assert a is not None
                if not expected(_path(a)):
                    return f"{_path(a)}: only in the old one"
                a = left.next()
            else:
                if not expected(_path(b)):
                    return f"{_path(b)}: only in the new one"
                b = right.next()
    return ""


def _path(member: tarfile.TarInfo) -> str:
    return "/" + member.name.removeprefix(".").removeprefix("/")


@contextlib.contextmanager
def _members(path: Path, log: Log) -> Iterator[tarfile.TarFile]:
    if path.suffix != ".zst":
        with tarfile.open(path, "r|") as archive:
            yield archive
        return
    log.line(f"# reading {path}")
    with running(popen(["zstd", "-dcq", str(path)], stdout=PIPE)) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                yield archive
        finally:
            process.kill()  # the first difference may leave much unread


def _compare_members(
    left: tarfile.TarFile, a: tarfile.TarInfo, right: tarfile.TarFile, b: tarfile.TarInfo
) -> str:
    for name in MEMBER_FIELDS:
        was, now = getattr(a, name), getattr(b, name)
        if was != now:
            shown = [f"{value:04o}" if name == "mode" else str(value) for value in (was, now)]
            return f"{name} {shown[0]} → {shown[1]}"
    if a.pax_headers != b.pax_headers:
        names = sorted(a.pax_headers.keys() | b.pax_headers.keys())
        other = [name for name in names if a.pax_headers.get(name) != b.pax_headers.get(name)]
        return f"attribute {other[0].removeprefix('SCHILY.xattr.')}"
    if a.isreg():
        one, two = left.extractfile(a), right.extractfile(b)
        assert one is not None
        assert two is not None
        offset = ext_bytes.first_difference(one, two)
        if offset is not None:
            return f"content at byte {offset}"
    return ""


# ---------------------------------------------------------------- images


def compare_images(
    old: Path, new: Entry, spec: Image, drawn: Drawn, fresh: Session, log: Log
) -> Verdict:
    """How a published image differs from the new one, if it does."""
    if not old.is_file():
        return Verdict(same=False, text=f"{old.name} is missing")
    if read_sha256(old) == new.sha256:
        return SAME
    raws = [fresh.scratch / f"{side}.raw" for side in ("old", "new")]
    try:
        for path, raw in zip((old, new.path), raws, strict=True):
            log.step(f"decompressing {path.name}")
            with open(safe.reading(path), "rb") as packed:
                compress.decompress(packed, path.name, raw, spec.container)
        found = _compare_raw(raws, spec, drawn, fresh, log)
    finally:
        for raw in raws:
            raw.unlink(missing_ok=True)
    if not found.same:
        _diffoscope(old, new.path, fresh, log)
    return found


def _compare_raw(raws: list[Path], spec: Image, drawn: Drawn, fresh: Session, log: Log) -> Verdict:
    kind = FILESYSTEMS[spec.format]
    with raws[0].open("rb") as one, raws[1].open("rb") as other:
        offset = ext_bytes.first_difference(one, other)
    if offset is None:
        text = f"the same filesystem, but {spec.container} was written by another compressor"
        return Verdict(same=False, text=text)
    if any(notice.done == KEPT for notice in drawn.notices):
        own = Drawn(notices=drawn.notices)
        below = spec.mount.rstrip("/")
        found = _file_difference(
            raws, kind, fresh, log, lambda path: own.expected(f"{below}{path}")
        )
        if found:
            text = f"{below}{found}" if found.startswith("/") else found
            return Verdict(same=False, text=text)
        if own.seen:
            return own.told()
    if kind.direct:
        found = _ext_difference(raws[0], spec, offset)
        if spec.pack == "loop" and not _file_difference(raws, kind, fresh, log):
            found += (
                f"; every file is the same: `pack: loop` leaves the layout to the kernel, which is "
                f"Linux {platform.release()} here; `pack: direct` does not"
            )
        return Verdict(same=False, text=found)
    found = _file_difference(raws, kind, fresh, log)
    if found:
        return Verdict(same=False, text=found)
    if kind.varies:
        text = f"the same files; {spec.format} has other bytes each time: {kind.varies}"
        return Verdict(same=True, text=text)
    return Verdict(same=False, text=f"byte {offset}, in no file")


def _ext_difference(raw: Path, spec: Image, offset: int) -> str:
    """Path and field, or place, of the byte at which an ext filesystem differs."""
    code, text, error = capture(["dumpe2fs", str(raw)])
    try:
        field, inode, block = ext_bytes.place(raw, ext_bytes.layout(text), offset)
    except ValueError as problem:
        return f"byte {offset}; {problem}: {error.strip()[-200:] if code else ''}"
    # -n: what differs may have spoilt a checksum.
    if block:
        _, text, _ = capture(["debugfs", "-n", "-R", f"icheck {block}", str(raw)])
        owner = text.split()[-1]
        inode = int(owner) if owner.isdigit() else 0
        field = f"content in block {block}" if inode else field
    if not inode:
        return f"byte {offset}: {field}"
    _, text, _ = capture(["debugfs", "-n", "-R", f"ncheck {inode}", str(raw)])
    names = [line.split("\t", 1)[1] for line in text.splitlines()[1:] if "\t" in line]
    inside = names[0].lstrip("/") if names else ""
    path = f"{spec.mount.rstrip('/')}/{inside}" if names else f"inode {inode}"
    return f"{path}: {field}"


def _file_difference(
    raws: list[Path],
    kind: Filesystem,
    fresh: Session,
    log: Log,
    expected: Callable[[str], bool] = lambda _path: False,
) -> str:
    """The first file in which two filesystems differ, "" if none does, or why it cannot be told."""
    old, new = raws
    try:
        with (
            tar_of(old, kind, fresh.scratch, log) as one,
            tar_of(new, kind, fresh.scratch, log) as other,
        ):
            return compare_tars(one, other, log, expected)
    except BuildError as error:
        return error.message


def _diffoscope(old: Path, new: Path, fresh: Session, log: Log) -> None:
    """A detailed comparison for the logs, where the host has diffoscope(1); no more than a help.

    It takes apart what packages' scripts wrote, so it is confined as a bootstrap tool is.
    """
    try:
        tool("diffoscope")
    except BuildError:
        return
    name = f"diffoscope-{old.name.partition('.')[0]}.txt"
    log.step(f"diffoscope of {old.name}")
    root = fresh.scratch / "diffoscope"
    toolroot.skeleton(root)
    (root / "root" / name).touch()
    sandbox = Sandbox(
        base=fresh.scratch,
        mounts=[["bind", str(root), "root", ""]],
        root="root",
        binds=[*toolroot.programs(), (str(old), "/target/old"), (str(new), "/target/new")],
        keep=DPKG_CAPABILITIES,
        env={"HOME": "/root", "TMPDIR": "/tmp"},
        cwd="/target",
    )
    try:
        # Status 1 says that they differ. Of large images it may take hours.
        sandbox.run(
            step(
                "/bin/sh",
                "-c",
                'timeout "$0" diffoscope --text "$1" old new; test $? -le 1',
                str(DIFFOSCOPE_SECONDS),
                f"/root/{name}",
            ),
            log=log,
            what="diffoscope",
        )
        with (
            open(safe.reading(root / "root" / name), "rb") as source,
            open(safe.creating(fresh.out / fresh.logs / name), "wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
    except BuildError as error:
        log.line(f"# {error}")
    finally:
        remove(root)
