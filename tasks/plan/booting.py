"""What the tree itself holds of how it is booted: the command line, grub.cfg, fstab, repart.d.

The disks of a spec share its tree, so they have the same loader, mount points and command line.
Kernel names stand in none of these files where Debian's own links do: a new one changes none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cmp_to_key

from ..debian.ordering import compared
from ..errors import BuildError
from ..formats.table import FILESYSTEMS
from ..spec.disks import Disk, Partition
from ..spec.model import Spec
from . import guids
from .entries import Entry, made_file, made_link
from .fstab import Row
from .lockfile import Lock

GROWING = ("ext", "xfs", "btrfs")
"""What systemd-growfs(8) makes larger."""
EFI = {"amd64": "x64", "arm64": "aa64"}
"""What UEFI calls an architecture in names of files, in small letters: UEFI specification 3.5."""

VERITY_ROOT = "/dev/mapper/root"
"""Where systemd-veritysetup-generator(8) has the root filesystem."""


# ---------------------------------------------------------------- what is asked of a spec


def booted(spec: Spec) -> Disk | None:
    """The disk that says how the tree is booted: the first that has a boot loader."""
    return next((disk for disk in spec.disks if disk.loader != "none"), None)


def boot_mount(disk: Disk) -> str:
    """The mount point of the filesystem that /boot lies on: `/boot` itself, or `/`."""
    mounts = {one.mount for one in disk.filesystems}
    return "/boot" if "/boot" in mounts else "/"


def vendor(lock: Lock) -> str:
    """The folder in EFI/ that the distribution's signed GRUB looks for grub.cfg in."""
    origins = {repo.fields.get("Origin", "") for repo in lock.repos}
    return "ubuntu" if "Ubuntu" in origins else "debian"


def kernels(lock: Lock) -> list[str]:
    """The releases of the kernels that are locked, the newest first.

    By the names of their packages: one that only depends on a kernel has no number in its own.
    """
    found = set()
    for record in lock.installed():
        name = re.fullmatch(r"linux-image-(?:unsigned-)?([0-9].*)", record.package)
        if name and not name[1].endswith(("-dbg", "-dbgsym")):
            found.add(name[1])
    return sorted(found, key=cmp_to_key(compared), reverse=True)


def cmdline(spec: Spec, disk: Disk) -> str:
    """A kernel's command line, but for the root hash, which a verity stage finds out."""
    words = [f"root=UUID={guids.filesystem_uuid(spec, '/')}"]
    hashes = disk.of_kind("verity")
    if disk.verity and hashes is not None:
        # As systemd-veritysetup-generator(8) and kernel-command-line(7) have them.
        data = next(one for one in disk.filesystems if one.mount == "/")
        words = [f"root={VERITY_ROOT}"]
        for name, part in (("data", data), ("hash", hashes)):
            words.append(
                f"systemd.verity_root_{name}=PARTUUID={guids.part_uuid(spec, disk, part.name)}"
            )
    return " ".join([*words, "ro", _one_line(disk.cmdline)]).strip()


def _one_line(text: str) -> str:
    return re.sub(r"\s*[\r\n]+\s*", " ", text).strip()


# ---------------------------------------------------------------- files


def entries(spec: Spec, lock: Lock) -> list[Entry]:
    """The files, links and mount points that the last layer of the tree has for its disks.

    /etc/fstab is not among them: see `rows`.
    """
    found = [_folder(mount) for mount in mount_points(spec)]
    disk = booted(spec)
    if disk is not None and disk.loader == "grub":
        found += _grub(spec, disk, lock)
    elif disk is not None and not disk.verity:
        found += [
            made_file("/etc/kernel/cmdline", cmdline(spec, disk) + "\n"),
            made_file("/etc/kernel/entry-token", vendor(lock) + "\n"),
        ]
        if disk.loader == "uki":
            found += _uki_hooks(spec, disk)
    return [*found, *growing(spec)]


def _folder(path: str) -> Entry:
    return Entry(target=path, kind="folder", source=None, content=b"", mode=0o755, owner="0:0")


def mount_points(spec: Spec) -> list[str]:
    """Where partitions of the disks are mounted, but `/`."""
    return sorted({one.mount for disk in spec.disks for one in disk.partitions} - {"", "/"})


def _grub(spec: Spec, disk: Disk, lock: Lock) -> list[Entry]:
    found = [
        made_file("/boot/grub/grub.cfg", grub_config(spec, disk)),
        made_file("/etc/default/grub.d/strata.cfg", grub_defaults(disk)),
    ]
    if boot_mount(disk) == "/boot":
        # Debian's links are in /, which GRUB does not see then: linux-update-symlinks(1).
        found.append(made_file("/etc/kernel-img.conf", "link_in_boot = yes\n"))
        for release in kernels(lock)[:1]:
            found.append(made_link("/boot/vmlinuz", f"vmlinuz-{release}"))
            found.append(made_link("/boot/initrd.img", f"initrd.img-{release}"))
    return found


