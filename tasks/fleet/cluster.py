"""Dask's side: where the scheduler is, who may be spoken to, this machine's own workers, tasks.

The only room that imports Dask, and only when a fleet is started. Whoever can speak to a scheduler
or a worker of Dask's can run anything there: so it is TLS, whose certificates both sides show, or
this very machine.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import os
import queue
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BuildError
from ..host import patience
from ..spec.words import counted, printable, without_users
from .parcel import FAILED, MODULE, RESOURCE, Outcome

DEATHS = 3
"""How many workers a stage may take with it before it is given up: Dask's allowed-failures."""

RETRIES = 2
"""How often a task is begun anew that never reached its stage: where a worker lacks Strata."""

LOOK = 2.0
"""Seconds between two looks at who is there."""

TOLD = 60.0
"""Seconds between two lines that say that no worker is there."""

PATIENCE = 900.0
"""Seconds after which a fleet without any worker is given up."""


def spoken(address: str) -> str:
    """A scheduler's or worker's address, if it may be spoken to; BuildError."""
    scheme, there, rest = address.rpartition("://")
    scheme = scheme if there else "tcp"
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if scheme not in ("tls", "tcp") or not host or port is None or "@" in rest or "/" in rest:
        raise BuildError(
            f"scheduler={printable(without_users(address))}: expected tls://HOST:PORT",
            "`dask scheduler` says where it listens",
        )
    if scheme == "tcp" and not _loopback(host):
        raise BuildError(
            f"{printable(address)}: without TLS, whoever is on the way reads passwords, and runs "
            "what they like as root",
            "tls://, with certificates for all: see docs/fleet.md; plain tcp:// is for 127.0.0.1",
        )
    return f"{scheme}://{rest}"


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def imported() -> Any:
    """The module `distributed`; BuildError where it is not installed."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise BuildError(
            f"a fleet needs Dask, which is not installed: {error}",
            "pip install 'strata[fleet]', with ./doit: .venv/bin/pip install '.[fleet]'",
        ) from error


def _far() -> Any:
    """What a worker imports, by the name that it has there; BuildError."""
    try:
        far = importlib.import_module(MODULE)
    except ImportError as error:
        raise BuildError(
            f"Strata is not installed in this environment, so no worker would find it: {error}",
            "pip install . in the checkout, or run ./doit",
        ) from error
    # Two versions of Strata, of which one sends what the other makes.
    installed = Path(str(far.__file__))
    if not installed.samefile(Path(__file__).with_name("work.py")):
        raise BuildError(
            f"the Strata that is installed here is another one: {installed.parents[1]}",
            "pip install . in this checkout",
        )
    return far


@dataclass(kw_only=True)
class Cluster:
    """A scheduler with its workers: tasks go in, and what became of them comes out."""

    client: Any
    far: Any
    own: bool
    """Whether the workers are this machine's, started for this run."""
    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those that are there, by address."""
    lost: list[str] = field(default_factory=list)
    """Names of workers that are gone, as they are found to be."""

    def __post_init__(self) -> None:
        self.run = secrets.token_hex(4)
        self.arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.looked = 0.0
        self.alone = time.monotonic()
        """Since when there has been no worker, if there is none."""

    def submit(
        self, name: str, attempt: int, text: str, *, priority: int, among: Sequence[str] = ()
    ) -> None:
        """Send an errand; `among` are the addresses of the workers to be preferred.

        Its key has the name of the stage's entry alone; without dependencies, since with them
        nearly all goes to the one worker that has made a base.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large ones: a job has what its files hold
            future = self.client.submit(
                self.far.work,
                self.far.Parcel(text),
                key=f"{name}-{self.run}-{attempt}",
                pure=False,
                retries=RETRIES,
                priority=priority,
                resources={RESOURCE: 1},
                workers=list(among) or None,
                allow_other_workers=bool(among),
            )
        future.add_done_callback(lambda done: self.arrived.put((name, done)))

    def next(self) -> tuple[str, Outcome] | None:
        """What came of a task, by its stage's entry; None when nothing has come for a moment."""
        try:
            name, future = self.arrived.get(timeout=0.5)
        except queue.Empty:
            return None
        try:
            return name, _outcome(future)
        finally:
            # Else Dask would make it again when the worker goes that has the result.
            future.release()

    def look(self, *, now: bool = False) -> None:
        """See who is there; BuildError where the scheduler is gone, or one may not be spoken to."""
        if not now and time.monotonic() - self.looked < LOOK and self.workers:
            return
        self.looked = time.monotonic()
        try:
            found = self.client.scheduler_info()["workers"]
        except Exception as error:  # whatever Dask raises then
            raise BuildError(
                f"the scheduler is gone: {type(error).__name__}", "what was built is in the cache"
            ) from error
        for address in found:
            spoken(address)
        here = {
            address: one for address, one in found.items() if one["resources"].get(RESOURCE, 0) >= 1
        }
        self.lost += [
            str(one["name"]) for address, one in self.workers.items() if address not in here
        ]
        self.workers = here
        self.others = len(found) - len(here)
        if here:
            self.alone = time.monotonic()

    def missing(self) -> str:
        """What to say where no worker may make stages, or ""; BuildError after PATIENCE."""
        if self.workers:
            return ""
        text = "no worker is there"
        if self.others:
            text = f"none of {counted(self.others, 'worker')} has the resource {RESOURCE}"
        hint = f"dask worker … --resources {RESOURCE}=1"
        if time.monotonic() - self.alone > PATIENCE:
            raise BuildError(f"{text}, for {PATIENCE / 60:.0f} minutes", hint)
        return f"{text}: {hint}"


