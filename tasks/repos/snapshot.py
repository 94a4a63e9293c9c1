"""A repository's verified indexes, kept as they were under the Release's digest."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from ..builder import Builder
from ..debian import apt, deb822
from ..errors import BuildError, CommandFailed, DamagedEntry, RepositoryFault
from ..host import safe, space
from ..host.files import digest_of, read_sha256, remove
from ..host.locks import locked
from ..host.patience import retries, timeout
from ..host.process import capture, filtered, run
from ..plan.lockfile import Lock, LockedRepo, Record
from ..plan.repositories import ARCHIVES
from ..spec.model import Repo, Spec, masked
from ..store.digests import broken, seal, sealed
from . import rollback
from .complaint import refusal
from .fetch import by_source
from .private import PrivateApt, private_text
from .retry import patiently

APTS_OWN = ("lock", "partial", "auxfiles")
"""What apt has among its lists that is none."""


SNAPSHOTS_KEPT = 3
"""Of each repository; lock=keep resolves from the one that the lock names, if it is still here."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository's verified indexes: `folder` holds them under apt's names without the site."""

    repo: Repo
    folder: Path
    release: str
    fields: Mapping[str, str]

    def without_index(self) -> tuple[str, ...]:
        """The components asked for of which there is no index at all, for any architecture."""
        names = [path.name for path in self.folder.glob("*Packages")]
        return tuple(
            one
            for one in self.repo.components
            if not any(f"_{apt.list_name(one)}_binary-" in name for name in names)
        )

    def locked(self) -> LockedRepo:
        """Its line in the lock."""
        keep = ("Origin", "Label", "Suite", "Archive", "Codename", "Version")
        return LockedRepo(
            name=self.repo.name,
            release=self.release,
            date=self.fields.get("Date", ""),
            fields={name: self.fields[name] for name in keep if name in self.fields},
        )


# ---------------------------------------------------------------- asking


def rotten(private: PrivateApt) -> bool:
    """Whether apt's lists are not those of the newest snapshot; broken snapshots are dropped."""
    cache = private.builder.cache
    kept = _kept(private)
    bad = [folder for folder in kept if broken(folder)]
    for folder in bad:
        cache.drop_index(folder)
    if bad or not kept:
        return bool(bad)
    try:
        known = set(sealed(kept[-1]).values())
        # A snapshot may have more: see _only_compressed. What a link leads to is not the cache's.
        return not known >= {
            read_sha256(path)
            for path in private.live.iterdir()
            if path.name not in APTS_OWN and not path.is_symlink()
        }
    except (OSError, ValueError):
        return True


def drop_broken(builder: Builder, snapshots: Sequence[Snapshot]) -> bool:
    """Read snapshots that are about to be resolved from; drop those that are not whole any more.

    Returns whether there was one: then all repositories must be asked again.
    """
    log = builder.log
    bad = [snapshot for snapshot in snapshots if broken(snapshot.folder)]
    for snapshot in bad:
        log.step(f"repository {snapshot.repo.name}: its indexes in the cache are damaged")
        live_id = snapshot.folder.name.split("-")[1]
        with locked(builder.cache.index / f".{live_id}.lock", waiting=log.step):
            builder.cache.drop_index(snapshot.folder)
    return bool(bad)


def _kept(private: PrivateApt) -> list[Path]:
    """The folders of a repository's snapshots, the newest last."""
    found = private.builder.cache.index.glob(f"snapshot-{private.live_id}-*")
    return sorted(found, key=os.path.getmtime)


def keep_snapshot(private: PrivateApt, lists: Path, was: LockedRepo | None) -> Snapshot:
    """Link apt's verified lists into an immutable folder named after the Release's digest."""
    repo = private.repo
    files = _fetched(private, lists)
    release = next((path for name, path in sorted(files.items()) if name.endswith("Release")), None)
    fields = _release(release) if release else {}
    if was is not None:
        rollback.check(
            repo, was, fields, f"{private.where} ({masked(private.uri)})", keeping=private.keeping
        )
    if release is not None:
        _check_signer(private, release, fields)
    packages = sorted(name for name in files if name.endswith("Packages"))
    marks = [release] if release else [files[name] for name in packages]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in marks)).hexdigest()
    folder = private.builder.cache.index / f"snapshot-{private.live_id}-{digest[:32]}"
    if not folder.exists():
        _check_sums(repo, files, release)
        _write(private, files, release, folder)
    os.utime(folder)
    for old in _kept(private)[:-SNAPSHOTS_KEPT]:
        remove(old)
    _check_offer(private, fields)
    return Snapshot(repo=repo, folder=folder, release=digest, fields=fields)


