"""Accounts, overlays, units, services and scripts of a layer, as the model has them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import BuildError
from .model import File, Group, Overlay, Run, Services, User
from .names import filled

UNITS = "/etc/systemd/system"

KINDS = ("service", "socket", "timer", "mount", "automount", "swap", "target", "path", "slice")
"""What a unit's file may end in; the others are made while a system runs (systemd.unit(5))."""

KEY_TYPES = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")
"""How a public key's line begins, unless options stand before it (sshd(8))."""

Find = Callable[[str], Path]


def groups_of(entry: Mapping[str, Any]) -> tuple[Group, ...]:
    """The groups of a layer, in the order of the spec."""
    return tuple(
        Group(name=name, gid=(fields or {}).get("gid"), system=(fields or {}).get("system", False))
        for name, fields in entry.get("groups", {}).items()
    )


def users_of(entry: Mapping[str, Any], find: Find) -> tuple[User, ...]:
    """The users of a layer, in the order of the spec; keys that are no line are files."""
    found = []
    for name, given in entry.get("users", {}).items():
        fields = given or {}
        sudo = fields.get("sudo", False)
        found.append(
            User(
                name=name,
                uid=fields.get("uid"),
                groups=tuple(fields.get("groups", ())),
                comment=fields.get("comment", ""),
                shell=fields.get("shell", ""),
                home=fields.get("home", ""),
                password=fields.get("password", ""),
                hashed_password=fields.get("hashed_password", ""),
                ssh_keys=tuple(
                    key if is_key(key) else find(key) for key in fields.get("ssh_keys", ())
                ),
                sudo="password" if sudo is True else sudo or "",
                system=fields.get("system", False),
            )
        )
    return tuple(found)


def fits(path: str, pattern: str) -> bool:
    """Whether a path is one of a shell's pattern, in which `*` and `?` stand for no slash."""
    parts, wanted = path.split("/"), pattern.split("/")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) == len(wanted) and all(fnmatch.fnmatchcase(*pair) for pair in pairs)


def is_key(text: str) -> bool:
    """Whether a text is a line of authorized_keys(5), no path: its second word is not empty."""
    return text.startswith(KEY_TYPES) and len(text.split()) > 1


def overlays_of(
    entry: Mapping[str, Any], find: Find, owner: Callable[[str], str]
) -> tuple[Overlay, ...]:
    """The overlays of a layer."""
    found = []
    for given in entry.get("overlays", ()):
        fields: dict[str, Any] = {"source": given} if isinstance(given, str) else given
        found.append(
            Overlay(
                source=find(fields["source"]),
                owner=owner(fields.get("owner", "root:root")),
                owned="owner" in fields,
                modes={path: int(mode, 8) for path, mode in fields.get("modes", {}).items()},
            )
        )
    return tuple(found)


def unit_files(entry: Mapping[str, Any], find: Find, where: str) -> list[File]:
    """The unit files of a layer, as files for systemd; BuildError for what is no unit."""
    found = []
    for name in entry.get("units", ()):
        path = find(name)
        folder = path.parent.name.removesuffix(".d")
        kind = path.suffix.lstrip(".")
        dropped = kind == "conf" and path.parent.name.endswith(".d")
        if (folder.rpartition(".")[2] if dropped else kind) not in KINDS:
            raise BuildError(
                f"{where}units: {name}: it ends in no kind of unit",
                f"kinds: {', '.join(f'.{one}' for one in KINDS)}; a drop-in lies in a folder of "
                "its unit's name, as in files/ssh.service.d/port.conf",
            )
        target = f"{UNITS}/{path.parent.name}/{path.name}" if dropped else f"{UNITS}/{path.name}"
        found.append(
            File(
                target=target, source=path, content=None, owner="root:root", mode=0o644, owned=True
            )
        )
    return sorted(found, key=lambda file: file.target)


def services_of(entry: Mapping[str, Any]) -> Services:
    """What becomes of units; `ssh` is ssh.service."""
    given = entry.get("services", {})

    def names(verb: str) -> tuple[str, ...]:
        return tuple(sorted({unit_name(name) for name in given.get(verb, ())}))

    return Services(enable=names("enable"), disable=names("disable"), mask=names("mask"))


def unit_name(name: str) -> str:
    """A unit's whole name: as systemctl(1), which takes what has no kind for a service."""
    return name if name.rpartition(".")[2] in (*KINDS, "device", "scope") else f"{name}.service"


def scripts_of(
    entry: Mapping[str, Any], find: Find, names: Mapping[str, str], where: str
) -> tuple[Run, ...]:
    """The scripts of a layer, `script` first, each with the layer's variables and its own."""

    def variables(given: Mapping[str, Any], place: str) -> dict[str, str]:
        return {
            name: filled(_text(value), names, f"{place}env.{name}") for name, value in given.items()
        }

    common = variables(entry.get("env", {}), where)
    given: list[Any] = [entry["script"]] if "script" in entry else []
    given += entry.get("scripts", ())
    if common and not given:
        raise BuildError(f"{where}env: there is no script to see it", "add script, or remove env")
    found = []
    for one in given:
        fields: dict[str, Any] = {"source": one} if isinstance(one, str) else one
        own = variables(fields.get("env", {}), f"{where}scripts.")
        found.append(
            Run(
                path=find(fields["source"]),
                env=dict(sorted({**common, **own}.items())),
                network=fields.get("network", False),
            )
        )
    return tuple(found)


def _text(value: str | float) -> str:
    """A value of YAML as it would be written there: true, not True."""
    return str(value).lower() if isinstance(value, bool) else str(value)
