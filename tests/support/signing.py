"""Keys of gpg that sign a repository, each with an agent that ends."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.commands import run, write_whole


class SigningKey:
    """An ed25519 key without passphrase; its gpg-agent ends with `close`, the object or Python."""

    def __init__(self, name: str = "Strata Test") -> None:
        # Not below tmp_path: the path of the agent's socket may have 107 characters.
        self.home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
        self.close = weakref.finalize(self, _remove_gpg_home, self.home, os.getpid())
        self._gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
        listing = self._gpg("--with-colons", "--list-keys").decode()
        self.fingerprint = re.findall(r"^fpr:+(\w+):", listing, re.MULTILINE)[0]

    def _gpg(self, *args: str, stdin: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty"]
        return run([*argv, "--no-auto-check-trustdb", *args], stdin=stdin)

    def sign(self, release: bytes) -> tuple[bytes, bytes]:
        """Return (InRelease, Release.gpg) of the text of a Release."""
        with ThreadPoolExecutor() as pool:
            inline = pool.submit(self._gpg, "--clearsign", stdin=release)
            detached = pool.submit(self._gpg, "--armor", "--detach-sign", stdin=release)
            return inline.result(), detached.result()

    def export(self, path: Path) -> None:
        """Write the public key, a binary keyring as Signed-By takes it (*.gpg)."""
        write_whole(path, self._gpg("--export", self.fingerprint))


def _remove_gpg_home(home: Path, owner: int) -> None:
    if os.getpid() == owner:  # not at the exit of a fork
        for verb in (["--kill", "all"], ["--remove-socketdir"]):
            subprocess.run(["gpgconf", "--homedir", home, *verb], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


@functools.cache
def session_key() -> SigningKey:
    """The key which every Repository has that asks for no other."""
    return SigningKey()
