"""Locked packages into a tree, by its own apt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..debian import apt
from ..host.sandbox import Step, step

INSIDE = "/dev/.strata/in"
"""Where a stage's inputs are seen in the sandbox: on the private /dev, so no trace is left."""


NO_MARKS = "/dev/.strata/extended_states"
"""Where apt writes that all it installs was asked for, since it is told each by name.

The tree's own marks stay as they are, whoever made them, but for what `apt_steps` sets."""


APT = ("env", f"APT_CONFIG={INSIDE}/own.conf")


# What dpkg runs is the packages' again.
DPKG = f"""#!/bin/sh
export APT_CONFIG={INSIDE}/apt.conf
exec /usr/bin/dpkg "$@"
"""


PRESEED = ("/bin/sh", "-c", f"exec debconf-set-selections {INSIDE}/debconf/*")


# invoke-rc.d(8) asks it before it starts anything; 101 says no.
# Not the bare two lines: that is what a user's own says in many images, and it must stay.
POLICY = "#!/bin/sh\n# Strata's, while it builds\nexit 101\n"


# Any name in the tree may be a script's own, so the tree's file waits on the private /dev.
SET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if [ -e /usr/sbin/policy-rc.d ] || [ -L /usr/sbin/policy-rc.d ]; then
    mv /usr/sbin/policy-rc.d /dev/.strata/policy-rc.d
fi
mkdir -p /usr/sbin && cat {INSIDE}/policy-rc.d > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
"""


UNSET_POLICY = f"""
mkdir -p /dev/.strata/lists/partial /dev/.strata/cache/archives/partial /dev/.strata/log
if cmp -s {INSIDE}/policy-rc.d /usr/sbin/policy-rc.d; then
    rm /usr/sbin/policy-rc.d
    if [ -e /dev/.strata/policy-rc.d ] || [ -L /dev/.strata/policy-rc.d ]; then
        mv /dev/.strata/policy-rc.d /usr/sbin/policy-rc.d
    fi
fi  # else it was replaced or removed, and the tree has what did that
"""


# A kernel's postinst makes an initramfs, and the trigger of initramfs-tools makes it again when all
# is configured. Found first in dpkg's PATH while packages are installed, this puts an empty one in
# place for what looks whether there is one (boot loaders' hooks run with it), and MAKE_INITRAMFS
# makes it once, in the end. Called otherwise than by update-initramfs(8) it is mkinitramfs(8).
MKINITRAMFS = """#!/bin/sh
real=/usr/sbin/mkinitramfs
if [ "$1" = -v ]; then verbose=-v; shift; else verbose=; fi
if ! [ -e /dev/.strata/later ] || [ $# -ne 3 ] || [ "$1" != -o ] ||
        [ "${2##*/}" != "initrd.img-$3.new" ]; then
    exec $real $verbose "$@"
fi
echo "$3 ${2%/*}" >> /dev/.strata/later
: > "$2"
"""


LATER = ": > /dev/.strata/later"


# The list is not the commands' input: a hook that reads its own would take the rest of it.
MAKE_INITRAMFS = """
sort -u /dev/.strata/later > /dev/.strata/now
rm /dev/.strata/later
while read -r version folder <&3; do
    file=$folder/initrd.img-$version
    if ! [ -e "$file" ] || [ -s "$file" ]; then continue; fi
    update-initramfs -u -k "$version" -b "$folder" < /dev/null
    if ! [ -s "$file" ]; then  # update_initramfs=no in update-initramfs.conf(5)
        rm "$file"
        update-initramfs -c -k "$version" -b "$folder" < /dev/null
    fi
    [ -s "$file.bak" ] || rm -f "$file.bak"
    if ! [ -s "$file" ]; then echo "error: $file is empty"; exit 1; fi
done 3< /dev/.strata/now
"""


# dpkg(1) reads these of the files whose names run-parts(8) would take, and no option turns it off.
# What is said with its default value says nothing.
CHECK_DPKG = r"""
for file in "$1"/dpkg.cfg "$1"/dpkg.cfg.d/* "$2"; do
    case $file in "$1"/dpkg.cfg.d/*[!A-Za-z0-9_-]*) continue ;; esac
    [ -f "$file" ] || continue
    line=$(grep -anE '^(no-act|dry-run|simulate|admindir|instdir|root)([^[:alnum:]-]|$)' "$file" |
        grep -avE ':(admindir[= ]+"?/var/lib/dpkg/?|(instdir|root)[= ]+"?/)"?[[:space:]]*$' |
        head -n 1)
    if [ -n "$line" ]; then
        printf 'error: %s: line %s: %s: %s\n' "$file" "${line%%:*}" "${line#*:}" \
            "with this, dpkg installs nothing that is locked into the image; $3"
        exit 1
    fi
done
"""


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
            step(
                "/bin/sh",
                "-c",
                CHECK_DPKG,
                "sh",
                "/etc/dpkg",
                "/root/.dpkg.cfg",
                "give the file in a layer after the last one with packages",
            )
        )
    steps += [step("dpkg", "--add-architecture", name) for name in given["foreign"]]
    if given["debconf"]:
        steps.append(step(*PRESEED, title="preseeding"))
    if wanted or removes:
        steps.append(step(*APT, "apt-get", "update", title="reading the locked packages"))
        steps.append(step("/bin/sh", "-c", LATER))
        # The lock names each, and locking refuses what is essential unless the spec names it so.
        gone = ["--allow-remove-essential"] if removes else []
        steps.append(
            step(
                *APT, "apt-get", "install", "--yes", "--allow-downgrades",
                "--allow-change-held-packages", *gone, "--no-install-recommends",
                "--option", f"Dir::State::extended_states={NO_MARKS}",
                *wanted, *removes,
                title=f"installing {len(wanted)} packages",
            )
        )  # fmt: skip
        steps.append(step("/bin/sh", "-e", "-c", MAKE_INITRAMFS))
    for mark in ("auto", "manual"):
        if given[mark]:
            steps.append(step(*APT, "apt-mark", mark, *given[mark]))
    return steps


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
    options = ["--force-unsafe-io", "--force-confold", "--force-confdef", "--no-force-confnew",
               "--no-force-confask", "--force-downgrade"]  # fmt: skip
    lines += [f"DPkg::Options:: {apt.quoted(option)};" for option in options]
    return "\n".join(lines) + "\n"
