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

from ..debian import apt, deb822
from ..errors import BuildError, CommandFailed, DamagedEntry, RepositoryFault
from ..host import safe
from ..host.files import read_sha256, remove_tree
from ..host.locks import locked
from ..host.log import Log
from ..host.process import capture, filtered, run
from ..plan.entries import file_digest
from ..plan.keys import key
from ..plan.lockfile import Lock, LockedRepo, Record
from ..plan.repositories import ARCHIVES, keyring_files
from ..session.session import Session
from ..spec.model import Repo, masked
from ..store.digests import broken, seal, sealed
from . import rollback
from .complaint import refusal
from .fetch import by_source
from .retry import patiently, retries, timeout

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
            one for one in self.repo.components
            if not any(f"_{apt.list_name(one)}_binary-" in name for name in names)
        )  # fmt: skip

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


def live_id_of(repo: Repo, uri: str, arches: Sequence[str], keyrings: Sequence[Path]) -> str:
    """Names apt's own state for a repository: another address, keyring or rule starts anew."""
    digests = [file_digest(path) for path in keyrings]
    return key([apt.without_user(uri), repo.suite, repo.section, list(arches), digests,
                repo.trusted, repo.check_valid_until])[:16]  # fmt: skip


def rotten(session: Session, live_id: str) -> bool:
    """Whether apt's lists are not those of the newest snapshot; broken snapshots are dropped."""
    kept = sorted(session.cache.index.glob(f"snapshot-{live_id}-*"), key=os.path.getmtime)
    bad = [folder for folder in kept if broken(folder)]
    for folder in bad:
        session.cache.drop_index(folder)
    if bad or not kept:
        return bool(bad)
    lists = session.cache.index / f"live-{live_id}"
    try:
        known = set(sealed(kept[-1]).values())
        # A snapshot may have more: see _only_compressed. What a link leads to is not the cache's.
        return not known >= {read_sha256(path) for path in lists.iterdir()
                             if path.name not in APTS_OWN and not path.is_symlink()}  # fmt: skip
    except (OSError, ValueError):
        return True


def drop_broken(session: Session, snapshots: Sequence[Snapshot], log: Log) -> bool:
    """Read snapshots that are about to be resolved from; drop those that are not whole any more.

    Returns whether there was one: then all repositories must be asked again.
    """
    bad = [snapshot for snapshot in snapshots if broken(snapshot.folder)]
    for snapshot in bad:
        log.step(f"repository {snapshot.repo.name}: its indexes in the cache are damaged")
        live_id = snapshot.folder.name.split("-")[1]
        with locked(session.cache.index / f".{live_id}.lock", waiting=log.step):
            session.cache.drop_index(snapshot.folder)
    return bool(bad)


