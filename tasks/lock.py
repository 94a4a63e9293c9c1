"""Repositories → lock: ask each whether it changed, verify it, resolve the closure with apt itself.

repos ──→ apt-get update, each in an apt of its own ──→ snapshots in cache/index/
                                                         │
spec ──→ one private apt with all snapshots ──→ base, then each layer on it ──→ specs/NAME.lock
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tasks import apt, host, inputs, lockfile
from tasks.errors import BuildError
from tasks.lockfile import Lock, LockedLayer, LockedRepo, Record
from tasks.plan import key, resolution_inputs
from tasks.session import Session
from tasks.spec import Repo, masked

SNAPSHOTS_KEPT = 3
"""Of each repository; lock=keep resolves from the one that the lock names, if it is still here."""
PINNED = 1001


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
    index.mkdir(parents=True, exist_ok=True)
    folder = session.scratch / f"repo-{live_id}-{repo.name}"
    with host.locked(index / f".{live_id}.lock", waiting=log.step):
        lists = index / f"live-{live_id}"
        _private_apt(session, folder, lists, repo, uri, keyrings)
        problem: BuildError | None = None
        try:
            host.run(
                ["apt-get", "update", "--error-on=any"],
                log=log, env={"APT_CONFIG": str(folder / "apt.conf")}, what="asking",
            )  # fmt: skip
        except BuildError as error:
            problem = _explained(session, repo, uri, error)
        if problem is not None:
            raise problem
        return _snapshot(session, repo, uri, live_id, lists)


def _private_apt(
    session: Session, folder: Path, lists: Path, repo: Repo, uri: str, keyrings: Sequence[Path]
) -> None:
    """Write the configuration of an apt that knows one repository and the keys that may sign it."""
    spec = session.spec
    trusted = folder / "trusted.gpg.d"
    for path in (trusted, folder / "cache", lists / "partial"):
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
            proxies=spec.proxies, direct=spec.direct,
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
    lines = [line for line in text.splitlines() if re.search(r"\b[EW]: |Err:", line)]
    detail = "\n".join("    " + line.strip() for line in lines[:4])
    where = f"{masked(uri)} {repo.suite}"
    return BuildError(
        f"{session.spec.path}: repos.{repo.name} ({where}): {cause}\n{detail}".rstrip(), hint
    )


def _snapshot(session: Session, repo: Repo, uri: str, live_id: str, lists: Path) -> Snapshot:
    """Link apt's verified lists into an immutable folder named after the Release's digest."""
    prefix = apt.list_name(apt.without_user(uri)) + "_"
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
        temporary = session.cache.index / f".new-{live_id}"
        host.remove_tree(temporary)
        temporary.mkdir()
        for name, path in files.items():
            os.link(path, temporary / name)
        temporary.rename(folder)
    os.utime(folder)
    kept = sorted(session.cache.index.glob(f"snapshot-{live_id}-*"), key=os.path.getmtime)
    for old in kept[:-SNAPSHOTS_KEPT]:
        host.remove_tree(old)
    fields = apt.release_fields(release.read_text("utf-8", "replace")) if release else {}
    _check_offer(session, repo, fields)
    return Snapshot(repo=repo, folder=folder, release=digest, fields=fields)


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
    host.tool("apt-get")
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
        if not folder.exists():
            return None
        release = next((path for path in sorted(folder.glob("*Release"))), None)
        fields = apt.release_fields(release.read_text("utf-8", "replace")) if release else {}
        found.append(Snapshot(repo=repo, folder=folder, release=was.release, fields=fields))
    return found


# ---------------------------------------------------------------- resolving


class Resolver:
    """One private apt that sees all snapshots, each at a site of its own."""

    def __init__(
        self, session: Session, snapshots: Sequence[Snapshot], keep: Lock | None, log: host.Log
    ) -> None:
        self.session = session
        self.spec = session.spec
        self.snapshots = snapshots
        self.log = log
        self.folder = session.scratch / "resolve"
        self.stanzas: dict[str, str] = {}
        for name in ("lists/partial", "cache", "trusted.gpg.d"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        sources = []
        for number, snapshot in enumerate(snapshots):
            repo = snapshot.repo
            sources.append(apt.source_line(apt.site(number), repo.suite, repo.components,
                                           options={"trusted": "yes"}))  # fmt: skip
            for path in snapshot.folder.iterdir():
                link = self.folder / "lists" / f"{apt.list_name(apt.site(number))}_{path.name}"
                link.unlink(missing_ok=True)
                link.symlink_to(path)
        try:
            pins = apt.preferences(
                [(s.repo.name, s.repo.priority, s.fields) for s in snapshots], sites=True
            )
        except BuildError as error:
            raise BuildError(f"{self.spec.path}: {error.message}", error.hint) from error
        if keep is not None:
            pins = "\n".join([
                f"Package: {record.package}:{_native(record, self.spec.arch)}\n"
                f"Pin: version {record.version}\nPin-Priority: {PINNED}\n"
                for record in keep.installed()
            ]) + "\n" + pins  # fmt: skip
        for name, text in (
            ("sources.list", "".join(sources)), ("preferences", pins), ("auth.conf", ""),
            ("apt.conf", apt.configuration(str(self.folder), arch=self.spec.arch,
                                           foreign=self.spec.foreign,
                                           recommends=self.spec.recommends)),
        ):  # fmt: skip
            (self.folder / name).write_text(text, encoding="utf-8")

    def packages_files(self, number: int) -> Iterator[bytes]:
        """The Packages files of one snapshot."""
        for path in sorted(self.snapshots[number].folder.glob("*Packages")):
            yield path.read_bytes()

    def solve(
        self, wanted: Sequence[str], installed: Sequence[Record], where: str
    ) -> tuple[list[Record], list[str]]:
        """(what apt adds, what it removes) to install `wanted` on `installed`."""
        status = apt.installed_status(self.stanzas[record.sha256] for record in installed)
        (self.folder / "status").write_text(status, encoding="utf-8")
        if not wanted:
            return [], []
        code, out, err = host.capture(
            ["apt-get", "--print-uris", "--yes", "--allow-downgrades", "install", *wanted],
            env={"APT_CONFIG": str(self.folder / "apt.conf")},
        )  # fmt: skip
        self.log.line(f"# resolving {where}: {' '.join(wanted)}\n{out}{err}")
        if code:
            raise _unsolvable(where, out, err)
        available, removed = apt.parse_print_uris(out)
        added = sorted(
            Record(
                package=item.package, version=item.version, architecture=item.architecture,
                sha256=item.sha256, size=item.size, path=item.path,
                repository=self.snapshots[item.site].repo.name,
            )
            for item in available
        )  # fmt: skip
        self._read_stanzas(available, where)
        return added, removed

    def _read_stanzas(self, available: Sequence[apt.Available], where: str) -> None:
        for number in {item.site for item in available}:
            wanted = {item.sha256 for item in available if item.site == number}
            for index in self.packages_files(number):
                self.stanzas.update(apt.stanzas_by_sha256(index, wanted - self.stanzas.keys()))
        lost = [item.package for item in available if item.sha256 not in self.stanzas]
        if lost:
            raise BuildError(f"{where}: no index has the stanza of {', '.join(lost[:5])}")

    def base(self) -> list[str]:
        """What the base variant asks for, by the first repository's own indexes."""
        names: set[str] = set()
        for index in self.packages_files(0):
            names |= apt.selected_names(index, self.spec.base.variant, self.spec.arch)
            if self.spec.base.tool == "debootstrap" and b"\nPackage: usr-is-merged\n" in index:
                # bookworm's script asks for it by name, and for usrmerge not to be there.
                names.add("usr-is-merged")
        return sorted(names | set(self.spec.base.include))


