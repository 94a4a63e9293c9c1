"""`doit diff`: what differs between two locks or builds; nothing is asked, made or written."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import BuildError, printable
from ..host import safe, strict
from ..host.git import git
from ..plan import lockfile
from ..plan.changes import Package, in_image, packages_of
from ..plan.difference import FORMS, File, Side, difference, shown
from ..plan.stage import TREE
from ..session.session import Session
from ..spec.load import is_spec
from ..store.record import FOLDERS
from .diff_builds import cached_images, cached_packages, installed, of_build, published, record

SIDES = (
    "a lock, an out/ folder, its build.json, an image, a spec's name, a git revision "
    "(with spec=), or REVISION:NAME"
)


@dataclass(kw_only=True)
class Given:
    """One side, with the keys of the stages that its tree is made of, as far as it tells them.

    Of one image, `file`, there are the files below `mount`, but for those of images below it. Of
    one that no build tells of, what it holds is read: see `diff_images`.
    """

    side: Side
    tree: list[tuple[str, str]] = field(default_factory=list)
    mount: str = "/"
    below: tuple[str, ...] = ()
    file: Path | None = None
    told: bool = True

    def shown(self, files: Mapping[str, File]) -> dict[str, File]:
        """Those of a tree's files that are this side's."""
        top = self.mount.rstrip("/") + "/"
        return {
            path: file
            for path, file in files.items()
            if path.startswith(top) and not any(path.startswith(f"{one}/") for one in self.below)
        }


def diff(session: Session) -> None:
    """Print what differs between `from=` and `to=`, in the form that `format=` names."""
    form = wanted_form(session, "diff")
    # What else is said is for the log.
    with contextlib.redirect_stdout(sys.stderr):
        words = {name: session.variables.get(name, "") for name in ("from", "to")}
        if not session.name and (lacking := [name for name in words if not words[name]]):
            raise BuildError(
                f"diff: {lacking[0]}= is missing, and no spec is named", f"it is {SIDES}"
            )
        before, after = (_given(session, name, word) for name, word in words.items())
        if before.told and after.told:
            sides = with_files(session, before, after, session.screen.note)
        else:
            from .diff_images import read_images

            sides = read_images(session, before, after)
    text = shown(difference(*sides), form, session.name or after.side.name)
    if text:
        session.screen.line(text.rstrip("\n"))


def wanted_form(session: Session, command: str) -> str:
    """`format=`, one of FORMS."""
    form = session.variables.get("format", "text")
    if form not in FORMS:
        raise BuildError(f"{command} format={form}: expected text, markdown or json")
    return form


# ---------------------------------------------------------------- what is compared


def _given(session: Session, name: str, word: str) -> Given:
    """What `from=` or `to=` names: a path first, then a spec, then a revision."""
    if not word:
        return _revision(session, name, "HEAD") if name == "from" else _spec(session, session.name)
    path = Path(word)
    # These take any word, however long.
    if os.path.isfile(path / "build.json"):
        return _build(session, name, path / "build.json")
    if os.path.isfile(path):
        if path.suffix == ".json":
            return _build(session, name, path)
        if path.suffix == ".lock":
            return _lock(word, _read(name, path), {})
        return _image(session, name, path)
    if is_spec(session.specs, word):
        return _spec(session, word)
    return _revision(session, name, word)


def _read(name: str, path: Path) -> str:
    try:
        return safe.read_bytes(path, strict.LIST_LIMIT).decode("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise BuildError(f"{name}={path}: cannot be read: {reason}") from error


def _lock(name: str, text: str, suites: Mapping[str, str]) -> Given:
    lock = lockfile.parse(text, where=name)
    return Given(side=Side(name=name, packages=packages_of(lock, suites)))


def _spec(session: Session, name: str) -> Given:
    """A spec's lock as it is now; its tree, where the lock is the spec's."""
    own = session
    if name != session.name:
        given = {**session.variables, "spec": name, "variant": ""}
        own = Session(root=session.root, variables=given, screen=session.screen)
    lock = own.read_lock()
    if lock is None:
        raise BuildError(f"{own.lock_path}: there is none yet", f"doit lock spec={name}")
    suites = {repo.name: repo.suite for repo in own.spec.repos}
    side = Side(name=str(own.lock_path), packages=packages_of(lock, suites))
    tree: list[tuple[str, str]] = []
    if own.fits(lock):
        # A file of the spec that is missing is the build's to tell.
        with contextlib.suppress(BuildError):
            tree = [(stage.kind, stage.key) for stage in own.plan.tree]
    return Given(side=side, tree=tree)


def _revision(session: Session, name: str, word: str) -> Given:
    """The lock of a git revision: REVISION with spec=, or REVISION:NAME, or REVISION:PATH."""
    revision, colon, path = word.partition(":")
    where = f"{name}={printable(word)}"
    if not colon and not session.name:
        raise BuildError(f"{where}: there is no such lock, folder or spec", f"it is {SIDES}")
    if not colon:
        path = session.name
    if not path.endswith(".lock"):
        path = f"specs/{path}.lock"
    if not revision or revision.startswith("-"):
        raise BuildError(f"{where}: it names no revision", f"it is {SIDES}")
    found = git(session.root, "rev-parse", "--verify", f"{revision}^{{commit}}")
    if found.status != 0:
        raise BuildError(
            f"{where}: it is no file, out/ folder or spec, and git has no such revision: "
            f"{found.said}",
            f"it is {SIDES}",
        )
    commit = found.out.strip()
    label = f"{printable(revision)}:{printable(path)}"
    listed = git(session.root, "ls-tree", commit, "--", path)
    if not colon and listed.status == 0 and not listed.out:
        # The spec is newer than that: all of it came since then.
        return Given(side=Side(name=f"{label} (not there)", packages={}))
    text = git(session.root, "cat-file", "blob", f"{commit}:./{path}")
    if text.status != 0:
        raise BuildError(
            f"{where}: the revision has no {printable(path)}: {text.said}",
            "locks are compared as they are committed",
        )
    if len(text.out) > strict.LIST_LIMIT:
        raise BuildError(f"{where}: {label} is too large for a lock")
    return _lock(label, text.out, {})


# ---------------------------------------------------------------- builds


def _build(session: Session, name: str, path: Path) -> Given:
    """What a build.json tells, with the metadata beside it and the records of the cache."""
    where = f"{name}={path}"
    try:
        told = strict.read(path)
        spec = strict.text(told, "spec")
        digest = strict.text(told, "lock")
        stages = [
            (one["stage"], strict.text(one, "name"), strict.text(one, "key", strict.KEY))
            for one in strict.items(strict.field(told, "stages"), "its stages")
            if one["stage"] in FOLDERS
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BuildError(f"{where}: this is no build.json: {reason}") from error
    tree = [(kind, key) for kind, _name, key in stages if kind in TREE]
    keys = {(kind, mount): key for kind, mount, key in stages}
    about = of_build(path.with_name(f"{Path(spec).name}.yaml"), digest)
    images = published(about) if about else cached_images(session, keys)
    packages = _of_lock(session, spec, digest)
    if packages is None:
        packages = installed(about) if about else cached_packages(session, tree)
    if packages is None:
        raise BuildError(
            f"{where}: its packages are not known: no {spec}.yaml of that build is beside it, and "
            "the cache no longer has its stages",
            "compare the whole out/ folder",
        )
    label = str(path.parent if path.name == "build.json" else path)
    return Given(side=Side(name=label, packages=packages, images=images), tree=tree)


def of_stages(
    session: Session, label: str, stages: Sequence[tuple[str, str, str]], digest: str
) -> Given:
    """A build of this checkout's, of the kind, name and key of its stages, and its lock's digest.

    What the cache has no more is not told.
    """
    known = [one for one in stages if one[0] in FOLDERS and re.fullmatch(strict.KEY, one[2])]
    tree = [(kind, key) for kind, _name, key in known if kind in TREE]
    lock = session.read_lock()
    if lock is not None and session.lock_digest == digest:
        suites = {repo.name: repo.suite for repo in session.spec.repos}
        packages: dict[str, Package] | None = in_image(packages_of(lock, suites))
    else:
        packages = cached_packages(session, tree)
    images = cached_images(session, {(kind, mount): key for kind, mount, key in known})
    return Given(side=Side(name=label, packages=packages, images=images), tree=tree)


def _image(session: Session, name: str, path: Path) -> Given:
    """One image: what the build beside it tells, as far as it is of this very image."""
    beside = path.with_name("build.json")
    if not beside.is_file():
        return Given(side=Side(name=str(path)), file=path, told=False)
    build = _build(session, name, beside)
    images = build.side.images or {}
    # A disk or an export is no filesystem of one mount point.
    mounts = {one: image for one, image in images.items() if one.startswith("/")}
    mount = next((one for one, image in mounts.items() if image.file == path.name), None)
    if mount is None or path.stat().st_size != images[mount].size:
        return Given(side=Side(name=str(path)), file=path, told=False)
    top = mount.rstrip("/") + "/"
    return Given(
        side=replace(build.side, name=str(path), images={mount: images[mount]}),
        tree=build.tree,
        mount=mount,
        below=tuple(one for one in images if one != mount and one.startswith(top)),
        file=path,
    )


def _of_lock(session: Session, spec: str, digest: str) -> dict[str, Package] | None:
    """The packages of the spec's lock, which knows repositories, where that is what was built."""
    if not is_spec(session.specs, spec):
        return None
    path = session.specs / f"{spec}.lock"
    try:
        text = safe.read_bytes(path, strict.LIST_LIMIT).decode("utf-8")
    except (OSError, ValueError):
        return None
    if lockfile.digest(text) != digest:
        return None
    return in_image(packages_of(lockfile.parse(text, where=str(path))))


