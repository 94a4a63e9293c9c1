"""Whole disks in the benchmark: Strata's and mkosi's, of the same packages of Debian 13.

Both take them from the host's own mirror, and have all .debs at hand before anything is measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Run, run
from ours import MORE, Checkout
from tasks.plan.repositories import find_mirrors

HERE = Path(__file__).resolve().parent

PACKAGES = ["systemd-sysv", "dbus", "udev", "systemd-boot", "systemd-boot-efi", "openssh-server", "curl", "vim-tiny",
            "python3", "kmod", "systemd-repart", "linux-image-cloud-amd64"]  # fmt: skip
"""Of both. mkosi makes its initramfs of packages of its own choice, Strata by initramfs-tools."""

MKOSI = ["mkosi", "systemd-repart", "ca-certificates"]
"""What the tree that mkosi runs in has beside a minimal Debian 13."""


def cases(work: Path, state: Path) -> dict[str, Callable[[], Run]]:
    """Each case once, of both; `state` keeps the tree that mkosi runs in."""
    return {**_ours(work), **_mkosi(work / "mkosi-disk", state / "trixie")}


# ---------------------------------------------------------------- ours


def spec(more: str, container: str) -> dict[str, Any]:
    """A disk with systemd-boot, with a package more in a layer of its own, in this container."""
    repo = {"name": "debian", "uri": "${mirror}", "suite": "trixie", "section": "main"}
    ending = {"raw": "", "zstd": ".zst"}[container]
    return {
        "repos": [repo],
        "packages": [*PACKAGES, "initramfs-tools", "zstd"],
        **({"layers": [{"name": "more", "packages": [more]}]} if more else {}),
        "disks": {"disk": {"size": "fit", "loader": "systemd-boot",
                           "files": {f"disk.img{ending}": {"format": "raw", "container": container}}}},
    }  # fmt: skip


def _ours(work: Path) -> dict[str, Callable[[], Run]]:
    ours = Checkout(work / "ours-disk", {}, None)
    rounds = {"package": 0}

    def measured(more: str, container: str, expected: dict[str, str], **options: Any) -> Run:
        ours.write("disk", spec(more, container))
        found = ours.build("disk", **options)
        got = ours.results("disk")
        assert {stage: got.get(stage) for stage in expected} == expected, got
        return found

    def cold() -> Run:
        if not (ours.root / "cache/debs").exists():
            measured("", "raw", {"base base": "built"})  # fetches
        ours.forget("cache/layers", "cache/images", "out", ".doit")
        return measured("", "raw", {"base base": "built", "filesystem /": "built",
                                    "esp disk": "built", "file disk.img": "built"})  # fmt: skip

    def nothing() -> Run:
        return measured("", "raw", {"file disk.img": "hit"}, lock="keep", every=9)

    def form() -> Run:
        for path in (ours.root / "cache/images").glob("file-*.zst*"):
            path.unlink()
        return measured("", "zstd", {"filesystem /": "hit", "file disk.img.zst": "built"})

    def package() -> Run:
        more = MORE[rounds["package"]]
        rounds["package"] += 1
        ours.write("disk", spec(more, "raw"))
        ours.lock("disk")
        return measured(more, "raw", {"layer packages": "hit", "layer more": "built",
                                      "file disk.img": "built"})  # fmt: skip

    return {"ours: disk": cold, "ours: disk, nothing": nothing, "ours: disk, a format": form,
            "ours: disk, a package": package}  # fmt: skip


# ---------------------------------------------------------------- mkosi


def _tree(root: Path) -> None:
    """Make the tree that mkosi runs in, once."""
    if (root / "usr/bin/mkosi").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    given = find_mirrors({})
    subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={','.join(MKOSI)}", "trixie", root,
                    f"deb {given['mirror']} trixie main"], check=True)  # fmt: skip


def _mkosi(work: Path, root: Path) -> dict[str, Callable[[], Run]]:
    _tree(root)
    work.mkdir()
    rounds = {"package": 0}
    env = {"PATH": os.environ["PATH"], "HOME": "/root", "ROOT": str(root), "WORK": str(work),
           "MIRROR": find_mirrors({})["mirror"], "OUTPUT": "", "PACKAGES": " ".join(PACKAGES)}  # fmt: skip

    def built(*words: str, check: bool = True, **more: str) -> Run:
        found = run([HERE / "mkosi-disk.sh", *words], cwd=work, log=work.with_suffix(".log"),
                    env={**env, **more}, check=check)  # fmt: skip
        assert list((work / "out").glob("image.raw*"))
        return found

    def cold() -> Run:
        if not any((work / "packages").glob("**/*.deb") if work.exists() else ()):
            built("--force")  # fetches
        for name in ("out", "cache"):
            shutil.rmtree(work / name)
        return built("--force")

    def nothing() -> Run:
        # It says that the output is there already.
        return built("build", check=False)

    def form() -> Run:
        found = built("--force", OUTPUT="CompressOutput=zstd")
        assert (work / "out/image.raw.zst").exists()
        built("--force")
        return found

    def package() -> Run:
        more = MORE[rounds["package"]]
        rounds["package"] += 1
        found = built("--force", PACKAGES=f"{env['PACKAGES']} {more}")
        return found

    return {"mkosi: disk": cold, "mkosi: disk, nothing": nothing, "mkosi: disk, a format": form,
            "mkosi: disk, a package": package}  # fmt: skip