def _native(record: Record, arch: str) -> str:
    return arch if record.architecture == "all" else record.architecture


def _unsolvable(where: str, out: str, err: str) -> BuildError:
    """apt's reason, from its explanation on; apt gives it on stdout and the verdict on stderr."""
    lines = out.splitlines()
    start = next((number for number, line in enumerate(lines) if "unmet dependencies" in line
                  or line.endswith("will be REMOVED:")), len(lines))  # fmt: skip
    reason = [line for line in [*lines[start:], *err.splitlines()] if line.strip()]
    text = "\n".join("    " + line for line in reason[:15])
    missing = re.findall(r"Unable to locate package (\S+)|'(\S+)' has no installation candidate|"
                         r"Version '\S+' for '(\S+)' was not found|"
                         r"Release '\S+' for '(\S+)' was not found", err)  # fmt: skip
    names = sorted({name for match in missing for name in match if name})
    if names:
        return BuildError(f"{where}: no repository has {', '.join(names)}:\n{text}",
                          "check the spelling, and that the repository is in repos")  # fmt: skip
    return BuildError(
        f"{where}: apt cannot install these packages together:\n{text}",
        "leave out one of them, or add the repository that has what is missing",
    )


def resolve(
    session: Session, snapshots: Sequence[Snapshot], keep: Lock | None, log: host.Log
) -> Lock:
    """The whole closure, base first, then each layer on what lies below it."""
    spec = session.spec
    resolver = Resolver(session, snapshots, keep, log)
    log.step("resolving base")
    wanted = resolver.base()
    if not wanted:
        raise BuildError(
            f"{spec.path}: base.variant: {spec.repos[0].name} has no package for "
            f"{spec.base.variant!r}", "the first of repos must be the distribution's own"
        )  # fmt: skip
    base, _ = resolver.solve(wanted, [], f"{spec.path}: base")
    lock = Lock(
        inputs=resolution_inputs(spec), arch=spec.arch,
        repos=tuple(snapshot.locked() for snapshot in snapshots), base=tuple(base), layers=(),
    )  # fmt: skip
    for number, layer in enumerate(spec.layers):
        log.step(f"resolving {layer.name}")
        where = f"{spec.path}: " + (
            "packages" if layer.name == "packages" and number == 0 else f"layers.{layer.name}"
        )
        added, removed = resolver.solve(sorted(set(layer.packages)), lock.installed(), where)
        earlier = {
            apt.plain_name(name) for below in spec.layers[:number] for name in below.packages
        }
        lost = sorted(earlier & set(removed) - {apt.plain_name(name) for name in layer.packages})
        if lost:
            raise BuildError(
                f"{where}: apt would remove {', '.join(lost)}, which an earlier layer asks for",
                f"leave one of them out, or list {lost[0]}- here to have it removed",
            )
        locked = LockedLayer(name=layer.name, records=tuple(added), removes=tuple(sorted(removed)))
        lock = Lock(inputs=lock.inputs, arch=lock.arch, repos=lock.repos, base=lock.base,
                    layers=(*lock.layers, locked))  # fmt: skip
    return lock


