"""Repositories → snapshots: ask each whether it changed, verify it, keep its indexes.

repos ──→ apt-get update, each in an apt of its own ──→ cache/index/live-* ──→ snapshot-*
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from tasks import apt, complaint, debs, host, inputs, rollback, safe
from tasks.cache import broken, read_sha256, seal, sealed
from tasks.errors import BuildError, DamagedEntry, NoRoom
from tasks.lockfile import Lock, LockedRepo, Record
from tasks.plan import key
from tasks.session import Session
from tasks.spec import Repo, masked

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


def _live_id(repo: Repo, uri: str, arches: Sequence[str], keyrings: Sequence[Path]) -> str:
    """Names apt's own state for a repository: another address, keyring or rule starts anew."""
    digests = [inputs.file_digest(path) for path in keyrings]
    return key([apt.without_user(uri), repo.suite, repo.section, list(arches), digests,
                repo.trusted, repo.check_valid_until])[:16]  # fmt: skip


def ask(
    session: Session, repo: Repo, uri: str, log: host.Log, was: LockedRepo | None = None
) -> Snapshot:
    """One conditional request for the repository's Release, and its indexes if that changed.

    apt verifies the signature and Valid-Until each time, also when nothing was sent; `was` is the
    lock's record, behind which it may not go. Raises BuildError that says what is wrong with the
    repository and what to do.
    """
    arches = [session.spec.arch, *session.spec.foreign]
    keyrings = inputs.keyring_files(repo, session.spec)
    live_id = _live_id(repo, uri, arches, keyrings)
    index = session.cache.index
    with host.locked(index / f".{live_id}.lock", waiting=log.step):
        lists = index / f"live-{live_id}"
        try:
            return _asked(session, repo, uri, live_id, keyrings, log, was)
        except NoRoom:
            raise
        except BuildError as error:
            # apt believes what it has; where that has rotted, the repository is not to blame.
            if not isinstance(error, DamagedEntry) and not (
                repo.check_rollback and _rotten(session, live_id)
            ):
                raise
        log.step(f"repository {repo.name}: its lists in the cache are damaged; fetching them again")
        host.remove_tree(lists)
        return _asked(session, repo, uri, live_id, keyrings, log, was)


def _asked(
    session: Session, repo: Repo, uri: str, live_id: str, keyrings: Sequence[Path], log: host.Log,
    was: LockedRepo | None,
) -> Snapshot:  # fmt: skip
    folder = session.scratch / f"repo-{live_id}-{repo.name}"
    if not repo.check_rollback:
        # apt keeps the newer of the Release that it has and the one that comes, and says nothing.
        host.remove_tree(session.cache.index / f"live-{live_id}")
    lists = session.cache.lists(live_id)
    _private_apt(session, folder, lists, repo, uri, keyrings)

    def update() -> None:
        host.run(
            ["apt-get", "update", "--error-on=any"],
            # apt is ended by SIGKILL: what it has for gpgv must not be left in /tmp.
            log=log, env={"APT_CONFIG": str(folder / "apt.conf"), "TMPDIR": str(folder)},
            what="asking",
        )  # fmt: skip

    problem: BuildError | None = None
    tries = debs.retries()
    try:
        debs.patiently(update, log, f"repository {repo.name}", tries=tries, changing=True)
    except NoRoom:
        raise
    except BuildError as error:
        problem = _explained(session, repo, uri, error, lists, folder / "trusted.gpg.d")
    finally:
        for path in (lists / "partial").iterdir():
            path.unlink(missing_ok=True)
    if problem is not None:
        raise problem
    return _snapshot(session, repo, uri, live_id, lists, was, folder, log)


def _rotten(session: Session, live_id: str) -> bool:
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


