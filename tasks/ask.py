"""Repositories → snapshots: ask each whether it changed, verify it, keep its indexes.

repos ──→ apt-get update, each in an apt of its own ──→ cache/index/live-* ──→ snapshot-*
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tasks import apt, debs, host, inputs
from tasks.cache import broken, read_sha256, seal, sealed
from tasks.errors import BuildError, DamagedEntry, NoRoom
from tasks.lockfile import Lock, LockedRepo
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


def ask(session: Session, repo: Repo, uri: str, log: host.Log) -> Snapshot:
    """One conditional request for the repository's Release, and its indexes if that changed.

    apt verifies the signature and Valid-Until each time, also when nothing was sent. Raises
    BuildError that says what is wrong with the repository and what to do.
    """
    arches = [session.spec.arch, *session.spec.foreign]
    keyrings = inputs.keyring_files(repo, session.spec)
    live_id = _live_id(repo, uri, arches, keyrings)
    index = session.cache.index
    with host.locked(index / f".{live_id}.lock", waiting=log.step):
        lists = index / f"live-{live_id}"
        try:
            return _asked(session, repo, uri, live_id, keyrings, log)
        except NoRoom:
            raise
        except BuildError as error:
            # apt believes what it has; where that has rotted, the repository is not to blame.
            if not isinstance(error, DamagedEntry) and not _rotten(session, live_id):
                raise
        log.step(f"repository {repo.name}: its lists in the cache are damaged; fetching them again")
        host.remove_tree(lists)
        return _asked(session, repo, uri, live_id, keyrings, log)


def _asked(
    session: Session, repo: Repo, uri: str, live_id: str, keyrings: Sequence[Path], log: host.Log
) -> Snapshot:
    folder = session.scratch / f"repo-{live_id}-{repo.name}"
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
        problem = _explained(session, repo, uri, error)
    finally:
        for path in (lists / "partial").iterdir():
            path.unlink(missing_ok=True)
    if problem is not None:
        raise problem
    return _snapshot(session, repo, uri, live_id, lists)


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
        return known != {read_sha256(path) for path in lists.iterdir()
                         if path.name not in APTS_OWN}  # fmt: skip
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
        content = keyring.read_bytes()
        armored = b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in content[:4096]
        (trusted / f"{number}.{'asc' if armored else 'gpg'}").write_bytes(content)
    options = {"trusted": "yes"} if repo.trusted else {}
    (folder / "status").touch()
    (folder / "sources.list").write_text(
        apt.source_line(apt.without_user(uri), repo.suite, repo.components, options=options)
    )
    for name, text in (
        ("auth.conf", apt.auth_conf([uri])),
        ("apt.conf", apt.configuration(
            str(folder), arch=spec.arch, foreign=spec.foreign, lists=str(lists),
            proxies=spec.proxies, direct=spec.direct, timeout=debs.timeout(),
            options={
                "Acquire::Check-Valid-Until": "true" if repo.check_valid_until else "false",
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


_CAUSES = (
    (r"required for verification", "this host has nothing to check its signature with",
     "apt-get install gpgv"),
    (r"NO_PUBKEY|not signed by a trusted key|public key is not available|Missing key",
     "it is signed with a key that is not in its keyring",
     "name its keyring in repos.{name}.keyring"),
    (r"is not valid yet", "its Release is dated in the future", "check this host's clock"),
    (r"is expired|EXPIRED|no longer valid|invalid for another|Valid-Until",
     "its Release has expired (Valid-Until)",
     "use another mirror; for an archived snapshot set repos.{name}.check_valid_until: false"),
    (r"EXPKEYSIG|REVKEYSIG", "it is signed with an expired or revoked key", "update its keyring"),
    (r"BADSIG|invalid signature|Clearsigned file isn't valid|NOSPLIT|signatures were invalid",
     "its signature is bad", "somebody or something changed it on the way: use another mirror"),
    (r"  407  |from proxy|Proxy", "the proxy refuses or fails", "check proxies in the spec"),
    (r"  40[13]  ", "it refuses access", "check the user and password in its uri"),
    (r"Could not resolve|Could not connect|Connection (failed|refused|timed out)|Unable to connect|"
     r"Cannot initiate|No route|Network is unreachable|timed out|  5\d\d  |"
     r"Undetermined Error|Connection reset|Remote end closed|Bad header",
     "it does not answer", "check its uri, suite and the network"),
    (r"Redirection loop", "it redirects in a circle", "use another mirror"),
    (r"does not have a Release file", "it has no Release file",
     "check its uri and suite; if it really has none, set repos.{name}.trusted: true"),
    (r"is not signed|is no longer signed", "it is not signed",
     "if you trust what it holds, set repos.{name}.trusted: true"),
    (r"Hash Sum mismatch|unexpected size|Mirror sync in progress|inconsistent",
     "its indexes do not fit its Release: it is changing just now", "try again in some minutes"),
    (r"doesn't have the component|misspelled|Unable to find expected entry",
     "it has no such component or architecture", "check repos.{name}.section and arch"),
    (r"  404  |File not found", "it has no such file", "check its uri, suite and section"),
)  # fmt: skip


def _explained(session: Session, repo: Repo, uri: str, error: BuildError) -> BuildError:
    """apt's complaint about a repository as one sentence and what to do."""
    text = session.mask(error.message)
    told = text.replace(apt.without_user(uri), "")  # which may have a 404 in its name
    cause, hint = "apt cannot read it", ""
    for pattern, found, advice in _CAUSES:
        if re.search(pattern, told):
            cause, hint = found, advice.format(name=repo.name)
            break
    lines = [line for line in text.splitlines() if re.search(r"\b[EW]: |Err:|Redirection", line)]
    detail = "\n".join("    " + line.strip() for line in lines[:4])
    where = f"{masked(uri)} {repo.suite}"
    return BuildError(
        f"{session.spec.path}: repos.{repo.name} ({where}): {cause}\n{detail}".rstrip(), hint
    )


