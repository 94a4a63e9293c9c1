"""Checkouts whose spec has disks: with stand-ins for a kernel and GRUB, which boot nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.boot_trees import KERNEL, LOADERS
from support.debs import make_deb
from support.file_server import Server
from support.repository import Repository
from support.world import World, populate, stocked

BOOTED = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: apt}
packages: [linux-image-6.1.0-9-amd64, initramfs-tools, systemd, grub-pc-bin]
layers:
  - {name: loader, packages: [shim-signed, grub-efi-amd64-signed]}
  - {name: app, packages: [alpha]}
images:
  /: {file: web.img.gz, format: ext4}
disks:
  server:
    size: 128M
    firmware: [uefi, bios]
    cmdline: quiet
    partitions:
      - {name: esp, size: 34M, mount: /boot/efi}
      - {name: swap, size: 4M, format: swap}
      - {name: firmware, source: files/firmware.bin}
      - {name: data, size: 4M}
      - {name: root, mount: /, size: rest, grow: true}
    files:
      a.img: {format: raw, bmap: true}
      a.img.gz: {format: raw, container: gzip}
      a.qcow2: {format: qcow2}
      a.vhd: {format: vhd}
      a.vmdk: {format: vmdk}
"""
"""GRUB for both firmwares, a partition of each kind but verity, all formats."""

PLAIN = """\
repos:
  - {name: main, uri: "${mirror}", suite: stable, section: main, keyring: keys/test.gpg}
base: {tool: mmdebstrap, variant: extract, include: [baseline, shell]}
disks:
  server:
    size: 64M
    loader: none
    partitions:
      - {name: boot, mount: /boot, size: 8M}
      - {name: root, mount: /, size: rest}
    files:
      a.qcow2: {format: qcow2}
      a.img.zst: {format: raw, container: zstd}
"""
"""A tree of 4 MB that is not configured, on a disk that nothing boots: two seconds for all."""

MKIMAGE = """\
#!/bin/sh
set -eu
for word; do case $word in --output=*) out=${word#*=};; --config=*) config=${word#*=};; esac; done
cat /usr/lib/grub/i386-pc/kernel.img "$config" > "$out"
"""
"""A grub-mkimage whose core is some bytes and its configuration."""

FIRMWARE = b"firmware\n" * 1000


def boot_debs(folder: Path) -> list[Path]:
    """The packages that BOOTED has beside the base: stand-ins for those that boot a disk."""

    def text(names: tuple[str, ...]) -> dict[str, str | bytes]:
        return {f"/{name}": name * 100 for name in names}

    boot = b"boot" * 127 + b"xx\x55\xaa"
    core: dict[str, str | bytes] = {"/usr/lib/grub/i386-pc/boot.img": boot,
            "/usr/lib/grub/i386-pc/kernel.img": b"core" * 8000,
            "/usr/bin/grub-mkimage": MKIMAGE}  # fmt: skip
    return [
        make_deb(folder, "linux-image-6.1.0-9-amd64", files=text(KERNEL)),
        make_deb(folder, "initramfs-tools"),
        make_deb(folder, "systemd", "252.1-1"),
        make_deb(folder, "grub-pc-bin", files=core),
        make_deb(folder, "shim-signed", files=text(LOADERS[:-1])),
        make_deb(folder, "grub-efi-amd64-signed", files=text(LOADERS[-1:])),
    ]


@contextmanager
def disk_world(folder: Path, closure: list[Path], env: dict[str, str]) -> Iterator[World]:
    """A checkout with the spec BOOTED, and nothing built, beside a repository of its packages."""
    debs = folder / "debs"
    repository = Repository(folder / "repository")
    repository.add(*boot_debs(debs))
    populate(repository, debs, closure)
    with Server(repository.root) as server:
        world = stocked(folder / "checkout", repository, server, debs, env, BOOTED)
        world.write("files/firmware.bin", "").write_bytes(FIRMWARE)
        yield world