# ---------------------------------------------------------------- files


def with_files(
    session: Session, before: Given, after: Given, say: Callable[[str], None]
) -> tuple[Side, Side]:
    """Both sides with their files, where the cache has the trees of both; else says why not."""
    if not before.tree or not after.tree:
        return before.side, after.side
    lacking = [one for one in dict.fromkeys([*before.tree, *after.tree]) if not _has(session, *one)]
    if lacking:
        kind, key = lacking[0]
        say(f"files are not compared: the cache has no {kind}-{key[:8]}")
        return before.side, after.side
    from ..rootfs.listed import both

    paths = [[_tarball(session, *one) for one in given.tree] for given in (before, after)]
    try:
        with session.cache.used(session.screen.progress):
            was, now = both(paths[0], paths[1])
    except (OSError, tarfile.TarError) as error:
        say(f"files are not compared: a tree in the cache cannot be read: {error}")
        return before.side, after.side
    return (
        replace(before.side, files=before.shown(was)),
        replace(after.side, files=after.shown(now)),
    )


def _tarball(session: Session, kind: str, key: str) -> Path:
    return session.cache.root / FOLDERS[kind] / f"{kind}-{key}.tar.zst"


def _has(session: Session, kind: str, key: str) -> bool:
    """Whether the cache has a tree, going by its record and its file's size."""
    try:
        size = int(record(session, kind, key)["file"]["size"])
        return _tarball(session, kind, key).lstat().st_size == size
    except (OSError, ValueError):
        return False
