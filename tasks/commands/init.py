"""`strata init`: a project of one's own, with a spec to begin with."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import BuildError
from ..host import safe
from ..host.files import write_text
from ..spec.load import SCHEMA

SPEC = """\
# yaml-language-server: $schema=spec.schema.json
# {name}: `strata build spec={name}` makes it, in out/{name}/; `strata help` lists the rest.

# Where packages come from; the first one bootstraps. ${{mirror}} is what this host installs from,
# unless mirror=ADDRESS or STRATA_MIRROR says another one.
repos:
  - {{name: debian, uri: "${{mirror}}", suite: bookworm, section: main}}
  - {{name: updates, uri: "${{mirror}}", suite: bookworm-updates, section: main}}

# The base chroot: minbase is what Debian calls required, with apt.
base: {{tool: mmdebstrap, variant: minbase}}

# What the image is to have. For a machine that boots, add a kernel and an init:
# [systemd-sysv, linux-image-cloud-amd64, initramfs-tools]
packages: [ca-certificates]

# Steps of their own, each redone only when it, or what is below it, changes.
# layers:
#   - name: app
#     packages: [nginx-light, sudo, openssh-server, systemd-sysv]
#     users: {{admin: {{ssh_keys: [keys/admin.pub], sudo: nopasswd}}}}
#     files: {{/var/www/html/index.html: files/index.html}}   # relative to this folder
#     units: [files/hello.service]
#     services: {{enable: [nginx, hello]}}
#     scripts: [scripts/setup.sh]                           # what no field says

hostname: {name}
# timezone: Europe/Berlin
# locale: de_DE.UTF-8
# root_password: …        # without one, root's password is locked

# A file for each mount point.
images:
  /: {{file: {name}.img.gz, format: ext4}}
"""

DODO = "from strata.dodo import *  # noqa: F403 - so that plain `doit build spec=foo` works, too\n"

LIMIT = 1 << 20
"""Bytes of a .gitignore."""

IGNORED = ("/cache/", "/out/", "/report/", "/.doit/", "/*.key")


def init(root: Path, name: str) -> list[str]:
    """Write what a project needs into a folder and leave alone what is there; a line of each.

    Raises BuildError for a name that no spec may have, or a folder that cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise BuildError(f"init {name}: a spec's name is letters, digits and . _ -", "as in: web")
    said = []
    try:
        for path, text in (
            ("dodo.py", DODO),
            (f"specs/{name}.yaml", SPEC.format(name=name)),
            ("specs/spec.schema.json", SCHEMA.read_text(encoding="utf-8")),
        ):
            said.append(_written(root / path, path, text))
        said.append(_ignored(root / ".gitignore"))
    except OSError as error:
        raise BuildError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return [*said, f"now: strata build spec={name}"]


def _written(path: Path, shown: str, text: str) -> str:
    if os.path.lexists(path):
        return f"{shown} is there: left alone"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(safe.creating(path), "w", encoding="utf-8") as file:
        file.write(text)
    return f"wrote {shown}"


def _ignored(path: Path) -> str:
    """What builds make is not for git."""
    there = ""
    if os.path.lexists(path):
        try:
            there = safe.read_bytes(path, LIMIT).decode("utf-8", "replace")
        except OSError:
            return f".gitignore is no file to add to: add {' '.join(IGNORED)}"
    missing = [line for line in IGNORED if line not in there.splitlines()]
    if not missing:
        return ".gitignore is right: left alone"
    if not there:
        return _written(path, ".gitignore", "".join(f"{line}\n" for line in missing))
    joint = "" if there.endswith("\n") else "\n"
    write_text(path, there + joint + "".join(f"{line}\n" for line in missing))
    return f"added to .gitignore: {' '.join(missing)}"
