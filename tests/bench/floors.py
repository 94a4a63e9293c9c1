"""What no builder of the same image gets around, measured with the plainest commands there are.

Each stage's floor is the sum of what must be done for it at least once, on this machine, by one
command after another where they depend on each other:

    base, layer   every .debs' content decompressed and written (dpkg-deb | tar)
    layer         the initramfs made once (mkinitramfs in the finished tree)
    pack          the tree read and compressed (tar | zstd -3)
    image         the trees unpacked, the filesystem made (mke2fs -d), one MD5 of all of it
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TRIES = 2

UNPACK = """
for deb in "$@"; do dpkg-deb --fsys-tarfile "$deb" | tar -x --skip-old-files -C tree; done
"""
INITRAMFS = """
version=$(ls tree/lib/modules)
mount --bind tree tree; mount -t proc proc tree/proc; mount -t tmpfs tmp tree/tmp
chroot tree mkinitramfs -o /tmp/initrd "$version"
"""
EXTRACT = "tar --zstd -x --numeric-owner --xattrs --xattrs-include='*' -C tree -f"


def _best(work: Callable[[], None], fresh: Callable[[], None]) -> float:
    """The shortest of some runs, in seconds; `fresh` goes before each."""
    found = []
    for _ in range(TRIES):
        fresh()
        began = time.monotonic()
        work()
        found.append(time.monotonic() - began)
    return min(found)


def floors(checkout: Path, name: str, scratch: Path) -> list[dict[str, Any]]:
    """Stage, what is measured and seconds, of a spec that a checkout has built."""
    lock = json.loads((checkout / f"specs/{name}.lock").read_text())
    stages = json.loads((checkout / f"out/{name}/build.json").read_text())["stages"]
    tars = [next((checkout / "cache/layers").glob(f"*-{stage['key']}.tar.zst"))
            for stage in stages if stage["stage"] != "image"]  # fmt: skip
    scratch.mkdir()
    # As tasks.host.scratch has it: in block groups of their own, files are made ten times as fast.
    subprocess.run(["chattr", "+T", scratch], check=False, capture_output=True)
    folder = scratch

    def empty() -> None:
        nonlocal folder
        folder = Path(tempfile.mkdtemp(dir=scratch))
        (folder / "tree").mkdir()

    def shell(script: str, *words: str | Path) -> Callable[[], None]:
        def run() -> None:
            # Mounts of its own, which end with it.
            subprocess.run(["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, words)], cwd=folder, check=True,
                           capture_output=True)  # fmt: skip

        return run

    def debs(records: Sequence[Mapping[str, str]]) -> list[Path]:
        return [checkout / f"cache/debs/{record['sha256']}.deb" for record in records]

    layer = [record for one in lock["layers"] for record in one["records"]]
    unpack = "; ".join(f"{EXTRACT} {tar}" for tar in tars)
    found = [
        ("base", f"{len(lock['base'])} .debs decompressed and written",
         _best(shell(UNPACK, *debs(lock["base"])), empty)),
        ("layer", f"{len(layer)} .debs decompressed and written",
         _best(shell(UNPACK, *debs(layer)), empty)),
    ]  # fmt: skip
    empty()
    shell(unpack)()
    found.append(("layer", "one initramfs", _best(shell(INITRAMFS), lambda: None)))
    pack = "tar -c -C tree . | zstd -q -3 -T2 > packed"
    found.append(("layer", "all trees packed", _best(shell(pack), lambda: None)))
    found.append(("image", "all trees unpacked", _best(shell(unpack), empty)))
    make = "rm -f raw; mke2fs -q -t ext4 -d tree raw 1G"
    found.append(("image", "mke2fs -d", _best(shell(make), lambda: None)))
    found.append(("image", "MD5 of it", _best(shell("md5sum raw"), lambda: None)))
    shutil.rmtree(scratch)
    return [{"stage": stage, "what": what, "seconds": seconds} for stage, what, seconds in found]