UKI_HOOK = """\
#!/bin/sh
# Made of the disks of a spec: what UEFI starts is of the kernel that was installed last.
set -e
case "$DEB_MAINT_PARAMS" in ""|*configure*) ;; *) exit 0 ;; esac
mountpoint -q {esp} && test -f /boot/vmlinuz-"$1" && test -f /boot/initrd.img-"$1" || exit 0
new=$(mktemp -p {esp}/EFI/BOOT)
trap 'rm -f "$new"' EXIT
ukify build --linux=/boot/vmlinuz-"$1" --initrd=/boot/initrd.img-"$1" --uname="$1" \\
    --cmdline=@/etc/kernel/cmdline --os-release=@/etc/os-release --output="$new"
sync "$new"
mv -f "$new" {esp}/EFI/BOOT/{name}
"""
"""Debian has no hook of its own for a unified kernel image that no boot loader starts."""


def _uki_hooks(spec: Spec, disk: Disk) -> list[Entry]:
    """Scripts that run for each new kernel, and for each new initramfs of initramfs-tools."""
    esp = disk.of_kind("esp")
    if esp is None or not esp.mount or spec.arch not in EFI:
        return []
    name = f"BOOT{EFI[spec.arch].upper()}.EFI"
    text = UKI_HOOK.format(esp=shlex.quote(esp.mount), name=name)
    return [
        replace(made_file(f"/etc/{folder}/zz-strata-uki", text), mode=0o755)
        for folder in ("kernel/postinst.d", "initramfs/post-update.d")
    ]


def grub_words(text: str) -> str:
    """A command line as GRUB's own language has it, a word for each that the kernel sees.

    Of quotes the kernel knows the double ones (lib/cmdline.c: next_arg).
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)
    found = []
    for word in (one.replace('"', "") for one in words):
        plain = re.fullmatch(r"[A-Za-z0-9@%_+=:,./-]+", word)
        found.append(word if plain else "'" + word.replace("'", "'\\''") + "'")
    return " ".join(found)


def grub_config(spec: Spec, disk: Disk) -> str:
    """A grub.cfg that names no kernel but Debian's and Ubuntu's links to the newest."""
    words = grub_words(cmdline(spec, disk))
    places = ["/"] if boot_mount(disk) == "/boot" else ["/", "/boot/"]
    # GRUB takes a link for a file whether or not it leads anywhere.
    chosen = "".join(
        f"{'elif' if number else 'if'} [ -e {place}vmlinuz ]; then\n\tset links={place}\n"
        for number, place in enumerate(places)
    )
    return f"""\
# Made of the disks of a spec. Each new kernel has update-grub(8) write another one.
set default=0
set timeout=1
{chosen}fi
menuentry 'GNU/Linux' --class gnu-linux --class os {{
	linux ${{links}}vmlinuz {words}
	if [ -e ${{links}}initrd.img ]; then
		initrd ${{links}}initrd.img
	fi
}}
"""


def grub_defaults(disk: Disk) -> str:
    """A file of /etc/default/grub.d, by which update-grub(8) writes the same command line."""
    return f"""\
