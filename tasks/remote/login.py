"""Who we are to a registry: docker's configuration, and the tokens that are got for it.

config.json ─→ user, password ─→ Basic
                     └─ or at the realm that the registry names ─→ Bearer token
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from ..errors import BuildError
from ..host import safe, strict
from ..host.process import filtered
from .backend import RemoteFault, fault_of
from .web import basic, loopback

ACCESS = "<token>"
"""The user that a credential helper names where its secret is an identity token."""


@dataclass(frozen=True)
class Login:
    """A user's name and password, or an identity token, with which access tokens are got."""

    user: str = ""
    password: str = ""
    identity: str = ""


def config_path() -> Path:
    """Docker's configuration: $DOCKER_CONFIG/config.json, or ~/.docker/config.json."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def login(host: str) -> Login | None:
    """What docker's configuration has for a registry, HOST[:PORT]; RemoteFault if it is broken."""
    try:
        path = config_path()
        with open(safe.named(path), "rb") as file:
            config = strict.parse(file.read(strict.RECORD_LIMIT))
    except (FileNotFoundError, NotADirectoryError, RuntimeError):
        return None
    except OSError as error:
        raise RemoteFault(f"{path}: {error.strerror}") from error
    except (ValueError, BuildError) as error:
        raise RemoteFault(f"{path} is no configuration of docker's") from error
    helpers = config.get("credHelpers")
    helper = helpers.get(host) if isinstance(helpers, dict) else None
    if helper := helper or config.get("credsStore"):
        return _helped(str(helper), host)
    auths = config.get("auths")
    for name, one in auths.items() if isinstance(auths, dict) else ():
        if _bare(name) == host and isinstance(one, dict):
            return _stated(one, path)
    return None


def _bare(name: str) -> str:
    """HOST[:PORT] of a registry as docker may write it: https://HOST/v1/."""
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]


def _stated(one: dict[str, Any], path: Path) -> Login | None:
    if identity := one.get("identitytoken"):
        return Login(identity=str(identity))
    if one.get("username"):
        return Login(str(one["username"]), str(one.get("password", "")))
    try:
        text = base64.b64decode(str(one.get("auth", "")), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise RemoteFault(f"{path} has an auth that is not base64") from error
    user, colon, password = text.partition(":")
    return Login(user, password.rstrip("\0")) if colon else None


def _helped(helper: str, host: str) -> Login | None:
    """What docker-credential-HELPER(1) gives; None where it knows nothing of this registry."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", helper):
        raise RemoteFault("docker's configuration names a credential helper that can be none")
    # Helpers have what they keep below the user's home.
    given = ("HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "GNUPGHOME")
    env = {name: os.environ[name] for name in given if name in os.environ}
    try:
        code, out, _err = filtered([f"docker-credential-{helper}", "get"], host.encode(), env=env)
        if code != 0:
            return None
        found = strict.parse(out[: strict.RECORD_LIMIT])
        user, secret = strict.text(found, "Username"), strict.text(found, "Secret")
    except BuildError as error:
        raise fault_of(error) from error
    except ValueError as error:
        raise RemoteFault(f"docker-credential-{helper} gave no login") from error
    return Login(identity=secret) if user == ACCESS else Login(user, secret)


@dataclass(frozen=True)
class Challenge:
    """What a server wants (RFC 9110, 11.6.1): a scheme, in small letters, and its parameters."""

    scheme: str
    fields: dict[str, str]


_PAIR = re.compile(r'([a-z_]+)=(?:"([^"]*)"|([^", ]+))')

_CHALLENGE = re.compile(r'([A-Za-z]+) +((?:[a-z_]+=(?:"[^"]*"|[^", ]+) *,? *)+)')


def challenges(header: str) -> list[Challenge]:
    """What a WWW-Authenticate header asks for, of which no more than a few lines are read."""
    found = []
    for scheme, rest in _CHALLENGE.findall(header[:4096]):
        pairs = _PAIR.findall(rest)
        found.append(Challenge(scheme.lower(), {key: one or two for key, one, two in pairs}))
    return found


@dataclass(frozen=True)
class Token:
    """An access token, and until when, of time.monotonic(), it is surely good."""

    text: str
    until: float


def token_request(
    challenge: Challenge, scope: str, known: Login | None, *, near: bool
) -> tuple[str, str, dict[str, str], bytes | None]:
    """Method, address, headers and body of the request for a token; RemoteFault without one.

    `near`: the registry is this host's, and so may its token server be.
    With a password it is GET and Basic, with an identity token POST, as docker does.
    """
    realm = challenge.fields.get("realm", "")
    query = {"service": challenge.fields.get("service", ""), "scope": scope}
    query = {name: value for name, value in query.items() if value}
    check_realm(realm, near)
    if known is not None and known.identity:
        form = {"grant_type": "refresh_token", "client_id": "strata", **query}
        body = urlencode({**form, "refresh_token": known.identity}).encode("ascii")
        return "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body
    joint = "&" if urlsplit(realm).query else "?"
    headers = basic(known.user, known.password) if known is not None else {}
    return "GET", f"{realm}{joint}{urlencode(query)}", headers, None


def check_realm(realm: str, near: bool) -> SplitResult:
    """RemoteFault unless a password may be sent there: by https, or from this host to itself.

    No registry elsewhere says what this host is to ask of itself.
    """
    try:
        parts = urlsplit(realm)
        good = (
            bool(parts.hostname)
            and parts.username is None
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        good = False
    own = good and near and loopback(parts.hostname or "") and parts.scheme == "http"
    if not good or not (parts.scheme == "https" or own):
        raise RemoteFault("it names no https:// address to get a token from")
    return parts


def token(raw: bytes) -> Token:
    """The token in an answer; RemoteFault where there is none."""
    try:
        found = json.loads(raw)
        text = found.get("token") or found.get("access_token")
        seconds = found.get("expires_in", 60)
        if not isinstance(text, str) or type(seconds) not in (int, float):
            raise ValueError
        until = max(0.0, min(float(seconds), 3600.0) - 10)
    except (ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise RemoteFault("its token server gave no token") from error
    return Token(text, time.monotonic() + until)