def keep_snapshot(
    session: Session, repo: Repo, uri: str, live_id: str, lists: Path, was: LockedRepo | None,
    scratch: Path, log: Log,
) -> Snapshot:  # fmt: skip
    """Link apt's verified lists into an immutable folder named after the Release's digest."""
    prefix = apt.list_name(apt.without_user(uri)) + "_"
    for path in lists.iterdir():
        if not path.is_file() and path.name not in APTS_OWN:
            raise DamagedEntry(f"repository {repo.name}: {path} is no file", f"remove {lists}")
    files = {
        path.name[len(prefix) :]: path
        for path in lists.iterdir()
        if path.name.startswith(prefix) and path.is_file()
    }
    try:
        _copy_linked(files, uri, scratch)
    except OSError as error:
        raise session.explained(error, f"keeping the indexes of {repo.name}") from error
    release = next((path for name, path in sorted(files.items()) if name.endswith("Release")), None)
    if release is not None:
        # If-Modified-Since counts whole seconds: a Release that is hardly older than our request
        # may yet be replaced within its second, so the next request must not name that second.
        info = release.stat()
        if time.time() - info.st_mtime < 3:
            os.utime(release, (info.st_atime, info.st_mtime - 3))
    fields = deb822.release_fields(release.read_text("utf-8", "replace")) if release else {}
    if was is not None:
        rollback.check(repo, was, fields, f"{session.spec.path}: repos.{repo.name} ({masked(uri)})",
                       keeping=session.lock_mode == "keep")  # fmt: skip
    if release is not None:
        _check_signer(session, repo, release, fields)
    packages = sorted(name for name in files if name.endswith("Packages"))
    marks = [release] if release else [files[name] for name in packages]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in marks)).hexdigest()
    folder = session.cache.index / f"snapshot-{live_id}-{digest[:32]}"
    if not folder.exists():
        _check_sums(repo, files, release)
        temporary = session.cache.index / f".new-{live_id}"
        remove_tree(temporary)
        temporary.mkdir()
        try:
            for name, path in files.items():
                safe.link_or_copy(path, temporary / name)
            if release is not None:
                _only_compressed(session, repo, uri, release, temporary, scratch, log)
            seal(temporary)
            temporary.rename(folder)
        except BuildError:
            remove_tree(temporary)
            raise
        except OSError as error:
            told = session.explained(error, f"keeping the indexes of {repo.name}")
            remove_tree(temporary)
            raise told from error
    os.utime(folder)
    kept = sorted(session.cache.index.glob(f"snapshot-{live_id}-*"), key=os.path.getmtime)
    for old in kept[:-SNAPSHOTS_KEPT]:
        remove_tree(old)
    _check_offer(session, repo, fields)
    return Snapshot(repo=repo, folder=folder, release=digest, fields=fields)


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


def _check_signer(session: Session, repo: Repo, release: Path, fields: Mapping[str, str]) -> None:
    """BuildError unless the keyring that the image will name is one that verifies this Release.

    A mirror may have signed an archive's Release anew, with a key that only this host knows.
    """
    _package, keyring = ARCHIVES.get(fields.get("Origin", ""), ("", ""))
    path = Path("/usr/share/keyrings") / keyring
    spec = session.spec
    if (repo.keyring is not None or repo.trusted or not spec.settings.apt_sources
            or not keyring or not path.is_file()):  # fmt: skip
        return
    detached = [] if release.name.endswith("InRelease") else [f"{release}.gpg"]
    status = capture(["gpgv", "--status-fd", "1", "--keyring", str(path), *detached, str(release)])[
        1
    ]
    if "[GNUPG:] VALIDSIG " not in status:
        raise RepositoryFault(
            f"{spec.path}: apt_sources: repos.{repo.name}: this host verifies it with a key that "
            f"is not in {path}, so the image could not",
            f"name the keyring that verifies it in repos.{repo.name}.keyring",
        )


def _only_compressed(
    session: Session, repo: Repo, uri: str, release: Path, target: Path, scratch: Path,
    log: Log,
) -> None:  # fmt: skip
    """Fetch what a Release lists in compressed forms alone, and put it beside apt's lists."""
    text = release.read_text("utf-8", "replace")
    sums = deb822.release_sums(text)
    by_hash = deb822.release_fields(text).get("Acquire-By-Hash", "").lower() == "yes"
    arches = ["all", session.spec.arch, *session.spec.foreign]
    suite = repo.suite.strip("/") if repo.flat else f"dists/{repo.suite}"
    for path, name in deb822.only_compressed(sums, repo.components, arches).items():
        file = path
        if by_hash:  # an archive may have no other, or one that is replaced meanwhile
            folder = path.rpartition("/")[0]
            file = f"{folder}/by-hash/{sums[path].algorithm}/{sums[path].digest}".lstrip("/")
        place = "/".join(part for part in (suite, file) if part and part != ".")
        came = scratch / ("index" + path[len(name) :])
        try:
            patiently(
                partial(_fetch_index, session, uri, place, sums[path], came, scratch, log), log,
                f"repository {repo.name}", tries=retries(), changing=True,
            )  # fmt: skip
        except CommandFailed as error:
            lists = session.cache.index / target.name.replace(".new-", "live-")
            raise refusal(session, repo, uri, error, lists, scratch / "trusted.gpg.d") from error
        before = release.name.removeprefix(apt.list_name(uri) + "_")
        before = before.removesuffix("Release").removesuffix("In")
        (target / (before + apt.list_name(name))).write_bytes(_unpacked(came, path, repo))
        came.unlink()