# Made of the disks of a spec: see update-grub(8).
GRUB_TIMEOUT=1
GRUB_DISABLE_OS_PROBER=true
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX={shlex.quote(grub_words(disk.cmdline))}
"""


def growing(spec: Spec) -> list[Entry]:
    """Files of repart.d(5) for what grows at boot; BuildError where two disks need others.

    A file stands for the first partition of its type that no other one stands for, so there is one
    for each partition of that type. Those that have no room behind them stay as they are.
    """
    first: tuple[Disk, list[Entry], str] | None = None
    for disk in spec.disks:
        types = [guids.type_of(one, disk.table, spec.arch) for one in disk.partitions]
        for grown, kind in zip(disk.partitions, types, strict=True):
            if not grown.grow:
                continue
            same = [number for number, one in enumerate(types) if one == kind]
            found = [_repart(disk.partitions[number], number, kind) for number in same]
            if first is None:
                first = (disk, found, kind)
            elif (len(found), kind) != (len(first[1]), first[2]):
                raise BuildError(
                    f"{spec.path}: disks.{disk.name}.partitions.{grown.name}.grow: the files of "
                    f"systemd-repart(8) in the one tree name {len(first[1])} partitions of type "
                    f"{first[2]}, as disks.{first[0].name} has, and this disk has {len(found)} of "
                    f"type {kind}",
                    "let both have the same, or put one of the two into a variant",
                )
    return first[1] if first else []


def _repart(partition: Partition, number: int, kind: str) -> Entry:
    name = re.sub(r"[^a-z0-9_-]+", "-", partition.name.lower())
    text = f"# Made of the disks of a spec.\n[Partition]\nType={kind}\n"
    return made_file(f"/etc/repart.d/{number + 10}-{name}.conf", text)


# ---------------------------------------------------------------- fstab


def rows(spec: Spec) -> list[Row]:
    """The lines of /etc/fstab for all that the disks of a spec have, in the order of fstab(5).

    What only some of them have is no reason to wait for it.
    """
    found: dict[tuple[str, str], Row] = {}
    having: dict[tuple[str, str], int] = {}
    for disk in spec.disks:
        for one in disk.partitions:
            row = _row(spec, disk, one)
            if row is not None:
                place = (row.mount, row.source if row.type == "swap" else "")
                found.setdefault(place, row)
                having[place] = having.get(place, 0) + 1
    ordered = sorted(found.items(), key=lambda pair: (pair[1].type == "swap", pair[0]))
    return [
        row if having[place] == len(spec.disks) else row._replace(options=f"{row.options},nofail")
        for place, row in ordered
    ]


def _row(spec: Spec, disk: Disk, one: Partition) -> Row | None:
    if one.kind == "swap":
        return Row(f"UUID={guids.swap_uuid(spec, one.name)}", "none", "swap", "sw", 0, 0)
    if not one.mount:
        return None
    source = f"UUID={guids.filesystem_uuid(spec, one.mount)}"
    if one.kind == "esp":
        return Row(source, one.mount, "vfat", "umask=0077", 0, 2)
    image = guids.image_at(spec, one.mount)
    if image is None:
        return None
    root = one.mount == "/"
    if root and disk.verity:
        # It is mounted already, for reading, by the command line; with systemd.volatile=overlay
        # a line here would have systemd-remount-fs(8) make what lies over it read-only, too.
        return None
    options = "defaults"
    if root and image.format.startswith("ext"):
        options = "errors=remount-ro"
    elif image.format == "vfat":
        options = "umask=0077"
    if FILESYSTEMS[image.format].short_uuid:
        source = source.upper()
    # What it is packed as is as small as can be, whatever its partition's size.
    if image.format.startswith(GROWING):
        options += ",x-systemd.growfs"
    check = 0 if image.format in ("xfs", "btrfs") else 1 if root else 2
    return Row(source, one.mount, image.format, options, 0, check)


# ---------------------------------------------------------------- boot loaders


def grub_home(spec: Spec, disk: Disk) -> tuple[str, str]:
    """(UUID of the filesystem that grub.cfg is on, its folder there)."""
    mount = boot_mount(disk)
    return guids.filesystem_uuid(spec, mount), "/grub" if mount == "/boot" else "/boot/grub"


def esp_texts(spec: Spec, disk: Disk, lock: Lock) -> dict[str, str]:
    """Files of an EFI system partition that are texts, by path; of a .csv UEFI wants UTF-16."""
    if disk.loader == "grub":
        uuid, folder = grub_home(spec, disk)
        name = vendor(lock)
        # As grub-install(8) of Debian writes it beside a signed GRUB.
        prefix = f"set prefix=($root)'{folder}'\nconfigfile $prefix/grub.cfg\n"
        return {f"EFI/{name}/grub.cfg": f"search.fs_uuid {uuid} root\n{prefix}"}
    if disk.loader == "systemd-boot":
        # loader.conf(5), and the mark of kernel-install(8) for what its entries are.
        return {"loader/loader.conf": "timeout 1\n", "loader/entries.srel": "type1\n"}
    return {}


def bios_config(spec: Spec, disk: Disk) -> str:
    """What GRUB's core for BIOS does before it reads grub.cfg."""
    uuid, folder = grub_home(spec, disk)
    return f"search.fs_uuid {uuid} root\nset prefix=($root)'{folder}'\n"


GRUB_FORMATS = {"ext2": "ext2", "ext3": "ext2", "ext4": "ext2", "vfat": "fat"}
"""GRUB's modules of filesystems that are called otherwise there."""


def bios_modules(spec: Spec, disk: Disk) -> tuple[str, ...]:
    """The modules of that core: all that grub.cfg, ours or update-grub's, asks for.

    The tree has no folder of modules where GRUB looks for them: grub-install(8) never ran.
    """
    image = guids.image_at(spec, boot_mount(disk))
    kind = image.format if image is not None else "ext4"
    return tuple(
        sorted(
            {
                "part_gpt" if disk.table == "gpt" else "part_msdos",
                GRUB_FORMATS.get(kind, kind),
                *BIOS_MODULES,
            }
        )
    )


BIOS_MODULES: Sequence[str] = (
    "biosdisk", "normal", "configfile", "search", "search_fs_uuid", "linux", "test", "echo",
    "gzio", "xzio", "lzopio", "sleep", "serial", "terminal", "loadenv", "true", "minicmd",
    "gettext", "gfxterm", "all_video", "font", "png", "reboot", "halt", "ls", "cat", "regexp",
)  # fmt: skip
