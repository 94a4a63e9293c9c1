"""Repositories → snapshots: ask each whether it changed, verify it, keep its indexes.

repos ──→ apt-get update, each in an apt of its own ──→ cache/index/live-* ──→ snapshot-*
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ..builder import Builder
from ..errors import CommandFailed, DamagedEntry, RepositoryFault
from ..host.files import remove
from ..host.locks import locked
from ..host.patience import retries
from ..host.process import apt_tool, run
from ..plan.lockfile import Lock, LockedRepo
from ..spec.model import Spec
from ..spec.words import counted
from . import rollback
from .complaint import refusal
from .private import PrivateApt
from .retry import patiently
from .snapshot import Snapshot, keep_snapshot, rotten


def ask(private: PrivateApt, was: LockedRepo | None = None) -> Snapshot:
    """One conditional request for the repository's Release, and its indexes if that changed.

    apt verifies the signature and Valid-Until each time, also when nothing was sent; `was` is the
    lock's record, behind which it may not go. Raises RepositoryFault that says what is wrong with
    the repository and what to do.
    """
    log, repo = private.builder.log, private.repo
    with locked(private.lock, waiting=log.step):
        try:
            return _asked(private, was)
        except DamagedEntry:
            pass
        except RepositoryFault:
            # apt believes what it has; where that has rotted, the repository is not to blame.
            if not (repo.check_rollback and rotten(private)):
                raise
        log.step(f"repository {repo.name}: its lists in the cache are damaged; fetching them again")
        remove(private.live)
        return _asked(private, was)


def _asked(private: PrivateApt, was: LockedRepo | None) -> Snapshot:
    log, repo = private.builder.log, private.repo
    if not repo.check_rollback:
        # apt keeps the newer of the Release that it has and the one that comes, and says nothing.
        remove(private.live)
    lists = private.builder.cache.lists(private.live_id)
    private.configure(lists)

    def update() -> None:
        run(["apt-get", "update", "--error-on=any"], log=log, env=private.env, what="asking")

    try:
        patiently(update, log, f"repository {repo.name}", tries=retries(), changing=True)
    except CommandFailed as error:
        raise refusal(private, error) from error
    finally:
        for path in (lists / "partial").iterdir():
            path.unlink(missing_ok=True)
    return keep_snapshot(private, lists, was)


def ask_all(
    spec: Spec, builder: Builder, lock: Lock | None = None, *, keep: bool = False
) -> list[Snapshot]:
    """Ask every repository, at once; the first failure in the spec's order is the one raised."""
    was = rollback.before(spec.repos, lock.repos if lock else ())
    apt_tool("apt-get")
    count = len(spec.repos)
    builder.log.step(f"asking {counted(count, 'repository')}")
    with ThreadPoolExecutor(max_workers=count) as pool:
        futures = [
            pool.submit(
                ask,
                PrivateApt(spec=spec, builder=builder, repo=repo, keeping=keep),
                was.get(repo.name),
            )
            for repo in spec.repos
        ]
        return [future.result() for future in futures]
