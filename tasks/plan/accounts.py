"""Groups and users of a layer as its key and its stage have them: keys read, passwords hashed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BuildError
from ..host import safe
from ..spec.machine import is_key
from ..spec.model import Group, Layer, Spec, User
from ..spec.rules import places
from ..spec.words import field_of_layer
from .lockfile import Lock
from .passwords import crypted, salt_of

KEYS_LIMIT = 1 << 18
"""Bytes of a file of public keys."""

_PRIVATE = re.compile(r"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY", re.MULTILINE)
"""RFC 7468 and OpenSSH's own form."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user to make: `shadow` is its field in shadow(5), `keys` the text of authorized_keys."""

    user: User
    shadow: str
    keys: str

    def identity(self) -> list[Any]:
        """What a key sees of it; of a password only a digest of its crypt(5)."""
        user = self.user
        digest = hashlib.sha256(self.shadow.encode()).hexdigest() if self.shadow else ""
        return [
            "user", user.name, user.uid, sorted(user.groups), user.comment, user.shell, user.home,
            digest, self.keys, user.sudo, user.system,
        ]  # fmt: skip


def group_identity(group: Group) -> list[Any]:
    """What a key sees of a group."""
    return ["group", group.name, group.gid, group.system]


def accounts_identity(layer: Layer, spec: Spec, lock: Lock) -> list[list[Any]]:
    """What a layer's key sees of its groups and users, [] where it has none."""
    made = [account.identity() for account in accounts(layer, spec, lock)]
    return [*(group_identity(group) for group in layer.groups), *made]


def accounts(layer: Layer, spec: Spec, lock: Lock) -> list[Account]:
    """A layer's users; BuildError for a file of keys that is missing or holds something else."""
    return [
        Account(
            user=user, shadow=_shadow(user, layer, lock), keys=authorized_keys(user, layer, spec)
        )
        for user in layer.users
    ]


def _shadow(user: User, layer: Layer, lock: Lock) -> str:
    """As that of root: the salt is made of the packages, never of the password."""
    if user.hashed_password or not user.password:
        return user.hashed_password
    return crypted(user.password, user_salt(user, layer, lock))


def user_salt(user: User, layer: Layer, lock: Lock) -> str:
    """The salt of a user's password."""
    number = next(index for index, one in enumerate(lock.layers) if one.name == layer.name)
    return salt_of(user.name, lock, number + 1)


def authorized_keys(user: User, layer: Layer, spec: Spec) -> str:
    """The lines of authorized_keys(5), each once, without comments and empty lines.

    BuildError for a file that is missing, is a private key, or holds something else.
    """
    where = field_of_layer(spec.path, layer.name, f"users.{user.name}.ssh_keys")
    lines: dict[str, None] = {}
    for key in user.ssh_keys:
        if isinstance(key, str):
            lines[key.strip()] = None
            continue
        lines |= dict.fromkeys(_lines(key, where, spec))
    return "".join(f"{line}\n" for line in lines)


def _lines(path: Path, where: str, spec: Spec) -> Iterable[str]:
    try:
        with open(safe.named(path), "rb") as file:
            raw = file.read(KEYS_LIMIT + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise BuildError(
            f"{where}: {path} cannot be read: {error.strerror}", places(path, spec.path)
        ) from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{where}: {path} is no text", "give a public key: *.pub") from error
    if _PRIVATE.search(text):
        raise BuildError(
            f"{where}: {path} is a private key", "give the public one beside it, *.pub"
        )
    found = [line.strip() for line in text.splitlines()]
    found = [line for line in found if line and not line.startswith("#")]
    # Options may stand before the type: `restrict ssh-ed25519 …`.
    wrong = [line for line in found if not any(is_key(line[at:]) for at in _words(line))]
    if wrong or not found or len(raw) > KEYS_LIMIT:
        raise BuildError(
            f"{where}: {path} holds no public keys",
            "each line is as in ssh-ed25519 AAAA… name, as ssh-keygen writes it into *.pub",
        )
    return found


def _words(line: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer(r"\s+", line))]
