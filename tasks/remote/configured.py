"""What the user says of shared caches → backends and a policy. BuildError for what will not do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import BuildError
from ..host import patience
from ..spec.words import near, printable
from .backend import Backend, RemoteFault
from .remotes import Policy
from .signing import SIGNING_KEY, SecretKey, by_name, secret_key, trusted_keys

MODES = ("pull", "push", "both")

REMOTE = "STRATA_REMOTE"


def shown(address: str) -> str:
    """An address as a message may have it; in a bad one, a password may hold anything."""
    return printable(re.sub(r"://.*@", "://***@", address))


def _folder(address: str, seconds: float) -> Backend:
    from .folder import Folder

    parts = urlsplit(address)
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise BuildError(
            f"cache={shown(address)}: a folder's address has three slashes",
            "file:///srv/strata",
        )
    return Folder(path, seconds)


def _http(address: str, seconds: float, *, first: bool = True) -> Backend:
    from .http import Http

    parts = urlsplit(address)
    try:
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise BuildError(
            f"cache={shown(address)}: expected https://HOST[:PORT][/PATH]",
            "cache=https://cache.example.org/strata",
        )
    return Http(address, seconds, first=first)


def _objects(address: str, seconds: float) -> Backend:
    from .objects import Objects

    return Objects(address, seconds)


def _registry(address: str, seconds: float) -> Backend:
    from .registry import Registry

    return Registry(address, seconds)


SCHEMES: dict[str, Callable[[str, float], Backend]] = {
    "file": _folder, "http": _http, "https": _http, "s3": _objects, "gs": _objects,
    "az": _objects, "oci": _registry, "oci+http": _registry,
}  # fmt: skip


def backends(text: str) -> list[Backend]:
    """The caches that a text names, one after another, between them a comma or a space."""
    found: list[Backend] = []
    web = ("http", "https")
    schemes: list[str] = []
    for address in filter(None, re.split(r"[\s,]+", text)):
        scheme, colon, _rest = address.partition("://")
        if not colon or scheme not in SCHEMES:
            meant = near(scheme, SCHEMES) if colon else ""
            raise BuildError(
                f"cache={shown(address)}: expected an address of "
                f"{', '.join(f'{one}://' for one in SCHEMES)}",
                f"did you mean {meant}://?" if meant else "cache=file:///srv/strata",
            )
        seconds = float(max(1, patience.timeout()))
        try:
            # Before urllib.parse: of a host in brackets that is none it says so by ValueError.
            urlsplit(address)
            if scheme in web and any(one in web for one in schemes):
                found.append(_http(address, seconds, first=False))
            else:
                found.append(SCHEMES[scheme](address, seconds))
            schemes.append(scheme)
        except ValueError as error:
            raise BuildError(
                f"cache={shown(address)}: expected {scheme}://HOST[:PORT][/PATH]",
                "cache=https://cache.example.org/strata",
            ) from error
        except RemoteFault as fault:
            raise BuildError(f"cache={shown(address)}: {fault}") from fault
    return found


def policy(mode: str, trust: str, key: str, project: Path) -> Policy:
    """Which way things go and who is believed; `key` is the path of what signs, or ""."""
    if mode not in MODES:
        raise BuildError(f"cache_mode={printable(mode)}: expected one of {', '.join(MODES)}")
    if trust not in ("", "any"):
        raise BuildError(
            f"cache_trust={printable(trust)}: expected any, or nothing",
            "whom to trust is in STRATA_TRUSTED_KEYS",
        )
    secret: SecretKey | None = secret_key(Path(key)) if key else None
    mine = [secret.public] if secret is not None else []
    return Policy(
        pull=mode != "push",
        push=mode != "pull",
        any=trust == "any",
        trusted=by_name([*trusted_keys(project), *mine]),
        key=secret,
    )


__all__ = ["MODES", "REMOTE", "SIGNING_KEY", "backends", "policy"]
