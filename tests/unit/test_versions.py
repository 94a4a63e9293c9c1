"""Versions of the host's tools: which key sees what of them, and who is told when they differ."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.repository import apt_environment, host_mirror
from support.stock import KEPT
from support.world import World, says
from tasks.errors import BuildError
from tasks.host.tools import ENV, TOOLS, tool
from tasks.plan import versions
from tasks.plan.tools import tool_versions

pytestmark = pytest.mark.starts


def test_versions_that_make_the_same_count_as_one_and_others_as_themselves() -> None:
    for name, groups in versions.SAME.items():
        listed = [version for group in groups for version in group]
        assert len(set(listed)) == len(listed)
        for group in groups:
            assert {versions.keyed(name, version) for version in group} == {group[0]}
            # Another revision of Debian's is another version, and so is one of another name.
            assert versions.keyed(name, group[-1] + "+deb99u9") == group[-1] + "+deb99u9"
            assert versions.keyed("other", group[-1]) == group[-1]
    assert versions.keyed("mmdebstrap", "9.9") == "9.9"


def test_debians_revision_is_in_a_version(tmp_path: Path) -> None:
    names = ["mke2fs", "mcopy", "apt-get", "xz"]
    found = tool_versions(names, tmp_path / "tools.json")
    asked = {
        name: subprocess.run(["dpkg-query", "-W", "-f", "${Version}\n", TOOLS[name]],
                             check=True, text=True, capture_output=True).stdout.split()[0]
        for name in names
    }  # fmt: skip
    assert {name: found[name].partition(",")[0] for name in names} == asked
    assert re.search(r", liblzma5 \d", found["xz"])
    assert tool_versions(names, tmp_path / "tools.json") == found


def test_what_a_tool_compresses_by_is_in_its_version(tmp_path: Path) -> None:
    """Of qemu-img both: a qcow2's clusters are of the one, a vmdk's grains of the other."""
    found = tool_versions(["qemu-img", "mksquashfs"], tmp_path / "tools.json")
    assert re.fullmatch(r"[^,]+, libzstd1 \d[^,]*, zlib1g \d[^,]*", found["qemu-img"])
    assert re.fullmatch(r"[^,]+, libzstd1 \d[^,]*", found["mksquashfs"])
    assert "sha256" not in found["qemu-img"]


def test_a_tool_of_no_package_is_known_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "mke2fs"
    shutil.copy(tool("mke2fs"), local)
    monkeypatch.setitem(ENV, "PATH", f"{tmp_path}:{ENV['PATH']}")
    found = []
    for _change in range(2):
        found.append(tool_versions(["mke2fs"], tmp_path / "tools.json")["mke2fs"])
        with local.open("ab") as file:
            file.write(b"\0")
    assert all(re.fullmatch(r"\d[\w.-]+ sha256:[0-9a-f]{16}", one) for one in found)
    assert found[0] != found[1]
    # Where there is no dpkg, every tool is such a one.
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("mke2fs", "setpriv", "sh"):
        (empty / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setitem(ENV, "PATH", str(empty))
    with pytest.raises(BuildError):
        tool("dpkg-query")
    assert " sha256:" in tool_versions(["mke2fs"], tmp_path / "others.json")["mke2fs"]


def test_a_new_state_of_dpkg_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library's new version leaves the tool's own file as it is."""
    status = tmp_path / "status"
    status.write_text("one")
    monkeypatch.setattr("tasks.plan.tools.DPKG_STATUS", status)
    memory = tmp_path / "tools.json"
    tool_versions(["xz"], memory)
    first = memory.read_text()
    tool_versions(["xz"], memory)
    assert memory.read_text() == first
    status.write_text("other")
    tool_versions(["xz"], memory)
    assert memory.read_text() != first


@pytest.mark.root
def test_why_and_reproduce_name_the_tool_that_differs(tiny: World) -> None:
    tiny.build()
    path = tiny.root / "out/web/web.yaml"
    content = yaml.safe_load(path.read_text())
    here = content["tools"]
    assert set(here) == {"mmdebstrap", "mke2fs", "isal", "zlib-ng"}
    # As it comes from another host, whose e2fsprogs is of another revision.
    content["tools"]["mke2fs"] = "1.46.2-2"
    content["keys"]["image:/"] = "0" * 32
    path.write_text(yaml.safe_dump(content))
    said = tiny.doit("reproduce", "spec=web", check=False)
    assert said.code != 0
    assert "Traceback" not in said.text
    says(
        said.text,
        "built with other tools than this host has: mke2fs: 1.46.2-2 → 1.",
        "on a host like",
    )
    assert "mmdebstrap" not in said.text
    for entry in tiny.root.glob("cache/images/*"):
        entry.unlink()
    why = tiny.doit("why", "spec=web", check=False).out
    says(
        why,
        "image",
        "not in the cache any more",
        "other tools here: e2fsprogs 1.46.2-2 → 1.",
        "(mke2fs)",
    )


def other_mmdebstrap(version: str) -> Path:
    """The program of this version, of Debian's mirror; kept."""
    target = KEPT / "versions" / f"mmdebstrap-{version}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        for suite in ("bookworm", "trixie"):
            keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
            source = f"deb [signed-by={keyring}] {host_mirror()} {suite} main"
            env = {**os.environ, **apt_environment(target.parent / f"apt-{suite}", source)}
            for argv in (["update", "--error-on=any"], ["download", f"mmdebstrap={version}"]):
                done = subprocess.run(["apt-get", *argv], env=env, cwd=target.parent, check=False,
                                      capture_output=True, text=True)  # fmt: skip
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
        deb = next(target.parent.glob("mmdebstrap_*.deb"))
        subprocess.run(["dpkg-deb", "-x", deb, target.parent / "x"], check=True)
        shutil.copy(target.parent / "x/usr/bin/mmdebstrap", target)
        shutil.rmtree(target.parent / "x")
        deb.unlink()
    return target


@pytest.mark.root
def test_versions_of_mmdebstrap_that_count_as_one_make_the_same_base(
    built: World, tmp_path: Path
) -> None:
    """Each of the table that this host has not, in the place of its own."""
    (first,) = built.root.glob("cache/layers/base-*.tar.zst")
    installed = tool_versions(["mmdebstrap"], tmp_path / "tools.json")["mmdebstrap"]
    (group,) = versions.SAME["mmdebstrap"]
    for number, version in enumerate(one for one in group if one != installed):
        other = built.clone(tmp_path / str(number))
        text = other_mmdebstrap(version).read_text()
        usr = tmp_path / f"usr-{number}"
        (usr / "bin").mkdir(parents=True)
        program = usr / "bin/mmdebstrap"
        line, _, rest = text.partition("\n")
        program.write_text(f'{line}\nprint STDERR "I: this is {version}\\n";\n{rest}')
        program.chmod(0o755)
        subprocess.run(
            ["unshare", "--mount", "sh", "-ec",
             'mount -t overlay overlay -o "lowerdir=$0:/usr" /usr; exec "$@"', usr,
             sys.executable, "-m", "doit", "base", "spec=web", "lock=frozen"],
            cwd=other.root, check=True, env=other.environment(),
        )  # fmt: skip
        assert f"I: this is {version}" in (other.root / "out/web/log/base.log").read_text()
        (second,) = other.root.glob("cache/layers/base-*.tar.zst")
        assert second.name == first.name
        assert second.read_bytes() == first.read_bytes()
