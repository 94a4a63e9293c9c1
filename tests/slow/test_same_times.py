"""Times in what is built come from the packages or SOURCE_DATE_EPOCH, whatever the clock says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from support.digests import digests
from support.trees import decompress
from support.world import World

pytestmark = pytest.mark.root


@pytest.mark.parametrize("spec", ["small", pytest.param("web", marks=pytest.mark.nightly)])
def test_times_come_from_the_packages_or_source_date_epoch(
    request: pytest.FixtureRequest, tmp_path: Path, spec: str
) -> None:
    built: World = request.getfixturevalue("small_built" if spec == "small" else "built")
    old = "pack: direct}" if spec == "small" else "format: ext2}"
    built.edit(old, f"{old}\n  /etc: {{file: etc.img.gz, format: ext4, pack: direct}}")
    epochs = []
    for variable in ({}, {"SOURCE_DATE_EPOCH": "1600000000"}):
        built.build("lock=keep", **variable)
        for name, path in (("web.img.gz", "/usr"), ("etc.img.gz", "/motd")):
            epochs.append(times_of(built.root / "out/web" / name, path, tmp_path / "raw"))
    assert epochs[0] == epochs[1]
    assert epochs[2:] == [1600000000] * 2
    newest = max(path.stat().st_mtime for path in built.repository.root.rglob("*.deb"))
    assert epochs[0] <= newest
    assert epochs[0] != epochs[2]


@pytest.mark.parametrize("spec", ["small", pytest.param("web", marks=pytest.mark.nightly)])
def test_clock_that_is_behind_the_newest_package(request: pytest.FixtureRequest, spec: str) -> None:
    """What a stage writes has today's date, which is then before the epoch."""
    built: World = request.getfixturevalue("small" if spec == "small" else "world")
    later = {"SOURCE_DATE_EPOCH": str(int(time.time()) + 10_000_000)}
    built.build("lock=keep", **later)
    first = digests(built.root)
    shutil.rmtree(built.root / "cache")
    shutil.rmtree(built.root / "out")
    time.sleep(1)
    built.build("lock=keep", **later)
    second = digests(built.root)
    assert len(second) >= 5
    assert {name for name in second if first.get(name) != second[name]} == set()


def times_of(image: Path, path: str, raw: Path) -> int:
    """The one time, in seconds, that an ext4 image and a file in it have."""
    decompress(image, raw)
    shown = subprocess.run(
        ["debugfs", "-R", f"stat {path}", raw], check=True, capture_output=True, text=True
    ).stdout
    times = dict(re.findall(r"(\w+): 0x([0-9a-f]{8}):", shown))
    assert times["ctime"] == times["atime"] == times["crtime"]
    assert "Generation: 0 " in shown
    header = subprocess.run(["dumpe2fs", "-h", raw], check=True, capture_output=True, text=True,
                            env={"TZ": "UTC", "PATH": os.environ["PATH"]}).stdout  # fmt: skip
    found = int(times["ctime"], 16)
    date = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(found))
    for name in ("Filesystem created", "Last write time", "Last checked"):
        assert re.search(rf"{name}: +{date}", header), header
    assert re.search(r"Last mount time: +n/a", header)
    assert re.search(r"Mount count: +0", header)
    assert re.search(r"Last mounted on: +<not available>", header)
    return found