def drop_broken(session: Session, snapshots: Sequence[Snapshot], log: host.Log) -> bool:
    """Read snapshots that are about to be resolved from; drop those that are not whole any more.

    Returns whether there was one: then all repositories must be asked again.
    """
    bad = [snapshot for snapshot in snapshots if broken(snapshot.folder)]
    for snapshot in bad:
        log.step(f"repository {snapshot.repo.name}: its indexes in the cache are damaged")
        live_id = snapshot.folder.name.split("-")[1]
        with host.locked(session.cache.index / f".{live_id}.lock", waiting=log.step):
            session.cache.drop_index(snapshot.folder)
    return bool(bad)


def _private_apt(
    session: Session, folder: Path, lists: Path, repo: Repo, uri: str, keyrings: Sequence[Path]
) -> None:
    """Write the configuration of an apt that knows one repository and the keys that may sign it."""
    spec = session.spec
    trusted = folder / "trusted.gpg.d"
    for path in (trusted, folder / "cache"):
        path.mkdir(parents=True, exist_ok=True)
    for number, keyring in enumerate(keyrings):
        (trusted / f"{number}.gpg").write_bytes(inputs.keys_of(keyring, repo, spec))
    (folder / "status").touch()
    for name, text in (
        ("apt.sources", apt.source(apt.source_uri(uri), repo.suite, repo.components,
                                   trusted=repo.trusted)),
        ("auth.conf", apt.auth_conf([uri])),
        ("apt.conf", apt.configuration(
            str(folder), arch=spec.arch, foreign=spec.foreign, lists=str(lists),
            proxies=spec.proxies, direct=spec.direct, timeout=debs.timeout(),
            options={
                "Acquire::Check-Valid-Until": "true" if repo.check_valid_until else "false",
                # A Release may have SHA-512 alone; what is weaker than SHA-256 apt does not take.
                "Acquire::ForceHash": "",
                # Nobody resolves from here: the cache would take longer than all the rest.
                "pkgCacheFile::Generate": "false",
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
                "Acquire::AllowInsecureRepositories": "false",
                "Acquire::AllowDowngradeToInsecureRepositories": "false",
                # One `Origin` or `Suite` for another is what a change of the spec's lock shows.
                "Acquire::AllowReleaseInfoChange": "true",
            },
        )),
    ):  # fmt: skip
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text, encoding="utf-8")


def _explained(
    session: Session, repo: Repo, uri: str, error: BuildError, lists: Path, trusted: Path
) -> BuildError:
    """apt's complaint about a repository as one sentence and what to do."""
    text = session.mask(error.message)
    told = text.replace(apt.without_user(uri), "")  # which may have a 404 in its name
    files: dict[str, bytes] = {}
    for path in sorted((lists / "partial").glob("*Release*")):
        with path.open("rb") as file:
            files[path.name] = file.read(complaint.BEGINNING)
    variable = re.search(r"\$\{(\w+)\}", repo.uri)
    name = variable[1] if variable else ""
    given = ""
    if session.variables.get(name):
        given = f"{name}="
    elif name and os.environ.get(f"STRATA_{name.upper()}"):
        given = f"STRATA_{name.upper()}"
    cause, hint = complaint.explained(
        repo, told, files, _gpgv_status(lists / "partial", files, trusted), given
    )
    lines = [line for line in text.splitlines() if re.search(r"\b[EW]: |Err:|Redirection", line)]
    detail = "\n".join("    " + line.strip() for line in lines[:4])
    where = f"{masked(uri)} {repo.suite}"
    return BuildError(
        f"{session.spec.path}: repos.{repo.name} ({where}): {cause}\n{detail}".rstrip(), hint
    )


def _gpgv_status(partial: Path, names: Iterable[str], trusted: Path) -> str:
    """gpgv's status lines of the Release that apt did not believe; "" without gpgv."""
    by_end = {name.removesuffix(".FAILED").rpartition("_")[2]: name for name in names}
    signed = ["InRelease"] if "InRelease" in by_end else ["Release.gpg", "Release"]
    if not by_end.keys() >= set(signed):
        return ""
    keyrings = [word for path in sorted(trusted.iterdir()) for word in ("--keyring", str(path))]
    try:
        _code, status, _err = host.capture(
            [
                "gpgv",
                "--status-fd",
                "1",
                *keyrings,
                *(str(partial / by_end[name]) for name in signed),
            ]
        )
    except BuildError:
        return ""
    return status


