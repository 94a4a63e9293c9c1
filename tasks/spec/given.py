"""What a spec gives may not be lost: paths that no image keeps, and paths that are given twice.

Pure: paths and texts in, refusals out. What shows only in a tree (links on the way, what a script
made) is looked at by tasks.own and tasks.layer.
"""

from __future__ import annotations

import posixpath
from collections.abc import Container, Iterable, Mapping, Sequence

MOUNTED = ("/dev", "/proc", "/sys", "/run", "/tmp")
"""Filled anew by each boot, and while a layer is built: what is put there is in no image."""


LOCALE_CONF = "/etc/locale.conf"
"""locale.conf(5): where /etc/default/locale leads since Debian 13, by its package locales."""


MADE_BY = {
    "/etc/hostname": "hostname",
    "/etc/timezone": "timezone",
    "/etc/localtime": "timezone",
    "/etc/default/locale": "locale",
    LOCALE_CONF: "locale",
    "/etc/shadow": "root_password",
    "/etc/fstab": "fstab",
    "/etc/systemd/system/strata-ssh-host-keys.service": "ssh_host_keys",
    "/etc/apt/sources.list.d/strata.sources": "apt_sources",
    "/etc/apt/preferences.d/strata": "apt_sources",
}
"""What a field of the spec makes and a user's own file would contradict. Not here, since they yield
to the user's: /etc/hosts, which is left alone, and /etc/locale.gen, to which a line is added."""


DEBCONF = {
    "tzdata/Areas": "timezone",
    "tzdata/Zones/": "timezone",
    "locales/default_environment_locale": "locale",
}
"""Questions whose answer a field of the spec is, too; one that ends in a slash begins the name."""


UNSET = {"Etc", "UTC", "None"}
"""Their answers where nobody says anything else."""


def plain(target: str) -> str:
    """An absolute path without `.` and double slashes: `..` is refused before."""
    return "/" + posixpath.normpath(target).strip("/").removeprefix(".")


def mounted(path: str) -> str:
    """The folder of MOUNTED at or below which a path lies, or ""."""
    return next((top for top in MOUNTED if path == top or path.startswith(f"{top}/")), "")


def vanishing(target: str, *, folder: bool = False) -> tuple[str, str] | None:
    """Why a target would be in no image and what to do, or None; a folder itself is there."""
    path = plain(target)
    top = mounted(path)
    if not top or (folder and path == top):
        return None
    advice = {
        "/run": "let the image make it at boot: a file in /usr/lib/tmpfiles.d does (tmpfiles.d(5))",
        "/tmp": "let the image make it at boot: a file in /usr/lib/tmpfiles.d does (tmpfiles.d(5))",
        "/dev": "let udev make it at boot: a rule in /etc/udev/rules.d does",
        "/sys": "a setting of the kernel is made at boot: by a file in /usr/lib/tmpfiles.d",
        "/proc": "a setting of the kernel is made at boot: by a file in /etc/sysctl.d",
    }
    return f"{target!r} would be in no image: {top} is empty until the system boots", advice[top]


def contradicted(target: str, settings: Iterable[str], repos: Sequence[str]) -> str:
    """The field, of those that a spec has, that makes a file at this target, too, or ""."""
    made = dict(MADE_BY)
    for repo in repos:
        for ending in ("gpg", "asc"):
            made[f"/etc/apt/keyrings/{repo}.{ending}"] = "apt_sources"
    field = made.get(plain(target), "")
    if field == "root_password" and "hashed_root_password" in settings:
        return "hashed_root_password"
    return field if field in settings else ""


def unasked(
    lines: Iterable[str], below: Container[str], comes: Container[str], settings: Container[str]
) -> list[str]:
    """The debconf answers for packages that are there `below` and do not come with this layer.

    Packages ask while they are installed, so that nobody asks for these any more. Not those of
    debconf's own, which it looks at whenever it runs, and none that a field of the spec makes true,
    or that says what is there without one.
    """
    found = []
    for line in lines:
        package, *rest = line.split(None, 3)
        if package not in below or package in comes or package == "debconf":
            continue
        field = field_of(line)
        if not field or (field not in settings and rest[2:] and rest[2].strip() not in UNSET):
            found.append(line)
    return found


def field_of(line: str) -> str:
    """The field of a spec that says the same as a debconf answer, or ""."""
    question = line.split(None, 2)[1]
    for name, field in DEBCONF.items():
        if question == name or (name.endswith("/") and question.startswith(name)):
            return field
    return ""


def misanswered(lines: Iterable[str], settings: Mapping[str, str]) -> tuple[str, str] | None:
    """(line, field): a debconf answer that says something else than a field of the spec, or None.

    A zone's answer is an area and a name below it, each a question: one alone must fit, too.
    """
    for line in lines:
        _package, question, _kind, *rest = line.split(None, 3)
        value = rest[0].strip() if rest else ""
        field = field_of(line)
        wanted = settings.get(field, "")
        if not wanted:
            continue
        area, _, zone = wanted.partition("/")
        if question == "tzdata/Areas":
            fits = value == (area if zone else "Etc") or not zone
        elif field == "timezone":
            # Answers of other areas are asked by nobody.
            fits = question != f"tzdata/Zones/{area}" or value == zone
        else:
            fits = value == wanted
        if not fits:
            return line, field
    return None
