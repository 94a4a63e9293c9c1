"""A unified kernel image: kernel, initramfs and command line in one file that UEFI starts.

The tree's own ukify(1) makes it, and with dm-verity the tree's own dracut(8) an initramfs for it:
the one that the kernel's package made knows nothing of verity.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ..builder import Builder
from ..host import safe
from ..host.sandbox import Step, step
from ..plan.booting import EFI
from ..plan.top_jobs import EspJob
from .parts import WORK, Tree, result, run_inside

STUB = "/usr/lib/systemd/boot/efi"

RELEASE_LIMIT = 1 << 16
"""Bytes of an os-release(5) that are read."""


def os_release(tree: Tree) -> dict[str, str]:
    """The fields of the tree's os-release(5), without the quotes."""
    found = tree.find("/etc/os-release") or tree.find("/usr/lib/os-release")
    if found is None:
        return {}
    with open(safe.reading(found), "rb") as file:
        text = file.read(RELEASE_LIMIT).decode("utf-8", "replace")
    fields = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Z0-9_]+", name):
            continue
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        fields[name] = "".join(sign for sign in " ".join(words) if sign.isprintable())
    return fields


def make(job: EspJob, builder: Builder, tree: Tree, work: Path, release: str) -> Path:
    """The image of a kernel, in the folder `work`."""
    stub = f"{STUB}/linux{EFI[job.arch]}.efi.stub"
    tree.need(stub, "systemd-boot-efi")
    tree.need("/usr/bin/ukify", "systemd-ukify")
    tree.need(f"/boot/vmlinuz-{release}", "the kernel")
    tree.need("/etc/os-release", "base-files")
    steps: list[Step] = []
    words = job.cmdline
    initrd = f"/boot/initrd.img-{release}"
    if job.verity is not None:
        tree.need("/usr/bin/dracut", "dracut")
        initrd = f"{WORK}/initrd.img"
        steps.append(_dracut(initrd, release))
        words += f" roothash={builder.cache.require(job.verity).facts['root_hash']}"
    else:
        tree.need(initrd, "initramfs-tools")
    steps.append(
        step(
            "ukify",
            "build",
            f"--linux=/boot/vmlinuz-{release}",
            f"--initrd={initrd}",
            f"--cmdline={words}",
            "--os-release=@/etc/os-release",
            f"--uname={release}",
            f"--stub={stub}",
            f"--output={WORK}/uki.efi",
            title="making the unified kernel image",
        )
    )
    builder.log.step(f"making a unified kernel image of {release}")
    run_inside(job, builder, tree, work, steps, job.stage.title)
    return result(work, "uki.efi", tree, "ukify")


def _dracut(target: str, release: str) -> Step:
    """An initramfs for any machine that sets up dm-verity, and overlays for systemd.volatile."""
    return step(
        "dracut",
        "--force",
        "--quiet",
        "--no-hostonly",
        "--reproducible",
        "--add",
        "systemd-veritysetup",
        "--add-drivers",
        "overlay",
        target,
        release,
        title="making an initramfs for dm-verity",
    )
