"""Passwords as keys and trees have them: digests, never the words."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence

from ..errors import BuildError
from ..spec.model import Spec, debconf_fields
from .keys import canonical
from .lockfile import Lock

# ---------------------------------------------------------------- settings


def crypted(password: str, salt: str) -> str:
    """sha512-crypt of a password, as crypt(5) in /etc/shadow, by the host's libcrypt."""
    try:
        library = ctypes.CDLL("libcrypt.so.1")
    except OSError as error:
        raise BuildError("the host has no libcrypt.so.1", "apt-get install libcrypt1") from error
    library.crypt.restype = ctypes.c_char_p
    library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    result: bytes | None = library.crypt(password.encode(), f"$6${salt}$".encode())
    if not result or not result.startswith(b"$6$"):
        raise BuildError("the host's libcrypt does not know sha512-crypt")
    return result.decode()


def is_password(line: str) -> bool:
    """Whether a debconf answer, as debconf-set-selections(1) reads it, is of type `password`."""
    return debconf_fields(line)[2:3] == ["password"]


def debconf_identity(answers: Sequence[str]) -> list[str]:
    """The debconf answers of a stage as its key sees them: of a password only a digest.

    Of its crypt(5), since the digest stands in records, and nothing cheaper to guess from may.
    """
    lines = []
    for line in answers:
        package, question, kind, *value = debconf_fields(line)
        if is_password(line) and value:
            salt = hashlib.sha256(f"{package} {question}".encode()).hexdigest()[:16]
            digest = hashlib.sha256(crypted(value[0], salt).encode()).hexdigest()
            value = [f"sha256:{digest}"]
        lines.append(" ".join([package, question, kind, *value]))
    return lines


def shadow_field(spec: Spec, lock: Lock) -> str:
    """Root's password field, or "" to leave it as the base has it, which is locked.

    The salt is made of the packages, never of the password: the same lock gives the same bytes,
    and nothing that is cheaper to guess from than the field itself leaves this function.
    """
    if spec.settings.hashed_root_password:
        return spec.settings.hashed_root_password
    if not spec.settings.root_password:
        return ""
    return crypted(spec.settings.root_password, salt_of(spec.name, lock))


def salt_of(name: str, lock: Lock, layers: int | None = None) -> str:
    """The salt of a spec's root password or, with the first `layers` layers, of a user's."""
    records = [record.identity for record in lock.installed(layers)]
    return hashlib.sha256(canonical([name, records]).encode()).hexdigest()[:16]