def _outcome(future: Any) -> Outcome:
    """What became of a task, also where its worker never told."""
    try:
        return Outcome(**future.result())
    except CancelledError:
        return Outcome(result=FAILED, message="the scheduler has dropped it",
                       hint="was it started anew? run the same command again")  # fmt: skip
    except ImportError as error:
        return Outcome(
            result=FAILED,
            message=f"a worker has no {error.name}",
            hint="install Strata where the workers are: pip install 'strata[fleet]'",
        )
    except Exception as error:  # Dask's own, whatever they are called in its version
        if type(error).__name__ == "KilledWorker":
            return Outcome(
                result=FAILED,
                message=f"{getattr(error, 'allowed_failures', DEATHS) + 1} workers ended with it",
                hint="does it take more memory than they have?",
            )
        return Outcome(result=FAILED, message=f"Dask: {type(error).__name__}: {error}")


# ---------------------------------------------------------------- where the workers are


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """The cluster of a scheduler that runs somewhere; BuildError where it does not answer."""
    distributed, far = imported(), _far()
    address = spoken(address)
    security = distributed.Security(require_encryption=address.startswith("tls:"))
    try:
        if address.startswith("tls:") and not security.get_connection_args("client")["ssl_context"]:
            raise RuntimeError("no certificates are named")
        client = distributed.Client(
            address, security=security, set_as_default=False, timeout=max(5, patience.timeout()),
            name="strata",
        )  # fmt: skip
    except Exception as error:  # Dask's, ssl's and the kernel's
        raise BuildError(
            f"scheduler={address}: {_first(error)}",
            "is it up, and do DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and "
            "…__CLIENT__KEY name the certificates? docs/fleet.md"
            if address.startswith("tls:")
            else "is it up?",
        ) from error
    with _used(Cluster(client=client, far=far, own=False)) as cluster:
        yield cluster


def _first(error: BaseException) -> str:
    """The innermost cause of one of Dask's errors, which wrap each other."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{error}".strip().split("\n")[0][:300] or type(error).__name__


@contextlib.contextmanager
def local(workers: int, scratch: Path) -> Iterator[Cluster]:
    """Workers on this machine, each a process, for as long as the block runs.

    They speak TLS, too, by a certificate that only they have: else any user of this machine could
    tell them what to run. What they leave is in `scratch`.
    """
    distributed, far = imported(), _far()
    dask = importlib.import_module("dask")
    quiet = {
        "distributed.scheduler.allowed-failures": DEATHS,
        # Pages of what is done, for everybody on this machine.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.nanny.http.routes": [],
        "distributed.admin.system-monitor.gil.enabled": False,
        "logging": {"distributed": "critical"},
    }
    folder = scratch / "dask"
    folder.mkdir()
    with dask.config.set(quiet):
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls://",
                security=distributed.Security.temporary(),
                dashboard_address=None,
                # Any port, not the one that a scheduler of the user's may have.
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
                memory_limit=0,
                resources={RESOURCE: 1},
                preload=[MODULE],
                local_directory=str(folder),
                env={"STRATA_SCRATCH": str(folder)},
            )
        except Exception as error:  # Dask's, whatever they are called in its version
            raise BuildError(f"this machine's workers do not start: {_first(error)}") from error
        try:
            client = distributed.Client(cluster, set_as_default=False)
            with _used(Cluster(client=client, far=far, own=True)) as used:
                yield used
        finally:
            cluster.close(timeout=10)


@contextlib.contextmanager
def _used(cluster: Cluster) -> Iterator[Cluster]:
    try:
        yield cluster
    finally:
        # What waits is dropped; what a worker is making ends by itself there, and is kept.
        with contextlib.suppress(Exception):
            cluster.client.cancel([*cluster.client.futures], force=True)
        with contextlib.suppress(Exception):
            cluster.client.close(timeout=5)


def default_workers() -> int:
    """As many as this machine has pairs of CPUs: a stage uses more than one now and then."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def asked_workers(variables: Mapping[str, str]) -> int:
    """What `workers=` says; BuildError for what is no number."""
    text = variables.get("workers", "")
    if not text:
        return default_workers()
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:5]) <= 1000 or len(text) > 4:
        raise BuildError(f"workers={printable(text)}: expected a number from 1 on")
    return int(text)
