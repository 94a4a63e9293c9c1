"""Signatures of records: who vouches for a stage, and whom this host believes.

Ed25519 (RFC 8032), by the library `cryptography`. Keys are written as Nix writes those of its
binary caches: `NAME:BASE64`, of 32 bytes the public one, the secret one with its seed before it.

What is signed is canonical JSON of what a record says of its stage (`statement`), so that neither
another file nor another stage can be put in the place of the one that was made.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe, strict
from ..plan.keys import canonical, checksum

FORMAT = 1
"""Of what is signed."""

KEY_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

MOST = 16
"""Signatures of one record that are looked at, and keys of one file."""

SIGNING_KEY = "STRATA_SIGNING_KEY"

TRUSTED_KEYS = "STRATA_TRUSTED_KEYS"

HOST_KEYS = Path("/etc/strata/trusted_keys")
"""Whom this host believes, whatever is built on it."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """Whom to believe: a name and 32 bytes."""

    name: str
    raw: bytes

    @property
    def line(self) -> str:
        """As `STRATA_TRUSTED_KEYS` has it."""
        return f"{self.name}:{base64.b64encode(self.raw).decode('ascii')}"


@dataclass(frozen=True, kw_only=True, repr=False)
class SecretKey:
    """What signs; its seed is shown nowhere."""

    name: str
    seed: bytes

    @property
    def public(self) -> PublicKey:
        """What others need."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(name=self.name, raw=key.public_bytes_raw())

    @property
    def line(self) -> str:
        """As its file has it."""
        both = self.seed + self.public.raw
        return f"{self.name}:{base64.b64encode(both).decode('ascii')}"

    def sign(self, record: Mapping[str, Any]) -> str:
        """A record's signature, in base64."""
        return base64.b64encode(self.signature(statement(record))).decode("ascii")

    def signature(self, content: bytes) -> bytes:
        """The signature of some bytes, which are no record: 64 of them (RFC 8032)."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(content)


def generate(name: str) -> SecretKey:
    """A new key; BuildError for a name that it may not have."""
    if not re.fullmatch(KEY_NAME, name):
        raise BuildError(
            f"name={name}: expected a key's name: letters, digits, dots, _ and -, at most 64",
            "strata keygen name=ci",
        )
    return SecretKey(name=name, seed=os.urandom(32))


def statement(record: Mapping[str, Any]) -> bytes:
    """What of a record is signed: all that a build takes from it.

    Its stage's name is no part of that: two specs may call one stage by two names.
    """
    return canonical(
        {
            "format": FORMAT,
            "kind": record["stage"],
            "key": record["key"],
            "inputs": checksum(record["inputs"]),
            "file": {"sha256": record["file"]["sha256"], "size": record["file"]["size"]},
            "facts": record["facts"],
        }
    ).encode("ascii")


def is_name(text: str) -> bool:
    """Whether a key may be called so."""
    return bool(re.fullmatch(KEY_NAME, text))


def signers(record: Mapping[str, Any], trusted: Sequence[PublicKey]) -> list[str]:
    """The names of the trusted keys that have signed a record."""
    found: list[str] = []
    signatures = record.get("signatures")
    if not isinstance(signatures, dict) or len(signatures) > MOST:
        return found
    for key in trusted:
        if key.name in signatures and _signed(key, signatures[key.name], record):
            found.append(key.name)
    return found


def _signed(key: PublicKey, signature: Any, record: Mapping[str, Any]) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(key.raw).verify(raw, statement(record))
    except (TypeError, ValueError, InvalidSignature):
        return False
    return True


# ---------------------------------------------------------------- where keys come from


def public_key(line: str, where: str) -> PublicKey:
    """The key of a line `NAME:BASE64`; BuildError for another one."""
    name, colon, text = line.strip().partition(":")
    raw = _decoded(text)
    if not colon or not re.fullmatch(KEY_NAME, name) or len(raw) != 32:
        found = " (this is a secret key: it is compromised if others can read it)"
        raise BuildError(
            f"{where}: {name[:64]!r}: expected NAME:KEY, a public key of 32 bytes in base64"
            + (found if len(raw) == 64 else ""),
            "`strata keygen name=ci` prints such a line",
        )
    return PublicKey(name=name, raw=raw)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def secret_key(path: Path, named: str = SIGNING_KEY) -> SecretKey:
    """The key in a file that `keygen` wrote; BuildError for one that is none, or anybody's.

    `named` is what named it.
    """
    try:
        descriptor = safe.named(path)
        with open(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1 << 12).decode("ascii", "replace").strip()
    except OSError as error:
        raise BuildError(
            f"{named}={path}: cannot be read: {error.strerror}",
            "it names the file that `strata keygen` wrote",
        ) from error
    name, _, base = text.partition(":")
    raw = _decoded(base)
    if not re.fullmatch(KEY_NAME, name) or len(raw) != 64:
        raise BuildError(
            f"{named}={path}: this is no signing key",
            "it names the file that `strata keygen` wrote: NAME:, and 64 bytes in base64",
        )
    key = SecretKey(name=name, seed=raw[:32])
    if key.public.raw != raw[32:]:
        raise BuildError(
            f"{named}={path}: its two halves are not of one key", "strata keygen name=ci"
        )
    if stat.S_IMODE(mode) & 0o007:
        raise BuildError(
            f"{named}={path}: everybody can read it, or write to it",
            f"chmod 600 {path}; if others were on this machine, make a new one",
        )
    return key


def trusted_keys(project: Path) -> list[PublicKey]:
    """Whom this host believes, and whom `STRATA_TRUSTED_KEYS` names: lines, or a file of them.

    A file of the project itself says nothing: whoever may propose a change could change it.
    """
    found = []
    if HOST_KEYS.exists():
        found += _keys_of(HOST_KEYS, str(HOST_KEYS))
    text = os.environ.get(TRUSTED_KEYS, "").strip()
    if not text:
        return found
    if ":" in text and not text.startswith(("/", ".")):
        lines = [line for line in re.split(r"[\s,]+", text) if line]
        return found + [public_key(line, TRUSTED_KEYS) for line in lines]
    path = Path(text)
    # As it is named and where it leads: a link in the project may be changed as well.
    inside = any(
        top in (place, *place.parents)
        for top in {Path(os.path.abspath(_checkout(project))), _checkout(project).resolve()}
        for place in (Path(os.path.abspath(path)), path.resolve())
    )
    if inside:
        raise BuildError(
            f"{TRUSTED_KEYS}={text}: it is in the project itself, so whoever may change that "
            "says whom to believe",
            f"keep it elsewhere on this host, as {HOST_KEYS}, or give the lines themselves",
        )
    return found + _keys_of(path, f"{TRUSTED_KEYS}={text}")


def _checkout(project: Path) -> Path:
    """The folder that a change may be proposed to: git's, where the project is a part of it."""
    for folder in (project, *project.parents):
        if os.path.lexists(folder / ".git"):
            return folder
    return project


def by_name(keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """Each key once; BuildError for two of one name, of which a record can have one signature."""
    found = tuple(dict.fromkeys(keys))
    twice = strict.twice(key.name for key in found)
    if twice is not None:
        raise BuildError(
            f"two keys that are trusted here are called {twice}",
            "give the new one a name of its own: strata keygen name=ci-2",
        )
    return found


def _keys_of(path: Path, where: str) -> list[PublicKey]:
    try:
        with open(safe.named(path), "rb") as file:
            text = file.read(strict.RECORD_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        raise BuildError(
            f"{where}: cannot be read: {error.strerror}",
            "give public lines (ci:…), or the path of a file of them",
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    return [public_key(line, where) for line in lines if line and not line.startswith("#")]
