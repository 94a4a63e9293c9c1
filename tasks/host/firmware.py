"""Firmware for machines of QEMU's: where Debian's and Ubuntu's packages have it.

Of UEFI there are two files: the code, which is read only, and the variables, of which each machine
has a copy. Those with `.ms` in their name know the keys that shim is signed with, and enforce them
(ovmf's /usr/share/doc/ovmf/README.Debian).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import BuildError


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """One firmware of one architecture: pairs of code and variables, the first that is there.

    `secure`: only for code in system management mode may the variables be written.
    """

    package: str
    files: tuple[tuple[str, str], ...]
    secure: bool = False


_SEABIOS = "/usr/share/seabios/bios-256k.bin"

_OVMF = "/usr/share/OVMF/OVMF_"

_AAVMF = "/usr/share/AAVMF/AAVMF_"

FIRMWARE: Mapping[tuple[str, str], Firmware] = {
    ("amd64", "bios"): Firmware(package="seabios", files=((_SEABIOS, ""),)),
    ("amd64", "uefi"): Firmware(
        package="ovmf",
        files=(
            (f"{_OVMF}CODE_4M.fd", f"{_OVMF}VARS_4M.fd"),
            (f"{_OVMF}CODE.fd", f"{_OVMF}VARS.fd"),
        ),
    ),
    ("amd64", "uefi-secure"): Firmware(
        package="ovmf",
        secure=True,
        files=(
            (f"{_OVMF}CODE_4M.ms.fd", f"{_OVMF}VARS_4M.ms.fd"),
            (f"{_OVMF}CODE_4M.secboot.fd", f"{_OVMF}VARS_4M.ms.fd"),
            (f"{_OVMF}CODE.ms.fd", f"{_OVMF}VARS.ms.fd"),
        ),
    ),
    ("arm64", "uefi"): Firmware(
        package="qemu-efi-aarch64",
        files=((f"{_AAVMF}CODE.no-secboot.fd", f"{_AAVMF}VARS.fd"),
               (f"{_AAVMF}CODE.fd", f"{_AAVMF}VARS.fd")),
    ),
    ("arm64", "uefi-secure"): Firmware(
        package="qemu-efi-aarch64",
        secure=True,
        files=((f"{_AAVMF}CODE.ms.fd", f"{_AAVMF}VARS.ms.fd"),),
    ),
}  # fmt: skip

PACKAGES = {one.package: one for one in FIRMWARE.values()}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Firmware of this host; `variables` is None where it has none of its own."""

    firmware: Firmware
    code: Path
    variables: Path | None


def names(arch: str) -> list[str]:
    """The kinds of firmware that there are for an architecture."""
    return [name for one, name in FIRMWARE if one == arch]


def package_of(arch: str, name: str, where: str) -> str:
    """The Debian package of it; BuildError where that architecture has no such firmware."""
    if (arch, name) not in FIRMWARE:
        known = ", ".join(names(arch))
        raise BuildError(
            f"{where}: {name}: no machine of {arch} has this firmware",
            f"it has {known}" if known else f"disks of {arch} can be neither booted nor tested",
        )
    return FIRMWARE[arch, name].package


def find(arch: str, name: str, where: str) -> Found:
    """The firmware's files; BuildError names the package where the host has none."""
    package = package_of(arch, name, where)
    firmware = FIRMWARE[arch, name]
    for code, variables in firmware.files:
        if Path(code).is_file() and (not variables or Path(variables).is_file()):
            return Found(
                firmware=firmware,
                code=Path(code),
                variables=Path(variables) if variables else None,
            )
    raise BuildError(
        f"the host has no firmware {name} for {arch}: {firmware.files[0][0]} is missing",
        f"apt-get install {package}",
    )


def file_of(package: str) -> Path:
    """A file of a package of firmware, by which its version is found; BuildError without one."""
    found = [
        Path(path)
        for one in FIRMWARE.values()
        if one.package == package
        for pair in one.files
        for path in pair
        if path and Path(path).is_file()
    ]
    if not found:
        raise BuildError(
            f"the host has no firmware of {package}: {PACKAGES[package].files[0][0]} is missing",
            f"apt-get install {package}",
        )
    return found[0]