def _fetched(private: PrivateApt, lists: Path) -> dict[str, Path]:
    """apt's lists by their names without the site."""
    prefix = apt.list_name(apt.without_user(private.uri)) + "_"
    name = private.repo.name
    for path in lists.iterdir():
        if not path.is_file() and path.name not in APTS_OWN:
            raise DamagedEntry(f"repository {name}: {path} is no file", f"remove {lists}")
    files = {
        path.name[len(prefix) :]: path
        for path in lists.iterdir()
        if path.name.startswith(prefix) and path.is_file()
    }
    try:
        _copy_linked(files, private.uri, private.folder)
    except OSError as error:
        raise _unkept(private, error) from error
    return files


def _unkept(private: PrivateApt, error: OSError) -> BuildError:
    what = f"keeping the indexes of {private.repo.name}"
    return space.explained(error, what, private.builder.log.places)


def _release(path: Path) -> dict[str, str]:
    """The fields of a Release that came just now.

    If-Modified-Since counts whole seconds: one that is hardly older than our request may yet be
    replaced within its second, so the next request must not name that second.
    """
    info = path.stat()
    if time.time() - info.st_mtime < 3:
        os.utime(path, (info.st_atime, info.st_mtime - 3))
    return deb822.release_fields(path.read_text("utf-8", "replace"))


def _write(
    private: PrivateApt, files: Mapping[str, Path], release: Path | None, folder: Path
) -> None:
    """Make a snapshot of these lists, whole or not at all."""
    temporary = private.builder.cache.index / f".new-{private.live_id}"
    remove(temporary)
    temporary.mkdir()
    try:
        for name, path in files.items():
            safe.link_or_copy(path, temporary / name)
        if release is not None:
            _only_compressed(private, release, temporary)
        seal(temporary)
        temporary.rename(folder)
    except BuildError:
        remove(temporary)
        raise
    except OSError as error:
        told = _unkept(private, error)  # it looks at what is free now
        remove(temporary)
        raise told from error


def _copy_linked(files: dict[str, Path], uri: str, scratch: Path) -> None:
    """Take copies of the lists that are links into a `file:` repository.

    apt makes one of an index that lies there uncompressed; it must not change with it later.
    """
    source = unquote(re.sub("^file:(//)?(?=/)", "", uri)).rstrip("/") + "/"
    copies = scratch / "copies"
    for name, path in files.items():
        # Another link is none of apt's: it is refused where it is read.
        if uri.startswith("file:") and path.is_symlink() and os.readlink(path).startswith(source):
            copies.mkdir(exist_ok=True)
            shutil.copy2(path, copies / name)
            files[name] = copies / name


def _check_signer(private: PrivateApt, release: Path, fields: Mapping[str, str]) -> None:
    """BuildError unless the keyring that the image will name is one that verifies this Release.

    A mirror may have signed an archive's Release anew, with a key that only this host knows.
    """
    _package, keyring = ARCHIVES.get(fields.get("Origin", ""), ("", ""))
    path = Path("/usr/share/keyrings") / keyring
    spec, repo = private.spec, private.repo
    if (
        repo.keyring is not None
        or repo.trusted
        or not spec.settings.apt_sources
        or not keyring
        or not path.is_file()
    ):
        return
    detached = [] if release.name.endswith("InRelease") else [f"{release}.gpg"]
    argv = ["gpgv", "--status-fd", "1", "--keyring", str(path), *detached, str(release)]
    _code, status, _said = capture(argv)
    if "[GNUPG:] VALIDSIG " not in status:
        raise RepositoryFault(
            f"{spec.path}: apt_sources: repos.{repo.name}: this host verifies it with a key that "
            f"is not in {path}, so the image could not",
            f"name the keyring that verifies it in repos.{repo.name}.keyring",
        )


def _only_compressed(private: PrivateApt, release: Path, target: Path) -> None:
    """Fetch what a Release lists in compressed forms alone, and put it beside apt's lists."""
    repo, uri = private.repo, private.uri
    text = release.read_text("utf-8", "replace")
    sums = deb822.release_sums(text)
    by_hash = deb822.release_fields(text).get("Acquire-By-Hash", "").lower() == "yes"
    arches = ["all", *private.arches]
    suite = repo.suite.strip("/") if repo.flat else f"dists/{repo.suite}"
    for path, name in deb822.only_compressed(sums, repo.components, arches).items():
        file = path
        if by_hash:  # an archive may have no other, or one that is replaced meanwhile
            folder = path.rpartition("/")[0]
            file = f"{folder}/by-hash/{sums[path].algorithm}/{sums[path].digest}".lstrip("/")
        place = "/".join(part for part in (suite, file) if part and part != ".")
        came = private.folder / ("index" + path[len(name) :])
        try:
            patiently(
                partial(_fetch_index, private, place, sums[path], came),
                private.builder.log,
                f"repository {repo.name}",
                tries=retries(),
                changing=True,
            )
        except CommandFailed as error:
            raise refusal(private, error) from error
        before = release.name.removeprefix(apt.list_name(uri) + "_")
        before = before.removesuffix("Release").removesuffix("In")
        (target / (before + apt.list_name(name))).write_bytes(_unpacked(came, path, repo))
        came.unlink()


