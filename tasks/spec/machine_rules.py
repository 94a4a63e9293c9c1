"""What the schema cannot say of accounts, overlays, services and scripts."""

from __future__ import annotations

from ..errors import BuildError
from . import given
from .machine import fits
from .model import Layer, Spec, User
from .words import field_of_layer

PASSWORD_LIMIT = 511
"""Bytes of a password that crypt(3) takes."""

KEPT = ("/var/lib/dpkg", "/dev", "/proc", "/sys")
"""What no pattern may remove: dpkg's database, which later layers and apt need, and mounts."""

OURS = ("SOURCE_DATE_EPOCH", "APT_CONFIG", "SYSTEMD_OFFLINE")
"""Variables by which a build is what it is."""


def check_machine(spec: Spec) -> None:
    """BuildError for what contradicts itself, or would have no effect."""
    known: dict[str, User] = {}
    passwords: set[str] = set()
    numbers: dict[tuple[str, int], str] = {}
    for layer in spec.layers:

        def where(field: str, layer: str = layer.name) -> str:
            return field_of_layer(spec.path, layer, field)

        for group in layer.groups:
            _number(numbers, "group", group.gid, group.name, where(f"groups.{group.name}.gid"))
        for user in layer.users:
            here = where(f"users.{user.name}")
            passwords |= {user.name} if _has_password(user) else set()
            _check_user(user, here, known.get(user.name), root_has=_root_has(spec))
            if user.sudo == "password" and user.name not in passwords:
                raise BuildError(
                    f"{here}.sudo: sudo would ask for a password, and the user has none",
                    "give it one, or write sudo: nopasswd",
                )
            _number(numbers, "user", user.uid, user.name, f"{here}.uid")
            known[user.name] = user
        _check_services(layer, where("services"))
        _check_scripts(spec, layer)
        for pattern in layer.remove:
            _check_removed(pattern, where("remove"))
    for pattern in spec.settings.remove:
        _check_removed(pattern, f"{spec.path}: remove")


def _has_password(user: User) -> bool:
    return bool(user.password) or user.hashed_password[:1] not in ("", "!", "*")


def _root_has(spec: Spec) -> str:
    names = ("root_password", "hashed_root_password")
    return next((name for name in names if name in spec.settings.given), "")


def _number(
    numbers: dict[tuple[str, int], str], kind: str, number: int | None, name: str, where: str
) -> None:
    if number is None:
        return
    other = numbers.setdefault((kind, number), name)
    if other != name:
        raise BuildError(f"{where}: {number} is the {kind} {other}'s, too", "numbers must differ")


def _check_user(user: User, where: str, before: User | None, *, root_has: str) -> None:
    if before is not None and None not in (user.uid, before.uid) and user.uid != before.uid:
        raise BuildError(
            f"{where}.uid: a layer below gives it the number {before.uid}", "leave one of them out"
        )
    if user.name == "root":
        for name, value in (("uid", user.uid), ("sudo", user.sudo), ("system", user.system)):
            if value:
                raise BuildError(f"{where}.{name}: root is as it is", f"remove {name}")
        if user.password or user.hashed_password:
            raise BuildError(
                f"{where}.password: root's password is a field of its own",
                f"use {root_has or 'root_password or hashed_root_password'} at the top of the spec",
            )
    if len(user.password.encode()) > PASSWORD_LIMIT:
        raise BuildError(
            f"{where}.password: longer than the {PASSWORD_LIMIT} bytes that crypt(3) takes"
        )
    if user.ssh_keys and user.system and not user.home and before is None:
        raise BuildError(
            f"{where}.ssh_keys: a system user without a home has no place for keys", "add home"
        )
    used = user.ssh_keys or not user.system
    if user.home and used and (lost := given.vanishing(user.home, folder=True)):
        raise BuildError(f"{where}.home: {lost[0]}", lost[1])


def _check_services(layer: Layer, where: str) -> None:
    verbs: dict[str, str] = {}
    for verb, units in layer.services.given.items():
        for unit in units:
            other = verbs.setdefault(unit, verb)
            if other != verb:
                raise BuildError(
                    f"{where}: {unit} is in {other} and in {verb}", "leave it in one of them"
                )


def _check_scripts(spec: Spec, layer: Layer) -> None:
    env, scripts = (field_of_layer(spec.path, layer.name, one) for one in ("env", "scripts"))
    for run in layer.scripts:
        if taken := [name for name in OURS if name in run.env]:
            raise BuildError(f"{env}: {taken[0]} is what the build sets", "choose another name")
        shown = [name for name, text in run.env.items() if any(one in text for one in spec.secrets)]
        if shown:
            raise BuildError(
                f"{env}.{shown[0]}: a secret of the spec is in it, and logs and records show env",
                "let the machine make what needs it, at its first boot",
            )
        if run.network and not spec.allow_network:
            raise BuildError(
                f"{scripts}: {run.path.name}: network: true, and the spec does not allow it",
                "add allow_network: true at the top of the spec: what it fetches is in no key, so "
                "that the image is not reproducible",
            )


def _takes(pattern: str, kept: str) -> bool:
    """Whether a pattern stands for a path, for what is in it, or for a folder that it is in."""
    wanted, parts = pattern.split("/"), kept.split("/")
    size = min(len(wanted), len(parts))
    return fits("/".join(parts[:size]), "/".join(wanted[:size]))


def _check_removed(pattern: str, where: str) -> None:
    parts = pattern.split("/")[1:]
    if ".." in parts or "." in parts or "" in parts[:-1]:
        raise BuildError(
            f"{where}: {pattern!r} is no plain path", "without `..`, `.` and `//` in it"
        )
    if len(parts) == 1 and parts[0].strip("*?") in ("", "."):
        raise BuildError(f"{where}: {pattern!r} is all of the image", "name what is to go")
    if kept := [one for one in KEPT if _takes(pattern, one)]:
        raise BuildError(
            f"{where}: {pattern!r}: {kept[0]} is needed by apt, by later layers or by the system",
            "remove the packages instead: name- in packages",
        )
