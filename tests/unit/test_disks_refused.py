"""Disks, exports and boot tests of a spec that are refused, and what holds together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.samples import IMAGE
from support.spec_of_disks import ESP, FILES, PLAIN, ROOT, a_disk, disk, export, load, one
from tasks.errors import BuildError
from tasks.formats.table import FILESYSTEMS
from tasks.spec.disks import MIB


def parts(*partitions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A disk with these partitions."""
    return {"disks": {"web": disk(partitions=list(partitions), **fields)}}


def two(**fields: Any) -> dict[str, Any]:
    """Two disks, of which the second has these fields."""
    other = {**disk(), "files": {"b.qcow2": {"format": "qcow2"}}, **fields}
    return {"disks": {"a": disk(), "b": other}}


def three() -> dict[str, Any]:
    """Disks with an EFI system partition each, of which one amid them has none."""
    efi = {"name": "esp", "mount": "/efi"}
    between = disk(firmware=["bios"], partitions=[{"name": "bios"}, ROOT])
    every = {"a": disk(partitions=[efi, ROOT]), "b": between, "c": disk()}
    return {"disks": {
        name: {**one, "files": {f"{name}.qcow2": {"format": "qcow2"}}} for name, one in every.items()
    }}  # fmt: skip


def booted(given: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A disk with the fields that are given, and a boot test with the others."""
    return {**a_disk(**(given or {})), "tests": [{"script": "up.sh", **fields}]}


ESP4 = {**ESP, "size": "64M"}


SWAP = {"name": "swap", "format": "swap", "size": "1M"}


UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


NO_OWN = "so that it has no {} of its own"


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    # The spec's own; each with the message after its file, and a part of the remedy.
    "nothing to make": ({}, "one of images, disks and exports must be given", "whole disks"),
    # Names.
    "partition twice": (parts(ESP, ROOT, {"name": "ROOT", "size": "1M"}),
                        "disks.web.partitions: 'ROOT' stands twice, as 'root'", "not in case alone"),
    "bios is taken": (parts({"name": "bios", "mount": "/srv"}, PLAIN, firmware=["bios"]),
                      "disks.web.partitions: 'bios' stands twice", "added by Strata"),
    "verity's name is taken": (parts(ESP, PLAIN, {"name": "root-verity", "size": "1M"}, loader="uki", verity=True),
                               "disks.web.partitions: 'root-verity' stands twice", "added by Strata"),
    "long name": (parts(ESP, ROOT | {"name": "a" * 37}),
                  f"disks.web.partitions.{'a' * 37}.name: '{'a' * 37}' is longer than the 36 letters", "shorter"),
    "long name for verity": (parts(ESP, {**PLAIN, "name": "a" * 30}, loader="uki", verity=True),
                             f"disks.web.partitions.{'a' * 30}.name: '{'a' * 30}-verity' is longer", "shorter"),
    "file of an image and a disk": ({"images": {"/": {**IMAGE, "file": "web.qcow2"}}, **a_disk()},
                                    "disks.web.files.web.qcow2: 'web.qcow2' is the name of images./.file, too", "another"),
    "file of two disks": (two(files=FILES), "disks.b.files.web.qcow2: 'web.qcow2' is the name of "
                          "disks.a.files.web.qcow2, too", "another"),
    "export and disk": ({**a_disk(), "exports": {"web.qcow2": {"format": "tar"}}},
                        "exports.web.qcow2: 'web.qcow2' is the name of disks.web.files.web.qcow2, too", "another"),
    "block map's file": (a_disk(files={"a": {"format": "raw", "bmap": True}, "a.bmap": {"format": "raw"}}),
                         "disks.web.files.a.bmap: 'a.bmap' is the name of disks.web.files.a.bmap, too", "another"),
    "published name": ({"exports": {"build.json": {"format": "tar"}}},
                       "exports.build.json: 'build.json' is the name of what is published", "another"),
    "metadata": (a_disk(files={"web.yaml": {"format": "raw"}}),
                 "disks.web.files.web.yaml: 'web.yaml' is the name of what is published", "another"),
    # What starts it.
    "no esp": (parts(ROOT), "disks.web.partitions: firmware uefi starts from an EFI system partition", "name: esp"),
    "two esps": (parts(ESP, {"name": "b", "mount": "/efi"}, ROOT), "disks.web.partitions.b: esp is the EFI", "remove"),
    "esp for bios": (parts(ESP, ROOT, firmware=["bios"]),
                     "disks.web.partitions.esp: an EFI system partition, and no firmware", "add uefi"),
    "esp elsewhere": (parts({"name": "esp", "mount": "/boot"}, ROOT),
                      "disks.web.partitions.esp.mount: '/boot'", "mount: /boot/efi"),
    "esp's format": (parts({**ESP, "format": "ext4"}, ROOT),
                     "disks.web.partitions.esp.format: the EFI system partition is vfat", "remove"),
    "esp's type": (parts({**ESP, "type": "linux"}, ROOT),
                   "disks.web.partitions.esp.type: 'linux': firmware finds", "remove"),
    "esp's label": (parts({**ESP, "label": "x"}, ROOT),
                    "disks.web.partitions.esp.label: the EFI system partition is made by Strata, "
                    + NO_OWN.format("label"), "remove"),
    "small esp": (parts(ESP4, ROOT, loader="systemd-boot"),
                  "disks.web.partitions.esp.size: 64M are too small", "write 256M"),
    "bios of arm64": ({"arch": "arm64", **a_disk(firmware=["bios"])},
                      "disks.web.firmware: bios: machines of arm64 have none", "firmware: [uefi]"),
    "grub of riscv64": ({"arch": "riscv64", **a_disk()},
                        "disks.web.loader: grub boots amd64 and arm64, and arch is riscv64", "loader: none"),
    "bios and systemd-boot": (a_disk(firmware=["bios"], loader="systemd-boot"),
                              "disks.web.firmware: bios: systemd-boot is started by UEFI alone", "loader: grub"),
    "bios and uki": (a_disk(firmware=["uefi", "bios"], loader="uki"),
                     "disks.web.firmware: bios: uki is started by UEFI alone", "loader: grub"),
    "bios and 4096": (a_disk(firmware=["bios"], sector=4096),
                      "disks.web.sector: a BIOS reads sectors of 512 bytes", "remove sector"),
    "mbr, bios and 4096": (a_disk(firmware=["bios"], sector=4096, table="mbr"),
                           "disks.web.sector: a BIOS reads sectors of 512 bytes", "remove sector"),
    "bios partition of an mbr": (parts({"name": "bios"}, PLAIN, firmware=["bios"], table="mbr"),
                                 "disks.web.partitions.bios: on an mbr GRUB for BIOS lies before", "remove"),
    "bios type of an mbr": (parts({"name": "b", "type": "bios"}, PLAIN, firmware=["bios"], table="mbr"),
                            "disks.web.partitions.b.type: an MBR has no such partition", "remove"),
    "bios partition for uefi": (parts({"name": "bios"}, ESP, ROOT),
                                "disks.web.partitions.bios: it is for GRUB, and firmware has no bios", "add bios"),
    "two bios partitions": (parts({"name": "bios"}, {"name": "b", "type": "bios"}, ROOT, firmware=["bios"]),
                            "disks.web.partitions.b: bios is for GRUB already", "remove"),
    "bios partition with a file": (parts({"name": "b", "type": "bios", "label": "x"}, ROOT, firmware=["bios"]),
                                   "disks.web.partitions.b.label: this is where GRUB for BIOS lies", "remove"),
    "none with firmware": (a_disk(loader="none", firmware=["uefi"]),
                           "disks.web.firmware: uefi: loader none puts nothing there", "remove firmware"),
    "none with cmdline": (a_disk(loader="none", cmdline="quiet"), "disks.web.cmdline: loader none", "remove"),
    "root= in cmdline": (a_disk(cmdline="quiet root=/dev/sda1"), "disks.web.cmdline: 'root=/dev/sda1'", "remove"),
    "verity with grub": (a_disk(verity=True), "disks.web.verity: only a uki", "loader: uki"),
    "verity on an mbr": (a_disk(verity=True, loader="uki", table="mbr"), "disks.web.verity: it finds", "table: gpt"),
    "verity and grow": (parts(ESP, ROOT, loader="uki", verity=True),
                        "disks.web.partitions.root.grow: with verity, `/` is read-only", "remove grow"),
    "verity of xfs": (parts(ESP, {**PLAIN, "format": "xfs"}, loader="uki", verity=True),
                      "disks.web.verity: `/` is xfs, which has other bytes each time",
                      "write disks.web.partitions.root.format: ext4"),
    "verity of an image in btrfs": ({"images": {"/": {**IMAGE, "format": "btrfs"}}, **a_disk(loader="uki", verity=True)},
                                    "disks.web.verity: `/` is btrfs, which has other bytes each time",
                                    "write images./.format: ext4, with pack: direct"),
    "verity of an image by loop": ({"images": {"/": IMAGE}, **a_disk(loader="uki", verity=True)},
                                   "disks.web.verity: `/` has pack: loop, so that the kernel", "write images./.pack: direct"),
    # Mount points.
    "no root": (parts(ESP, {"name": "srv", "mount": "/srv"}),
                "disks.web.partitions: nothing is mounted at `/`", "mount: /"),
    "no root at all": (parts(ESP, {"name": "a", "size": "1M"}),
                       "disks.web.partitions: nothing is mounted at `/`", "loader: none"),
    "mounted twice": (parts(ESP, ROOT | {"grow": False}, {"name": "b", "mount": "/"}),
                      "disks.web.partitions.b.mount: '/' is where root is mounted", "another mount point"),
    "below the esp": (parts(ESP, {"name": "b", "mount": "/boot/efi/x"}, ROOT),
                      "disks.web.partitions.b.mount: '/boot/efi/x': below /boot/efi", "another mount point"),
    "the kernel's": (parts(ESP, {"name": "b", "mount": "/run/x"}, ROOT),
                     "disks.web.partitions.b.mount: '/run/x': a running system", "leave mount out"),
    "swap with mount": (parts(ESP, {**SWAP, "mount": "/swap"}, ROOT),
                        "disks.web.partitions.swap.mount: this is swap", "no swap is mounted"),
    "swap with uuid": (parts(ESP, {**SWAP, "uuid": UUID}, ROOT),
                       "disks.web.partitions.swap.uuid: this is swap", "remove"),
    "source with format": (parts(ESP, {"name": "f", "source": "firmware.bin", "format": "ext4"}, ROOT),
                           "disks.web.partitions.f.format: this is written from a file as it is", "or source"),
    "source with mount": (parts(ESP, {"name": "f", "source": "firmware.bin", "mount": "/srv"}, ROOT),
                          "disks.web.partitions.f.mount: this is written from a file", "or source"),
    "filesystem of nothing": (parts(ESP, {"name": "f", "format": "ext4", "size": "1M"}, ROOT),
                              "disks.web.partitions.f: a filesystem that nothing of the tree is in", "mount point"),
    "label of nothing": (parts(ESP, {"name": "f", "label": "x", "size": "1M"}, ROOT),
                         "disks.web.partitions.f: a filesystem that nothing of the tree is in", "mount point"),
    # Types and formats.
    "LVM": (parts(ESP, {"name": "pv", "format": "lvm", "size": "1G"}, ROOT),
            "disks.web.partitions.pv.format: 'lvm': an image has no LVM", "preseed"),
    "LUKS": (parts(ESP, {"name": "pv", "format": "crypto_LUKS", "size": "1G"}, ROOT),
             "disks.web.partitions.pv.format: 'crypto_LUKS': an image has no LUKS", "Encrypt="),
    "LUKS on the root": (parts(ESP, {**ROOT, "format": "luks"}),
                         "disks.web.partitions.root.format: 'luks': an image has no LUKS", "cloud-init"),
    "unknown format": (parts(ESP, {**ROOT, "format": "ext5"}),
                       "disks.web.partitions.root.format: 'ext5' is not one of ext2", "did you mean"),
    "GUID on an mbr": (parts({"name": "a", "size": "1M", "type": UUID}, PLAIN, table="mbr", firmware=["bios"]),
                       f"disks.web.partitions.a.type: '{UUID}' is no type of the table mbr", "two hex digits"),
    "digits on a gpt": (parts(ESP, {"name": "a", "size": "1M", "type": "83"}, ROOT),
                        "disks.web.partitions.a.type: '83' is no type of the table gpt", "a GUID"),
    "no type": (parts(ESP, {"name": "a", "size": "1M", "type": "00000000-0000-0000-0000-000000000000"}, ROOT),
                "disks.web.partitions.a.type: '00000000-0000-0000-0000-000000000000': a table has no", "leave it out"),
    "extended": (parts({"name": "a", "size": "1M", "type": "0F"}, PLAIN, table="mbr", firmware=["bios"]),
                 "disks.web.partitions.a.type: '0F': a table has no plain partition", "leave it out"),
    "vfat's uuid": (parts(ESP, {"name": "a", "mount": "/a", "format": "vfat", "uuid": UUID}, ROOT),
                    f"disks.web.partitions.a.uuid: '{UUID}' is not of vfat's form", ""),
    "long label": (parts(ESP, {**ROOT, "format": "xfs", "label": "a" * 13}),
                   "disks.web.partitions.root.label: xfs takes 12 characters", ""),
    "options": (parts(ESP, {**ROOT, "options": "-L x"}), "disks.web.partitions.root.options: ", ""),
    # Growing.
    "two grow": (parts(ESP, {"name": "a", "mount": "/a", "grow": True}, ROOT),
                 "disks.web.partitions.root.grow: a grows as well", "one of them"),
    "not last": (parts(ESP, ROOT, SWAP), "disks.web.partitions.root.grow: swap lies behind it", "put it last"),
    "growing mbr": (parts(ROOT, table="mbr", firmware=["bios"]),
                    "disks.web.partitions.root.grow: systemd-repart(8)", "table: gpt"),
    "growing vfat": (parts(ESP, PLAIN, {"name": "a", "mount": "/a", "format": "vfat", "grow": True}),
                     "disks.web.partitions.a.grow: a vfat cannot grow", "another format"),
    "growing vfat of images": ({"images": {"/": {**IMAGE, "format": "vfat"}}, **parts(ESP, ROOT)},
                               "disks.web.partitions.root.grow: a vfat cannot grow", "another format"),
    "growing swap": (parts(ESP, PLAIN, {**SWAP, "grow": True}),
                     "disks.web.partitions.swap.grow: this is swap", "remove"),
    "growing nothing": (parts(ESP, PLAIN, {"name": "a", "size": "1M", "grow": True}),
                        "disks.web.partitions.a: a filesystem that nothing of the tree is in", "mount point"),
    # Sizes.
    "two rests": (parts(ESP, PLAIN, {"name": "a", "mount": "/a", "size": "rest"}),
                  "disks.web.partitions.a.size: root takes the rest already", "give one of them a size"),
    "no size of swap": (parts(ESP, {"name": "swap", "format": "swap"}, ROOT),
                        "disks.web.partitions.swap: missing field 'size'", "size: 1G"),
    "no size of nothing": (parts(ESP, {"name": "a"}, ROOT),
                           "disks.web.partitions.a: missing field 'size'", "size: 1G"),
    "odd disk": (a_disk(size="4000000000"), "disks.web.size: 4000000000 bytes are no whole MiB", "write 3815M"),
    "odd partition": (parts(ESP, {**PLAIN, "size": "1GB"}),
                      "disks.web.partitions.root.size: 1000000000 bytes are no whole MiB", "write 954M"),
    "too full": (parts(ESP, {**PLAIN, "size": "4G"}), "disks.web.size: 4G are too small", "make it 4162M"),
    "full to the last": (parts(ESP4, {**PLAIN, "size": "4031M"}), "disks.web.size: 4G are too small", "4097M"),
    "huge disk": (a_disk(size="17T"), "disks.web.size: larger than 16T", "smaller"),
    "slack of a size": (a_disk(slack="1G"), "disks.web.slack: the disk has a size", "size: fit"),
    "odd slack": (a_disk(size="fit", slack="1000K"), "disks.web.slack: 1024000 bytes are no whole MiB", "write 1M"),
    "slack of nobody": (parts(ESP, {**PLAIN, "size": "1G"}, size="fit", slack="1G"),
                        "disks.web.slack: no partition takes it", "size: rest"),
    "small for its image": ({"images": {"/": {**IMAGE, "size": "2G"}}, **parts(ESP, {**PLAIN, "size": "1G"})},
                            "disks.web.partitions.root.size: 1G are too small: images./.size is 2G", "larger"),
    "small for xfs": (parts(ESP, {**PLAIN, "format": "xfs", "size": "299M"}),
                      "disks.web.partitions.root.size: 299M are too small: no xfs has less than 300M", "larger"),
    "small for btrfs, fit": (parts(ESP, {**PLAIN, "format": "btrfs", "size": "100M"}, size="fit"),
                             "disks.web.partitions.root.size: 100M are too small: no btrfs", "another format"),
    "huge partition of a fit disk": (parts(ESP, PLAIN, {"name": "a", "size": "999999999999T"}, size="fit"),
                                     "disks.web.partitions: they have ", "smaller"),
    "huge partitions together": (parts(ESP, PLAIN, *({"name": n, "size": "9T"} for n in "ab"), size="fit"),
                                 "disks.web.partitions: they have ", "smaller"),
    "huge esp": (parts({**ESP, "size": "3T"}, PLAIN, size="4T"),
                 "disks.web.partitions.esp.size: 3T: a vfat has 2T at the most", "smaller"),
    "huge vfat": (parts(ESP, PLAIN | {"size": "1G"}, {"name": "a", "mount": "/a", "format": "vfat", "size": "rest"}, size="4T"),
                  "disks.web.partitions.a.size: 4193214M: a vfat has 2T at the most", "another format"),
    "rest of a fit disk for an esp": (parts({**ESP, "size": "rest"}, {**PLAIN, "size": "1G"}, size="fit"),
                                      "disks.web.partitions.esp.size: rest: a vfat is made as large", "give it a size"),
    "rest beside what has no size": (parts(ESP, {"name": "root", "mount": "/"},
                                           {"name": "a", "mount": "/a", "format": "vfat", "size": "rest"}),
                                     "disks.web.partitions.a.size: rest: a vfat is made as large", "each other"),
    "rest that is too small for kernels": (parts({**ESP, "size": "rest"}, {**PLAIN, "size": "4000M"}, loader="systemd-boot"),
                                           "disks.web.partitions.esp.size: 94M are too small", "write 256M"),
    "vfat of images in a larger one": ({"images": {"/": IMAGE, "/a": {"file": "b", "format": "vfat"}},
                                        **parts(ESP, PLAIN, {"name": "a", "mount": "/a", "size": "100M"})},
                                       "disks.web.partitions.a.size: 100M, and images./a.size is none of its own", "100M"),
    # Sectors.
    "vfat of 4096": (parts(ESP, ROOT | {"grow": False}, {"name": "a", "mount": "/a", "format": "vfat", "size": "64M"},
                           sector=4096),
                     "disks.web.partitions.a: its vfat has sectors of 512 bytes, and the disk of 4096", "options: -S 4096"),
    "xfs of 4096": (parts(ESP, {**ROOT, "format": "xfs"}, sector=4096),
                    "disks.web.partitions.root: its xfs has sectors of 512 bytes", "options: -s size=4096"),
    "ext of 1024 on 4096": (parts(ESP, {**ROOT, "options": "-b1024"}, sector=4096),
                            "disks.web.partitions.root.options: blocks of 1024 bytes, and the disk has sectors", "-b 4096"),
    "xfs of images on 4096": ({"images": {"/": {**IMAGE, "format": "xfs"}}, **a_disk(sector=4096)},
                              "images./: its xfs has sectors of 512 bytes", "remove sector"),
    # Tables.
    "five of an mbr": (parts(*({"name": f"p{n}", "size": "1M"} for n in range(4)), PLAIN, table="mbr", firmware=["bios"]),
                       "disks.web.partitions: 5 are more than the 4 that the table mbr has", "table: gpt"),
    "large mbr": (a_disk(size="3T", table="mbr", firmware=["bios"]), "disks.web.size: an mbr has 2T", "table: gpt"),
    # Files of the project.
    "no source": (parts(ESP, {"name": "f", "source": "none.bin"}, ROOT),
                  "disks.web.partitions.f.source: ", "paths are relative to the spec's folder"),
    "source outside": (parts(ESP, {"name": "f", "source": "/etc/passwd"}, ROOT),
                       "disks.web.partitions.f.source: /etc/passwd cannot be read: it is outside the project", "copy it"),
    "source is a folder": (parts(ESP, {"name": "f", "source": "../specs"}, ROOT),
                           "disks.web.partitions.f.source: ", "name a file"),
    "empty source": (parts(ESP, {"name": "f", "source": "empty.sh"}, ROOT),
                     "disks.web.partitions.f.source: ", "leave the field out"),
    # Published files.
    "bmap of qcow2": (a_disk(files={"a": {"format": "qcow2", "bmap": True}}),
                      "disks.web.files.a.bmap: bmaptool(1) writes raw disks alone", "format: raw"),
    "level alone": (a_disk(files={"a": {"format": "raw", "level": "best"}}),
                    "disks.web.files.a.level: nothing is compressed", "add a container"),
    "large vhd": (a_disk(size="2041G", files={"a": {"format": "vhd"}}),
                  "disks.web.files.a.format: a vhd has 2040G at the most, and the disk has 2041G", "smaller"),
    "vhd of 4096": (a_disk(sector=4096, files={"a": {"format": "vhd"}}),
                    "disks.web.files.a.format: vhd has sectors of 512 bytes", "raw or qcow2"),
    # Beside images, and beside another disk.
    "image that the disk lacks": ({"images": {"/": IMAGE, "/boot": {"file": "b", "format": "ext2"}}, **parts(ESP, ROOT)},
                                  "disks.web.partitions: nothing is mounted at /boot", "mount: /boot"),
    "mount that images lack": ({"images": {"/": IMAGE}, **parts(ESP, {"name": "a", "mount": "/a"}, ROOT)},
                               "disks.web.partitions.a.mount: it takes what is at /a out of `/`", "add images./a"),
    "image of the esp": ({"images": {"/": IMAGE, "/boot/efi": {"file": "b", "format": "vfat"}}, **parts(ESP, ROOT)},
                         "images./boot/efi: it is the EFI system partition of disks.web", "remove the image"),
    "two loaders": (two(loader="uki"), "disks.b.loader: uki, and of disks.a it is grub", "into a variant"),
    "two cmdlines": (two(cmdline="quiet"), "disks.b.cmdline: 'quiet', and of disks.a it is ''", "into a variant"),
    "two cuts": (two(partitions=[ESP, {"name": "a", "mount": "/a"}, ROOT]),
                 "disks.b.partitions: mount points: /, /a, and of disks.a it is /", "a spec of its own"),
    "one grows": (two(partitions=[ESP, PLAIN]), "disks.b.partitions: grow: none, and of disks.a it is /", "agree"),
    "two filesystems": (two(partitions=[ESP, {**ROOT, "format": "xfs"}]),
                        "disks.b.partitions.root.format: 'xfs', and of disks.a it is 'ext4'", "agree"),
    "two esp mounts": (two(partitions=[{"name": "esp", "mount": "/efi"}, ROOT]),
                       "disks.b.partitions: mount point of the EFI system partition: /efi, and", "agree"),
    "esp mounts of the first and last": (
        three(), "disks.c.partitions: mount point of the EFI system partition: /boot/efi, and of disks.a it is "
        "/efi", "agree"),
    # Exports.
    "compressed squashfs": (export(format="squashfs", container="gzip"),
                            "exports.x.container: gzip: squashfs compresses by itself", "remove the field"),
    "compressed netboot": (export(format="netboot", container="xz"), "exports.x.container: xz: netboot", "remove"),
    "raw oci": (export(format="oci", container="raw"), "exports.x.container: raw: oci has gzip or zstd", "gzip, zstd"),
    "xz oci": (export(format="oci", container="xz"), "exports.x.container: xz: oci has gzip or zstd", "gzip, zstd"),
    "level of raw tar": (export(format="tar", level="best"), "exports.x.level: nothing is compressed", "container"),
    "config of tar": (export(format="tar", config={"user": "a"}), "exports.x.config: it is of images", "format: oci"),
    "cmdline of tar": (export(format="tar", cmdline="a"), "exports.x.cmdline: no kernel is started", "netboot"),
    "root of netboot": (export(format="netboot", cmdline="root=x"), "exports.x.cmdline: 'root=x'", "remove"),
    "large port": (export(format="oci", config={"ports": ["70000/tcp"]}),
                   "exports.x.config.ports: 70000/tcp is more than 65535", "largest"),
    "port twice": (export(format="oci", config={"ports": [80, "80/tcp"]}),
                   "exports.x.config.ports: 80/tcp stands twice", "of TCP"),
    # Boot tests.
    "no disk": ({"exports": {"x": {"format": "tar"}}, "tests": [{"script": "up.sh"}]},
                "tests[0]: the spec has no disk to boot", "add one to disks"),
    "unknown disk": (booted(disk="wep"), "tests[0].disk: there is no disk 'wep'", "did you mean 'web'"),
    "no such firmware": (booted(firmware=["bios"]), "tests[0].firmware: bios: disks.web has firmware uefi", "remove"),
    "secure uki": (booted({"loader": "uki"}, firmware=["uefi-secure"]),
                   "tests[0].firmware: uefi-secure: disks.web has loader uki, which nobody has signed", "remove"),
    "named disk's firmware": (booted(disk="web", firmware=["uefi", "bios"]), "tests[0].firmware: bios: ", "remove"),
    "no loader to boot": (booted({"loader": "none"}), "tests[0].disk: disks.web has no firmware", "a loader"),
    "no script": (booted(script="none.sh"), "tests[0].script: ", "relative to the spec's folder"),
    "empty script": (booted(script="empty.sh"), "tests[0].script: ", "write it"),
    "script outside": (booted(script="/etc/passwd"), "tests[0].script: /etc/passwd cannot be read: it is outside", "copy"),
    "script is a folder": (booted(script="../specs"), "tests[0].script: ", "name a file"),
    "little memory": (booted(memory="127M"), "tests[0].memory: 127M is not between 128M and 1T", "1G"),
    "much memory": (booted(memory="2T"), "tests[0].memory: 2T is not between 128M and 1T", "1G"),
    "no time": (booted(timeout=0), "tests[0].timeout: 0: less than 1", ""),
    "all day": (booted(timeout=86401), "tests[0].timeout: 86401: more than 86400", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_refused_is_told_with_its_place_and_a_remedy(tmp_path: Path, what: str) -> None:
    given, message, hint = BAD[what]
    with pytest.raises(BuildError) as caught:
        load(tmp_path, **given)
    told = caught.value
    assert told.message.startswith(f"{tmp_path}/specs/web.yaml: {message}"), told.message
    assert hint in told.hint
    assert told.hint
    assert "\n" not in told.message


def test_a_script_larger_than_a_script_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.sh").write_bytes(b"#" * (MIB + 1))
    with pytest.raises(BuildError, match="larger than the 1 MiB of a script"):
        load(tmp_path, **booted(script="large.sh"))


def test_a_source_larger_than_its_partition_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(b"x" * (MIB + 1))
    given = parts(ESP, {"name": "f", "source": "large.bin", "size": "1M"}, ROOT)
    with pytest.raises(
        BuildError, match=r"partitions\.f\.size: 1M are too small: .* has 1048577 b"
    ):
        load(tmp_path, **given)


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="outside the project"):
        load(tmp_path, **parts(ESP, {"name": "f", "source": "link.bin"}, ROOT))


@pytest.mark.parametrize("name", FILESYSTEMS)
def test_every_filesystem_of_images_may_be_on_a_disk(tmp_path: Path, name: str) -> None:
    found = one(tmp_path, partitions=[ESP, {"name": "srv", "mount": "/srv", "format": name}, ROOT])
    assert found.filesystems[1].image is not None
    assert found.filesystems[1].image.format == name


GOOD: dict[str, dict[str, Any]] = {
    "the issue's": {
        "disks": {"server": disk(
            size="8G", table="gpt", firmware=["uefi", "bios"], loader="grub", cmdline="console=ttyS0", sector=512,
            partitions=[{"name": "esp", "size": "128M", "mount": "/boot/efi"}, ROOT], verity=False,
            files={"server.qcow2": {"format": "qcow2"}, "server.vhd": {"format": "vhd"},
                   "server.img.gz": {"format": "raw", "container": "gzip", "bmap": True}})},
        "exports": {"server-oci": {"format": "oci", "container": "gzip", "config": {}},
                    "server.sqfs": {"format": "squashfs"}, "netboot": {"format": "netboot"}},
        "tests": [{"script": "up.sh", "timeout": 120}],
    },
    "data alone": parts({"name": "a", "size": "1M"}, SWAP, loader="none"),
    "an esp made elsewhere": parts({"name": "e", "source": "firmware.bin", "type": "esp"}, PLAIN, loader="none"),
    "exact fit": parts(ESP4, {**PLAIN, "size": "4030M"}),
    "an mbr for uefi": parts(ESP, PLAIN, table="mbr"),
    "four of an mbr": parts(ESP, SWAP, {"name": "a", "mount": "/a"}, PLAIN, table="mbr"),
    "2 TiB of an mbr": a_disk(size="2T", table="mbr"),
    "4096 by uefi": a_disk(sector=4096),
    "filesystems for 4096": parts(
        ESP, {"name": "a", "mount": "/a", "format": "vfat", "size": "64M", "options": "-S 4096"},
        {"name": "x", "mount": "/x", "format": "xfs", "options": "-s size=4096"},
        {"name": "b", "mount": "/b", "format": "btrfs"}, {**PLAIN, "options": "-b 4096"}, sector=4096),
    "vfat as large as images have it": {
        "images": {"/": IMAGE, "/a": {"file": "b", "format": "vfat", "size": "100M"}},
        **parts(ESP, PLAIN, {"name": "a", "mount": "/a", "size": "100M"})},
    "compressed qcow2": a_disk(files={"a": {"format": "qcow2", "container": "gzip", "level": "best"}}),
    "largest vhd": a_disk(size="2040G", files={"a": {"format": "vhd"}}),
    "boot below": parts({"name": "esp", "mount": "/boot/efi"}, {"name": "boot", "mount": "/boot"}, ROOT),
    "arm64": {"arch": "arm64", **a_disk(loader="systemd-boot")},
    "riscv64 without loader": {"arch": "riscv64", **parts(PLAIN, loader="none")},
    "secure": booted({"loader": "systemd-boot"}, firmware=["uefi-secure"]),
    "two disks of one tree": two(firmware=["bios"], size="20G"),
    "36 letters": parts(ESP, ROOT | {"name": "ä" * 36}),
}  # fmt: skip


@pytest.mark.parametrize("what", GOOD)
def test_what_holds_together_is_taken(tmp_path: Path, what: str) -> None:
    spec = load(tmp_path, **GOOD[what])
    assert [one.name for one in spec.disks] == sorted(GOOD[what]["disks"])