def _snapshot(
    session: Session, repo: Repo, uri: str, live_id: str, lists: Path, was: LockedRepo | None,
    scratch: Path, log: host.Log,
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
    fields = apt.release_fields(release.read_text("utf-8", "replace")) if release else {}
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
        host.remove_tree(temporary)
        temporary.mkdir()
        try:
            for name, path in files.items():
                safe.link_or_copy(path, temporary / name)
            if release is not None:
                _only_compressed(session, repo, uri, release, temporary, scratch, log)
            seal(temporary)
            temporary.rename(folder)
        except BuildError:
            host.remove_tree(temporary)
            raise
        except OSError as error:
            told = session.explained(error, f"keeping the indexes of {repo.name}")
            host.remove_tree(temporary)
            raise told from error
    os.utime(folder)
    kept = sorted(session.cache.index.glob(f"snapshot-{live_id}-*"), key=os.path.getmtime)
    for old in kept[:-SNAPSHOTS_KEPT]:
        host.remove_tree(old)
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
    _package, keyring = inputs.ARCHIVES.get(fields.get("Origin", ""), ("", ""))
    path = Path("/usr/share/keyrings") / keyring
    spec = session.spec
    if (repo.keyring is not None or repo.trusted or not spec.settings.apt_sources
            or not keyring or not path.is_file()):  # fmt: skip
        return
    detached = [] if release.name.endswith("InRelease") else [f"{release}.gpg"]
    status = host.capture(
        ["gpgv", "--status-fd", "1", "--keyring", str(path), *detached, str(release)]
    )[1]
    if "[GNUPG:] VALIDSIG " not in status:
        raise BuildError(
            f"{spec.path}: apt_sources: repos.{repo.name}: this host verifies it with a key that "
            f"is not in {path}, so the image could not",
            f"name the keyring that verifies it in repos.{repo.name}.keyring",
        )


def _only_compressed(
    session: Session, repo: Repo, uri: str, release: Path, target: Path, scratch: Path,
    log: host.Log,
) -> None:  # fmt: skip
    """Fetch what a Release lists in compressed forms alone, and put it beside apt's lists."""
    text = release.read_text("utf-8", "replace")
    sums = apt.release_sums(text)
    by_hash = apt.release_fields(text).get("Acquire-By-Hash", "").lower() == "yes"
    arches = ["all", session.spec.arch, *session.spec.foreign]
    suite = repo.suite.strip("/") if repo.flat else f"dists/{repo.suite}"
    for path, name in apt.only_compressed(sums, repo.components, arches).items():
        file = path
        if by_hash:  # an archive may have no other, or one that is replaced meanwhile
            folder = path.rpartition("/")[0]
            file = f"{folder}/by-hash/{sums[path].algorithm}/{sums[path].digest}".lstrip("/")
        place = "/".join(part for part in (suite, file) if part and part != ".")
        came = scratch / ("index" + path[len(name) :])
        try:
            debs.patiently(
                partial(_fetch_index, session, uri, place, sums[path], came, scratch, log), log,
                f"repository {repo.name}", tries=debs.retries(), changing=True,
            )  # fmt: skip
        except NoRoom:
            raise
        except BuildError as error:
            lists = session.cache.index / target.name.replace(".new-", "live-")
            raise _explained(session, repo, uri, error, lists, scratch / "trusted.gpg.d") from error
        before = release.name.removeprefix(apt.list_name(uri) + "_")
        before = before.removesuffix("Release").removesuffix("In")
        (target / (before + apt.list_name(name))).write_bytes(_unpacked(came, path, repo))
        came.unlink()


def _fetch_index(
    session: Session, uri: str, place: str, sum_: apt.Sum, came: Path, scratch: Path,
    log: host.Log,
) -> None:  # fmt: skip
    """Fetch one file of a repository; BuildError with apt's words unless it has this digest."""
    if apt.source_uri(uri) == apt.without_user(uri):
        host.run(
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
        timeout=debs.timeout(), options={"Acquire::ForceHash": ""},
    ))):  # fmt: skip
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text, encoding="utf-8")
    # To apt it is a package like another.
    record = Record(package="index", version="1", architecture=spec.arch, sha256=sum_.digest,
                    size=sum_.size, path=place, repository="")  # fmt: skip
    debs.by_source(uri, [record], {sum_.digest: came}, folder, log, sum_.algorithm)


