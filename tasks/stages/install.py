"""Locked packages into a tree, by its own apt."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..debian import apt
from ..host.sandbox import Step, step
from ..spec.words import counted
from .inside import INSIDE, SCRIPTS, shell
from .status import STATUS_FD, STATUS_OPTION

NO_MARKS = "/dev/.strata/extended_states"
"""Where apt writes that all it installs was asked for, since it is told each by name.

The tree's own marks stay as they are, whoever made them, but for what `apt_steps` sets."""

APT = ("env", f"APT_CONFIG={INSIDE}/own.conf")
PRESEED = ("/bin/sh", "-c", f"exec debconf-set-selections {INSIDE}/debconf/*")
LATER = ": > /dev/.strata/later"


def apt_steps(given: Mapping[str, Any]) -> list[Step]:
    """The commands that install exactly the locked packages, in the image's own apt.

    `given` are the stage's inputs, of which its key is made: what these steps are given is all
    there, and an argument from elsewhere would be one that no key knows.
    """
    wanted = [
        f"{package}:{given['arch'] if architecture == 'all' else architecture}={version}"
        for package, version, architecture, _sha256 in given["records"]
    ]
    removes = [f"{name}-" for name in given["removes"]]
    steps = []
    if wanted or removes or given["foreign"]:
        steps.append(
            shell(
                "check-dpkg",
                "/etc/dpkg",
                "/root/.dpkg.cfg",
                "give the file in a layer after the last one with packages",
            )
        )
    steps += [step("dpkg", "--add-architecture", name) for name in given["foreign"]]
    if given["debconf"]:
        steps.append(step(*PRESEED, title="preseeding", shown=""))
    if wanted or removes:
        reading = "reading the locked packages"
        steps.append(step(*APT, "apt-get", "update", title=reading, shown="apt-get update"))
        steps.append(step("/bin/sh", "-c", LATER, shown=""))
        steps.append(_install_step(wanted, removes))
        steps.append(shell("make-initramfs"))
    for mark in ("auto", "manual"):
        if given[mark]:
            typed = shlex.join(["apt-mark", mark, *given[mark]])
            steps.append(step(*APT, "apt-mark", mark, *given[mark], shown=typed))
    return steps


def _install_step(wanted: Sequence[str], removes: Sequence[str]) -> Step:
    """The apt-get that installs and removes these, and tells how far it is."""
    # The lock names each, and locking refuses what is essential unless the spec names it so.
    gone = ["--allow-remove-essential"] if removes else []
    return step(
        *STATUS_FD,
        *APT,
        "apt-get",
        "install",
        *STATUS_OPTION,
        "--yes",
        "--allow-downgrades",
        "--allow-change-held-packages",
        *gone,
        "--no-install-recommends",
        "--option",
        f"Dir::State::extended_states={NO_MARKS}",
        *wanted,
        *removes,
        title=f"installing {counted(len(wanted), 'package')}",
        shown=shlex.join(["apt-get", "install", *wanted, *removes]),
    )


def preseeds(answers: Sequence[str]) -> list[str]:
    """Files of debconf-set-selections(1), in order, that hold these answers.

    It joins a line that ends in a backslash to the next, but for the last of a file: an answer
    that ends so, such as a password, ends its file.
    """
    files = [""]
    for line in answers:
        files[-1] += line + "\n"
        if line.removesuffix("\r").endswith("\\"):
            files.append("")
    return [text for text in files if text]


def inside_apt_conf(*, own: bool) -> str:
    """apt.conf in the sandbox: all state is elsewhere, and only locked packages are seen.

    Strata's `own` apt reads nothing of the image's configuration: what is in there must not change
    how locked packages are installed, nor run a hook. An apt that a package's or the spec's script
    calls reads it as ever.
    """
    settings = {
        "Dir::Etc::sourcelist": f"{INSIDE}/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": "/dev/.strata/lists",
        "Dir::Cache": "/dev/.strata/cache",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Log": "/dev/.strata/log",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        "Acquire::Languages": "none",
        "Dpkg::Use-Pty": "0",
        "DPkg::Path": f"{INSIDE}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    if own:
        # APT_CONFIG is read before all other files, so that it can say that there are none.
        settings |= {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::netrc": "/dev/null",
            "Dir::Etc::netrcparts": "/dev/null",
            "Dir::Bin::dpkg": f"{INSIDE}/dpkg",
        }
    lines = [f"{name} {apt.quoted(value)};" for name, value in settings.items()]
    # conffiles: what files of layers below put there stays, without a question. The image's own
    # dpkg.cfg(5) holds as well, which the last three keep from saying otherwise.
    options = [
        "--force-unsafe-io",
        "--force-confold",
        "--force-confdef",
        "--no-force-confnew",
        "--no-force-confask",
        "--force-downgrade",
    ]
    lines += [f"DPkg::Options:: {apt.quoted(option)};" for option in options]
    return "\n".join(lines) + "\n"


def give(folder: Path, answers: Sequence[str]) -> None:
    """Fill the folder that the sandbox sees at INSIDE with what apt, dpkg and debconf need."""
    (folder / "apt.conf").write_text(inside_apt_conf(own=False))
    (folder / "own.conf").write_text(inside_apt_conf(own=True))
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{INSIDE}/repo ./\n")
    (folder / "bin").mkdir()
    for script, name in (("dpkg", "dpkg"), ("mkinitramfs", "bin/mkinitramfs")):
        shutil.copyfile(SCRIPTS / f"{script}.sh", folder / name)
        (folder / name).chmod(0o755)
    if answers:
        (folder / "debconf").mkdir()
        for number, text in enumerate(preseeds(answers)):
            (folder / f"debconf/{number:06}").write_text(text, encoding="utf-8")
