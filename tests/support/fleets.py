"""Specs of one's own by the dozen, and what a fleet made of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.world import World

REPOS = """\
repos:
  - {{name: main, uri: "${{mirror}}", suite: stable, section: main, keyring: keys/test.gpg}}
"""

SMALL = (
    REPOS
    + """\
base: {{tool: mmdebstrap, variant: extract, include: {base}}}
images:
  /: {{file: {name}.img, format: ext2, container: raw, label: {name}}}
  /usr: {{file: {name}-usr.img, format: ext2, container: raw}}
"""
)
"""Two images on a base of a package or two, only unpacked."""

SMALL_BASES = ("[baseline]", "[beta]", "[baseline, beta]")

DEEP = (
    REPOS
    + """\
base: {{tool: mmdebstrap, variant: apt, include: {base}}}
fstab: false
packages: [alpha]
layers:
  - {{name: app, files: {{/etc/motd: files/{name}}}}}
images:
  /: {{file: {name}.img.gz, format: ext4}}
"""
)
"""A base that runs, a package that those on it share, a layer of its own, an image."""

DEEP_BASES = ("[]", "[delta]", "[epsilon]")


def many(world: World, count: int, spec: str, bases: Sequence[str]) -> list[str]:
    """Write so many specs on so many bases, and their locks; their names."""
    (world.root / "specs/web.yaml").unlink(missing_ok=True)
    world.env["STRATA_TIMEOUT"] = "20"
    names = [f"web{number:02}" for number in range(count)]
    for number, name in enumerate(names):
        world.write(f"files/{name}", f"{name}\n")
        world.write(f"{name}.yaml", spec.format(base=bases[number % len(bases)], name=name))
    world.doit("lock", f"spec={','.join(names[: len(bases)])}")
    for number, name in enumerate(names):
        first = world.root / f"specs/{names[number % len(bases)]}.lock"
        if number >= len(bases):
            shutil.copy(first, world.root / f"specs/{name}.lock")
    return names


def told(world: World) -> list[dict[str, Any]]:
    """What the last fleet says of each stage."""
    found: list[dict[str, Any]] = json.loads((world.root / ".doit/fleet.json").read_text())[
        "stages"
    ]
    return found


@contextmanager
def killing(folder: Path, pattern: str, times: int = 1) -> Iterator[list[int]]:
    """Kill so many workers, each as it is seen to make a stage; their processes.

    `pattern` is where workers have their scratch, below `folder`.
    """
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while len(killed) < times and not over.wait(0.005):
            # A worker's has its process in its name, and a folder for the stage that it makes.
            found: list[Path] = []
            with suppress(OSError):  # they come and go
                found = list(folder.glob(f"{pattern}/strata-0/build-*/stage-*"))
            pids = {int(re.findall(r"build-(\d+)-", str(path))[-1]) for path in found}
            for pid in sorted(pids - {*killed})[:1]:
                time.sleep(0.02)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


# ---------------------------------------------------------------- a cluster of one's own


def certificates(folder: Path) -> dict[str, str]:
    """A certificate that vouches for itself, and its key: Dask's variables that name them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                          serialization.NoEncryption())
    )  # fmt: skip
    roles = {f"DASK_DISTRIBUTED__COMM__TLS__{role}__{what}": str(folder / f"{what.lower()}.pem")
             for role in ("SCHEDULER", "WORKER", "CLIENT") for what in ("CERT", "KEY")}  # fmt: skip
    return {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(folder / "cert.pem"), **roles}


@dataclass
class Far:
    """A scheduler and workers that have nothing of any checkout but a shared cache's address."""

    folder: Path
    tls: dict[str, str]
    address: str
    env: dict[str, str]
    running: list[subprocess.Popen[bytes]]

    def worker(self, name: str, **env: str) -> None:
        """Start one, with a cache and a scratch of its own."""
        home = self.folder / name
        home.mkdir()
        own = {"STRATA_CACHE": str(home / "cache"), "STRATA_SCRATCH": str(home / "dask")}
        self._start("worker", self.address, "--resources", "strata=1", "--nthreads", "1", "--name", name,
                    "--no-dashboard", "--memory-limit", "0", "--local-directory", str(home),
                    cwd=home, **own, **env)  # fmt: skip

    def _start(self, what: str, *words: str, cwd: Path, **env: str) -> None:
        with (self.folder / f"{what}.log").open("ab") as log:
            self.running.append(subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *words], cwd=cwd, stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**self.env, **self.tls, **env},
            ))  # fmt: skip

    @property
    def logs(self) -> str:
        """What the scheduler and all workers have written."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))


@contextmanager
def cluster(folder: Path, env: dict[str, str]) -> Iterator[Far]:
    """A scheduler that speaks TLS on 127.0.0.1; what is started here is ended, and nothing else."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    far = Far(folder, certificates(folder / "tls"), f"tls://127.0.0.1:{port}", env, [])
    try:
        far._start("scheduler", "--host", "127.0.0.1", "--port", str(port), "--protocol", "tls",
                   "--no-dashboard", cwd=folder)  # fmt: skip
        yield far
    finally:
        # Workers before the scheduler, so that they end as they do when nobody needs them.
        for some in (far.running[1:], far.running[:1]):
            for process in some:
                process.terminate()
            for process in some:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