def _unpacked(path: Path, name: str, repo: Repo) -> bytes:
    """The bytes of a compressed index, by its name's ending, which is also the path's."""
    import bz2
    import gzip
    import lzma

    data = path.read_bytes()
    try:
        if name.endswith((".zst", ".lz4")):
            code, data, err = host.filtered(["apt-helper", "cat-file", str(path)], None)
            if code:
                raise ValueError(err.strip())
            return data
        unpack = {"gz": gzip.decompress, "bz2": bz2.decompress}
        return unpack.get(name.rpartition(".")[2], lzma.decompress)(data)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise BuildError(f"repository {repo.name}: {name} cannot be unpacked: {error}") from error


def _check_sums(repo: Repo, files: Mapping[str, Path], release: Path | None) -> None:
    """DamagedEntry unless lists are what their Release says.

    apt compares only what it fetches: a list that did not change stays as the disk has it.
    """
    if release is None:
        return
    before = next(name for name, path in files.items() if path == release)
    before = before.removesuffix("Release").removesuffix("In")
    for name, said in apt.release_sums(release.read_text("utf-8", "replace")).items():
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
        raise BuildError(f"{where}.section: it has no component {lacking[0]!r}",
                         f"it has {', '.join(components)}")  # fmt: skip
    arches = fields.get("Architectures", "").split()
    if arches and not {session.spec.arch, *session.spec.foreign, "all"} & set(arches):
        raise BuildError(f"{where}: it has no packages for {session.spec.arch}",
                         f"it has {', '.join(arches)}")  # fmt: skip


def ask_all(session: Session, log: host.Log, lock: Lock | None = None) -> list[Snapshot]:
    """Ask every repository, at once; the first failure in the spec's order is the one raised."""
    uris = session.uris
    repos = session.spec.repos
    was = rollback.before(repos, lock.repos if lock else ())
    host.apt_tool("apt-get")
    log.step(f"asking {len(repos)} repositories")
    with ThreadPoolExecutor(max_workers=len(repos)) as pool:
        futures = [pool.submit(ask, session, repo, uris[repo.name], log, was.get(repo.name))
                   for repo in repos]  # fmt: skip
        return [future.result() for future in futures]


def kept_snapshots(session: Session, lock: Lock) -> list[Snapshot] | None:
    """The snapshots that a lock was made from, if all of them are still in the cache."""
    found: list[Snapshot] = []
    by_name = {repo.name: repo for repo in lock.repos}
    arches = [session.spec.arch, *session.spec.foreign]
    for repo in session.spec.repos:
        was = by_name.get(repo.name)
        if was is None:
            return None
        live_id = _live_id(repo, session.uris[repo.name], arches,
                           inputs.keyring_files(repo, session.spec))  # fmt: skip
        folder = session.cache.index / f"snapshot-{live_id}-{was.release[:32]}"
        if not folder.exists() or broken(folder):
            return None
        release = next((path for path in sorted(folder.glob("*Release"))), None)
        fields = apt.release_fields(release.read_text("utf-8", "replace")) if release else {}
        found.append(Snapshot(repo=repo, folder=folder, release=was.release, fields=fields))
    return found
