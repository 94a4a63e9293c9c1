"""Repositories → snapshots: ask each whether it changed, verify it, keep its indexes.

repos ──→ apt-get update, each in an apt of its own ──→ cache/index/live-* ──→ snapshot-*
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..debian import apt
from ..errors import CommandFailed, DamagedEntry, RepositoryFault
from ..host.files import remove_tree
from ..host.locks import locked
from ..host.log import Log
from ..host.process import apt_tool, run
from ..plan.lockfile import Lock, LockedRepo
from ..plan.repositories import keyring_files, keys_of
from ..session.session import Session
from ..spec.model import Repo
from . import rollback
from .complaint import refusal
from .retry import patiently, retries, timeout
from .snapshot import Snapshot, keep_snapshot, live_id_of, rotten


def ask(
    session: Session, repo: Repo, uri: str, log: Log, was: LockedRepo | None = None
) -> Snapshot:
    """One conditional request for the repository's Release, and its indexes if that changed.

    apt verifies the signature and Valid-Until each time, also when nothing was sent; `was` is the
    lock's record, behind which it may not go. Raises BuildError that says what is wrong with the
    repository and what to do.
    """
    arches = [session.spec.arch, *session.spec.foreign]
    keyrings = keyring_files(repo, session.spec)
    live_id = live_id_of(repo, uri, arches, keyrings)
    index = session.cache.index
    with locked(index / f".{live_id}.lock", waiting=log.step):
        lists = index / f"live-{live_id}"
        try:
            return _asked(session, repo, uri, live_id, keyrings, log, was)
        except DamagedEntry:
            pass
        except RepositoryFault:
            # apt believes what it has; where that has rotted, the repository is not to blame.
            if not (repo.check_rollback and rotten(session, live_id)):
                raise
        log.step(f"repository {repo.name}: its lists in the cache are damaged; fetching them again")
        remove_tree(lists)
        return _asked(session, repo, uri, live_id, keyrings, log, was)


def _asked(
    session: Session, repo: Repo, uri: str, live_id: str, keyrings: Sequence[Path], log: Log,
    was: LockedRepo | None,
) -> Snapshot:  # fmt: skip
    folder = session.scratch / f"repo-{live_id}-{repo.name}"
    if not repo.check_rollback:
        # apt keeps the newer of the Release that it has and the one that comes, and says nothing.
        remove_tree(session.cache.index / f"live-{live_id}")
    lists = session.cache.lists(live_id)
    _private_apt(session, folder, lists, repo, uri, keyrings)

    def update() -> None:
        run(
            ["apt-get", "update", "--error-on=any"],
            # apt is ended by SIGKILL: what it has for gpgv must not be left in /tmp.
            log=log, env={"APT_CONFIG": str(folder / "apt.conf"), "TMPDIR": str(folder)},
            what="asking",
        )  # fmt: skip

    try:
        patiently(update, log, f"repository {repo.name}", tries=retries(), changing=True)
    except CommandFailed as error:
        raise refusal(session, repo, uri, error, lists, folder / "trusted.gpg.d") from error
    finally:
        for path in (lists / "partial").iterdir():
            path.unlink(missing_ok=True)
    return keep_snapshot(session, repo, uri, live_id, lists, was, folder, log)


def _private_apt(
    session: Session, folder: Path, lists: Path, repo: Repo, uri: str, keyrings: Sequence[Path]
) -> None:
    """Write the configuration of an apt that knows one repository and the keys that may sign it."""
    spec = session.spec
    trusted = folder / "trusted.gpg.d"
    for path in (trusted, folder / "cache"):
        path.mkdir(parents=True, exist_ok=True)
    for number, keyring in enumerate(keyrings):
        (trusted / f"{number}.gpg").write_bytes(keys_of(keyring, repo, spec))
    (folder / "status").touch()
    for name, text in (
        ("apt.sources", apt.source(apt.source_uri(uri), repo.suite, repo.components,
                                   trusted=repo.trusted)),
        ("auth.conf", apt.auth_conf([uri])),
        ("apt.conf", apt.configuration(
            str(folder), arch=spec.arch, foreign=spec.foreign, lists=str(lists),
            proxies=spec.proxies, direct=spec.direct, timeout=timeout(),
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


def ask_all(session: Session, log: Log, lock: Lock | None = None) -> list[Snapshot]:
    """Ask every repository, at once; the first failure in the spec's order is the one raised."""
    uris = session.uris
    repos = session.spec.repos
    was = rollback.before(repos, lock.repos if lock else ())
    apt_tool("apt-get")
    log.step(f"asking {len(repos)} repositories")
    with ThreadPoolExecutor(max_workers=len(repos)) as pool:
        futures = [pool.submit(ask, session, repo, uris[repo.name], log, was.get(repo.name))
                   for repo in repos]  # fmt: skip
        return [future.result() for future in futures]