def update(session: Session) -> None:
    """Bring specs/NAME.lock up to date, as far as `lock=` allows; sets session.locked.

    `latest` asks each repository; the lock is resolved anew only if one of them or the spec
    changed. `keep` asks nothing while the spec is the same. `frozen` never asks.
    """
    spec = session.spec
    mode = session.lock_mode
    old = session.read_lock()
    current = (
        old is not None
        and old.inputs == resolution_inputs(spec)
        # Somebody edited it.
        and [layer.name for layer in old.layers] == [layer.name for layer in spec.layers]
    )
    if mode == "frozen":
        if not current:
            state = "missing" if old is None else "older than the spec"
            raise BuildError(
                f"{session.lock_path}: lock=frozen, and the lock is {state}",
                f"run `doit lock spec={spec.name}` and commit the result",
            )
        return
    if mode == "keep" and current:
        return
    keep = old if mode == "keep" else None
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(session.log("lock.log", "lock"))
        snapshots = kept_snapshots(session, keep) if keep else None
        if snapshots is None:
            snapshots = ask_all(session, log)
            session.locked = "asked"
            if mode == "latest" and current and old is not None and _unchanged(old, snapshots):
                return
        lock = resolve(session, snapshots, keep, log)
        text = lockfile.dump(lock)
        if session.lock_path.exists() and session.lock_path.read_text("utf-8") == text:
            return
        host.write_text(session.lock_path, text)
        session.locked = "written"
        shutil.rmtree(session.scratch / "resolve", ignore_errors=True)


def _unchanged(lock: Lock, snapshots: Sequence[Snapshot]) -> bool:
    return [(repo.name, repo.release) for repo in lock.repos] == [
        (snapshot.repo.name, snapshot.release) for snapshot in snapshots
    ]