def _fetch_index(private: PrivateApt, place: str, sum_: deb822.Sum, came: Path) -> None:
    """Fetch one file of a repository; CommandFailed unless it has this digest."""
    uri, log, spec = private.uri, private.builder.log, private.spec
    if apt.source_uri(uri) == apt.without_user(uri):
        run(
            [
                "apt-helper",
                "download-file",
                f"{apt.without_user(uri)}/{place}",
                str(came),
                str(sum_),
            ],
            log=log,
            env=private.env,
            cwd=private.folder,
            what="fetching an index",
        )
        return
    folder = private.folder / "source"
    folder.mkdir(exist_ok=True)
    for name, text in (
        ("auth.conf", ""),
        (
            "apt.conf",
            apt.configuration(
                str(folder),
                arch=spec.arch,
                proxies=spec.proxies,
                direct=spec.direct,
                timeout=timeout(),
                options={"Acquire::ForceHash": ""},
            ),
        ),
    ):
        private_text(folder / name, text)
    # To apt it is a package like another.
    record = Record(
        package="index",
        version="1",
        architecture=spec.arch,
        sha256=sum_.digest,
        size=sum_.size,
        path=place,
        repository="",
    )
    by_source(uri, [record], {sum_.digest: came}, folder, log, sum_.algorithm)


def _unpacked(path: Path, name: str, repo: Repo) -> bytes:
    """The bytes of a compressed index, by its name's ending, which is also the path's."""
    import bz2
    import gzip
    import lzma

    data = path.read_bytes()
    try:
        if name.endswith((".zst", ".lz4")):
            code, data, err = filtered(["apt-helper", "cat-file", str(path)], None)
            if code:
                raise ValueError(err.strip())
            return data
        unpack = {"gz": gzip.decompress, "bz2": bz2.decompress}
        return unpack.get(name.rpartition(".")[2], lzma.decompress)(data)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise RepositoryFault(
            f"repository {repo.name}: {name} cannot be unpacked: {error}"
        ) from error


def _check_sums(repo: Repo, files: Mapping[str, Path], release: Path | None) -> None:
    """DamagedEntry unless lists are what their Release says.

    apt compares only what it fetches: a list that did not change stays as the disk has it.
    """
    if release is None:
        return
    before = next(name for name, path in files.items() if path == release)
    before = before.removesuffix("Release").removesuffix("In")
    for name, said in deb822.release_sums(release.read_text("utf-8", "replace")).items():
        path = files.get(before + apt.list_name(name))
        if path is not None and _digest(path, said.algorithm) != said.digest:
            raise DamagedEntry(
                f"repository {repo.name}: {path} is not what its Release says",
                f"remove {path.parent}",
            )


def _digest(path: Path, algorithm: str) -> str:
    with open(safe.reading(path), "rb") as file:
        return digest_of(file, algorithm)


def _check_offer(private: PrivateApt, fields: Mapping[str, str]) -> None:
    """BuildError for what a Release does not list: apt takes the rest of it with a warning."""
    repo, where = private.repo, private.where
    components = fields.get("Components", "").split()
    # Security archives of old list updates/main for main.
    known = {*components, *(name.rpartition("/")[2] for name in components)}
    lacking = [name for name in repo.components if name not in known]
    if components and lacking:
        raise RepositoryFault(
            f"{where}.section: it has no component {lacking[0]!r}",
            f"it has {', '.join(components)}",
        )
    arches = fields.get("Architectures", "").split()
    if arches and not {*private.arches, "all"} & set(arches):
        raise RepositoryFault(
            f"{where}: it has no packages for {private.spec.arch}", f"it has {', '.join(arches)}"
        )


def kept_snapshots(spec: Spec, builder: Builder, lock: Lock) -> list[Snapshot] | None:
    """The snapshots that a lock was made from, if all of them are still in the cache."""
    found: list[Snapshot] = []
    by_name = {repo.name: repo for repo in lock.repos}
    for repo in spec.repos:
        was = by_name.get(repo.name)
        if was is None:
            return None
        private = PrivateApt(spec=spec, builder=builder, repo=repo)
        folder = builder.cache.index / f"snapshot-{private.live_id}-{was.release[:32]}"
        if not folder.exists() or broken(folder):
            return None
        release = next((path for path in sorted(folder.glob("*Release"))), None)
        fields = deb822.release_fields(release.read_text("utf-8", "replace")) if release else {}
        found.append(Snapshot(repo=repo, folder=folder, release=was.release, fields=fields))
    return found