def _fetch_index(
    session: Session, uri: str, place: str, sum_: deb822.Sum, came: Path, scratch: Path,
    log: Log,
) -> None:  # fmt: skip
    """Fetch one file of a repository; BuildError with apt's words unless it has this digest."""
    if apt.source_uri(uri) == apt.without_user(uri):
        run(
            ["apt-helper", "download-file", f"{apt.without_user(uri)}/{place}", str(came),
             str(sum_)],
            log=log, env={"APT_CONFIG": str(scratch / "apt.conf"), "TMPDIR": str(scratch)},
            cwd=scratch, what="fetching an index",
        )  # fmt: skip
        return
    folder = scratch / "source"
    folder.mkdir(exist_ok=True)
    spec = session.spec
    for name, text in (("auth.conf", ""), ("apt.conf", apt.configuration(
        str(folder), arch=spec.arch, proxies=spec.proxies, direct=spec.direct,
        timeout=timeout(), options={"Acquire::ForceHash": ""},
    ))):  # fmt: skip
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text, encoding="utf-8")
    # To apt it is a package like another.
    record = Record(package="index", version="1", architecture=spec.arch, sha256=sum_.digest,
                    size=sum_.size, path=place, repository="")  # fmt: skip
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
            raise DamagedEntry(f"repository {repo.name}: {path} is not what its Release says",
                               f"remove {path.parent}")  # fmt: skip


def _digest(path: Path, algorithm: str) -> str:
    if algorithm == "SHA256":
        return read_sha256(path)
    digest = hashlib.new(algorithm.lower())
    with open(safe.reading(path), "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _check_offer(session: Session, repo: Repo, fields: Mapping[str, str]) -> None:
    """BuildError for what a Release does not list: apt takes the rest of it with a warning."""
    where = f"{session.spec.path}: repos.{repo.name}"
    components = fields.get("Components", "").split()
    # Security archives of old list updates/main for main.
    known = {*components, *(name.rpartition("/")[2] for name in components)}
    lacking = [name for name in repo.components if name not in known]
    if components and lacking:
        raise RepositoryFault(f"{where}.section: it has no component {lacking[0]!r}",
                         f"it has {', '.join(components)}")  # fmt: skip
    arches = fields.get("Architectures", "").split()
    if arches and not {session.spec.arch, *session.spec.foreign, "all"} & set(arches):
        raise RepositoryFault(f"{where}: it has no packages for {session.spec.arch}",
                         f"it has {', '.join(arches)}")  # fmt: skip


def kept_snapshots(session: Session, lock: Lock) -> list[Snapshot] | None:
    """The snapshots that a lock was made from, if all of them are still in the cache."""
    found: list[Snapshot] = []
    by_name = {repo.name: repo for repo in lock.repos}
    arches = [session.spec.arch, *session.spec.foreign]
    for repo in session.spec.repos:
        was = by_name.get(repo.name)
        if was is None:
            return None
        live_id = live_id_of(repo, session.uris[repo.name], arches,
                           keyring_files(repo, session.spec))  # fmt: skip
        folder = session.cache.index / f"snapshot-{live_id}-{was.release[:32]}"
        if not folder.exists() or broken(folder):
            return None
        release = next((path for path in sorted(folder.glob("*Release"))), None)
        fields = deb822.release_fields(release.read_text("utf-8", "replace")) if release else {}
        found.append(Snapshot(repo=repo, folder=folder, release=was.release, fields=fields))
    return found