def _snapshot(session: Session, repo: Repo, uri: str, live_id: str, lists: Path) -> Snapshot:
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
    release = next((path for name, path in sorted(files.items()) if name.endswith("Release")), None)
    if release is not None:
        # If-Modified-Since counts whole seconds: a Release that is hardly older than our request
        # may yet be replaced within its second, so the next request must not name that second.
        info = release.stat()
        if time.time() - info.st_mtime < 3:
            os.utime(release, (info.st_atime, info.st_mtime - 3))
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
                os.link(path, temporary / name)
            seal(temporary)
            temporary.rename(folder)
        except OSError as error:
            told = session.explained(error, f"keeping the indexes of {repo.name}")
            host.remove_tree(temporary)
            raise told from error
    os.utime(folder)
    kept = sorted(session.cache.index.glob(f"snapshot-{live_id}-*"), key=os.path.getmtime)
    for old in kept[:-SNAPSHOTS_KEPT]:
        host.remove_tree(old)
    fields = apt.release_fields(release.read_text("utf-8", "replace")) if release else {}
    _check_offer(session, repo, fields)
    return Snapshot(repo=repo, folder=folder, release=digest, fields=fields)


def _check_sums(repo: Repo, files: Mapping[str, Path], release: Path | None) -> None:
    """DamagedEntry unless lists are what their Release says.

    apt compares only what it fetches: a list that did not change stays as the disk has it.
    """
    if release is None:
        return
    before = next(name for name, path in files.items() if path == release)
    before = before.removesuffix("Release").removesuffix("In")
    for name, sha256 in apt.release_sums(release.read_text("utf-8", "replace")).items():
        path = files.get(before + apt.list_name(name))
        if path is not None and read_sha256(path) != sha256:
            raise DamagedEntry(f"repository {repo.name}: {path} is not what its Release says",
                               f"remove {path.parent}")  # fmt: skip


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


def ask_all(session: Session, log: host.Log) -> list[Snapshot]:
    """Ask every repository, at once; the first failure in the spec's order is the one raised."""
    uris = session.uris
    repos = session.spec.repos
    host.apt_tool("apt-get")
    log.step(f"asking {len(repos)} repositories")
    with ThreadPoolExecutor(max_workers=len(repos)) as pool:
        futures = [pool.submit(ask, session, repo, uris[repo.name], log) for repo in repos]
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
