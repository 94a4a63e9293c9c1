"""The SSH server's host keys: no image has any, a unit makes them at the machine's first boot."""

from __future__ import annotations

from ..errors import BuildError
from ..spec.model import Spec
from .entries import Entry, made_file, made_link
from .lockfile import Lock

PACKAGE = "openssh-server"
"""Whose postinst makes them, so that a build removes them: see rootfs.drawn."""

NAME = "strata-ssh-host-keys.service"

FOLDER = "/etc/systemd/system"

# Without the default dependencies, which come after basic.target: ssh.socket comes before it.
# sshd-keygen.service, of Debian 13, makes keys where an empty machine-id is no first boot to it;
# where it is one, two ssh-keygen at once would mix up their keys.
UNIT = """\
[Unit]
Description=SSH host keys of this machine
Documentation=man:ssh-keygen(1)
DefaultDependencies=no
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
RequiresMountsFor=/etc/ssh
After=local-fs.target
Before=ssh.service ssh.socket sshd.service sshd-keygen.service
Before=sshd-unix-local.socket sshd-vsock.socket
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target ssh.service ssh.socket
"""

WANTED_BY = ("multi-user.target", "ssh.service", "ssh.socket")
"""What [Install] of UNIT says: whatever starts the server starts it, too."""


def first_boot(spec: Spec, lock: Lock) -> bool:
    """Whether the unit is in the image: as the spec says, else by what is locked.

    BuildError where the spec wants it and what it needs is not locked.
    """
    said = spec.settings.ssh_host_keys
    if said == "none":
        return False
    locked = {record.package for record in lock.installed()}
    systemd = not locked.isdisjoint({"systemd", "systemd-sysv"})
    if said:
        for there, name in ((PACKAGE in locked, PACKAGE), (systemd, "systemd-sysv")):
            if not there:
                raise BuildError(
                    f"{spec.path}: ssh_host_keys: first-boot needs {name}, which is not in the "
                    "lock",
                    f"add {name} to packages, or leave ssh_host_keys out",
                )
        return True
    # cloud-init makes them itself; and in a tree that is only unpacked nothing runs.
    unpacked = spec.base.variant == "extract"
    return PACKAGE in locked and systemd and "cloud-init" not in locked and not unpacked


def entries() -> list[Entry]:
    """The unit, and the links that enable it, as systemctl(1) makes them."""
    unit = f"{FOLDER}/{NAME}"
    links = [made_link(f"{FOLDER}/{one}.wants/{NAME}", unit) for one in WANTED_BY]
    return [made_file(unit, UNIT), *links]
