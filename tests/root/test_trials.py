"""Hosts that cannot build: each said by one sentence, by doctor and by the build, with its remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.world import PROJECT, Build, World, says
from tasks.host import arches, trials
from tasks.host.tools import ENV

pytestmark = pytest.mark.root


NO_ADMIN = ["setpriv", "--bounding-set", "-sys_admin"]
"""What a container engine takes from its processes, among others."""


def under(world: World, script: str, *words: str, scratch: Path, wrap: str = "") -> Build:
    """doit in a mount namespace of its own in which a script changed the host before."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{script}\nexec {wrap} "$@"', "sh", sys.executable,
         "-m", "doit", *words],
        cwd=world.root, text=True, check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env=world.environment(STRATA_SCRATCH=str(scratch)),
    )  # fmt: skip
    build = Build(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in build.text, build.text
    return build


def lacks(world: World, name: str, *parts: str, script: str = "", scratch: Path,
          wrap: str = "") -> None:  # fmt: skip
    """doctor and build fail, both with this need's own sentence and then these parts."""
    sentence = re.split(r"[({]", trials.NEEDS[name].sentence)[0].strip()
    for task in ("doctor", "build"):
        build = under(world, script, task, "spec=web", scratch=scratch, wrap=wrap)
        assert build.code == 1, build.text
        assert build.err.count("ERROR: ") == 1
        says(build.text, sentence, *parts)
    assert not list((world.root / "cache").glob("images/image-*"))
    assert [path.name for path in scratch.glob("**/trial-*")] == []


def test_a_container_that_may_make_no_namespaces(tiny: World, tmp_path: Path) -> None:
    lacks(tiny, "namespaces", "mount, PID, network, IPC, UTS", "--cap-add SYS_ADMIN",
          scratch=tmp_path / "scratch", wrap=" ".join(NO_ADMIN))  # fmt: skip


def test_a_plain_chroot_whose_root_is_no_mount_point(tiny: World, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    script = f"""
        mkdir -p {inside}
        for path in /*; do
            [ ! -L $path ] || cp -a $path {inside}/
            [ ! -L $path ] && [ -d $path ] || continue
            mkdir -p {inside}$path; mount --rbind $path {inside}$path
        done
    """
    wrap = f"chroot {inside} env -C {tiny.root}"
    lacks(tiny, "propagation", "mount --bind DIR DIR", script=script,
          scratch=tmp_path / "scratch", wrap=wrap)  # fmt: skip
    # And the remedy works.
    script = f"mkdir -p {inside}; mount --bind {inside} {inside}\n{script}"
    build = under(tiny, script, "build", "spec=web", scratch=tmp_path / "scratch", wrap=wrap)
    assert build.code == 0, build.text


def test_scratch_on_an_overlay(tiny: World, tmp_path: Path) -> None:
    for name in ("low", "up", "work", "over"):
        (tmp_path / name).mkdir()
    lower = f"lowerdir={tmp_path}/low,upperdir={tmp_path}/up,workdir={tmp_path}/work"
    lacks(tiny, "overlay", str(tmp_path / "over"), "on overlay", "set STRATA_SCRATCH",
          script=f"mount -t overlay overlay -o {lower} {tmp_path}/over",
          scratch=tmp_path / "over")  # fmt: skip
    assert under(tiny, "", "doctor", scratch=tmp_path / "scratch").code == 0


NO_LOOP = """
    mkdir -p {place}; mount -t tmpfs none {place}; mkdir {place}/pts {place}/shm
    for name in null zero full random urandom tty; do
        : > {place}/$name; mount --bind /dev/$name {place}/$name
    done
    mount --rbind {place} /dev
"""


def test_no_loop_device_but_for_images_that_need_none(tiny: World, tmp_path: Path) -> None:
    script, scratch = NO_LOOP.format(place=tmp_path / "dev"), tmp_path / "scratch"
    lacks(tiny, "loop", "pack: direct", script=script, scratch=scratch)
    tiny.edit("format: ext2", "format: ext2, pack: direct")
    doctor = under(tiny, script, "doctor", "spec=web", scratch=scratch)
    assert doctor.code == 0
    says(doctor.text, "note no loop device")
    assert under(tiny, script, "build", "spec=web", scratch=scratch).code == 0


def test_a_host_without_device_nodes(tiny: World, tmp_path: Path) -> None:
    """Of the same kind, and not in any report: a chroot in which nobody mounted /dev whole."""
    script = NO_LOOP.format(place=tmp_path / "dev").replace(" tty;", ";")
    lacks(tiny, "nodes", "/dev/tty", script=script, scratch=tmp_path / "scratch")


def test_a_network_that_cannot_be_raised_is_no_reason_to_fail(tiny: World, tmp_path: Path) -> None:
    for task in ("doctor", "build"):
        build = under(tiny, "", task, "spec=web", scratch=tmp_path / "scratch",
                      wrap="setpriv --bounding-set -net_admin")  # fmt: skip
        assert build.code == 0, build.text


def test_each_need_has_a_title_and_is_tried(tmp_path: Path) -> None:
    parts = (PROJECT / "tasks/host").glob("sandbox_*.py")
    program = "".join(path.read_text() for path in parts)
    done = {*re.findall(r'now\("(\w+)"\)', program), "namespaces", "overlay", "loop", "bind"}
    assert done == set(trials.NEEDS)
    assert set(trials.SANDBOX) <= done
    assert trials.sandbox(tmp_path) is None
    assert trials.loop(tmp_path) is None
    assert trials.filesystem(Path("/proc/self")) == "proc"


# ---------------------------------------------------------------- arch


def test_an_architecture_that_the_host_cannot_run_is_said_first(tiny: World) -> None:
    tiny.edit("base: {tool: mmdebstrap, variant: extract,", "arch: s390x\nbase: {tool: mmdebstrap, variant: apt,")  # fmt: skip
    if arches.refusal("s390x", tiny.root) is None:
        pytest.skip("this host runs programs of s390x")
    for task in ("build", "base"):
        build = tiny.doit(task, "spec=web", check=False)
        assert build.code == 1
        says(build.err, "specs/web.yaml: arch: s390x", "cannot run", "qemu-user-static")
        assert "Traceback" not in build.text
        assert tiny.server.requests == []
    assert not (tiny.root / "specs/web.lock").exists()
    assert not (tiny.root / "cache").exists()
    doctor = tiny.doit("doctor", "spec=web", check=False)
    assert doctor.code == 1
    says(doctor.text, "MISS", "arch: s390x", "qemu-user-static")
    # A lock needs no program of it, nor do packages that are only unpacked.
    assert "cannot run" not in tiny.doit("lock", "spec=web", check=False).text
    tiny.edit("variant: apt,", "variant: extract,")
    assert "cannot run" not in tiny.doit("build", "spec=web", check=False).text


@pytest.mark.parametrize("arch", arches.MACHINES)
def test_programs_of_each_architecture_are_whole(arch: str, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(arches.program(arch))
    said = subprocess.run(["readelf", "-hl", tmp_path / "program"], check=True, text=True,
                          capture_output=True)  # fmt: skip
    assert "Warning" not in said.stderr
    assert re.search(r"LOAD\s+0x0+ 0x0*400000", said.stdout)
    machine = re.search(r"Machine:\s+(.*)", said.stdout)
    assert machine
    assert machine[1] == {"amd64": "Advanced Micro Devices X86-64", "i386": "Intel 80386",
                          "arm64": "AArch64", "armhf": "ARM", "armel": "ARM", "riscv64": "RISC-V",
                          "ppc64el": "PowerPC64", "s390x": "IBM S/390"}[arch]  # fmt: skip
    if arches.native(arch) or (arch, os.uname().machine) == ("i386", "x86_64"):
        assert arches.refusal(arch, tmp_path) is None


BINFMT = r"""
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf %s ':mine:M::\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16:\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\xff\xfe\xff\xff:INTERPRETER:FLAGS' > /proc/sys/fs/binfmt_misc/register
"""


@pytest.mark.parametrize(("flags", "said"), [("F", "None"), ("", "without the flag F")])
def test_binfmt_misc_counts_where_its_interpreter_is_reached_from_within(
    tmp_path: Path, flags: str, said: str
) -> None:
    """In a user namespace with a binfmt_misc of its own (Linux 6.7): this host's is left alone."""
    own = next(arch for arch in arches.MACHINES if arches.native(arch))
    interpreter = tmp_path / "interpreter"
    interpreter.write_bytes(arches.program(own))
    interpreter.chmod(0o755)
    script = BINFMT.replace("FLAGS", flags).replace("INTERPRETER", str(interpreter))
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from pathlib import Path; "
        f"from tasks.host import arches; print(arches.refusal('s390x', Path({str(tmp_path)!r})))"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
         script + '\nexec "$@"', "sh", sys.executable, "-c", code],
        check=False, capture_output=True, text=True, env={**os.environ, **ENV},
    )  # fmt: skip
    if "binfmt_misc" in done.stderr:
        pytest.skip("this kernel's binfmt_misc knows no namespaces")
    assert said in done.stdout, done.stdout + done.stderr
