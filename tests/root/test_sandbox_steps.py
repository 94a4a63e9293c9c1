"""The sandbox's steps: how they fail, what they print, and that their end leaves nothing on the host."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from support.sandboxes import enter
from support.world import PROJECT
from tasks.errors import BuildError
from tasks.host import toolroot
from tasks.host.log import Log
from tasks.host.process import LINE_LIMIT
from tasks.host.sandbox import Step

root_only = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to mount in, with `root`, a tree that has the host's programs bound in it."""
    toolroot.skeleton(tmp_path / "root")
    return tmp_path


# ---------------------------------------------------------------- steps


@root_only
@pytest.mark.parametrize(
    ("pipeline", "code"),
    [
        ([["sh", "-c", "exit 3"]], "exit status 3"),
        ([["sh", "-c", "exit 3"], ["sh", "-c", "cat; exit 4"]], "exit status 3"),
        ([["true"], ["sh", "-c", "cat > /dev/null; exit 4"], ["cat"]], "exit status 4"),
        ([["sh", "-c", "exit 3"]], "it said nothing"),
        ([["sh", "-c", "kill -9 $$"]], "exit status 137"),
        ([["sh", "-c", "kill -9 $$"]], "killed by SIGKILL"),
        ([["sh", "-c", "kill -40 $$"], ["cat"]], "killed by signal 40"),
        ([["sh", "-c", "kill -9 -1; exit 5"]], "exit status 5"),
        ([["/nonexistent"]], "exit status 125"),
    ],
)  # fmt: skip
def test_the_first_failing_status_is_told_and_ends_it(
    place: Path, pipeline: list[list[str]], code: str
) -> None:
    log = Log(None)
    with pytest.raises(BuildError, match=code):
        enter(place, Step(pipeline=pipeline), "echo went on", log=log)
    assert "went on" not in log.tail


@root_only
def test_pipelines_and_orphans(place: Path) -> None:
    """PID 1 reaps what its children leave, takes no signal from inside, and lives to the end."""
    titles: list[str] = []
    lines = enter(
        place,
        Step(pipeline=[["echo", "b a"], ["tr", " ", "\n"], ["sort"]], title="sorting"),
        "(sh -c 'sleep 0.1 & sleep 600 &' &) ; for i in 1 2 3; do (true &); done; sleep 0.3; "
        "kill -INT 1; kill -TERM 1; kill -KILL 1; kill -STOP 1; ls /proc | grep -c '^[0-9]'; "
        "cat /proc/*/status 2> /dev/null | grep -c 'State:.Z' || true",
        "echo alive",
        log=Log(None, progress=titles.append),
    )
    assert lines[:3] == ["# sorting", "a", "b"]
    assert int(lines[-3]) <= 8
    assert lines[-2:] == ["0", "alive"]
    assert titles == ["sorting"]


@root_only
def test_output_cannot_command_a_terminal_or_fill_memory(place: Path, tmp_path: Path) -> None:
    titles: list[str] = []
    path = tmp_path / "log"
    with Log(path, progress=titles.append) as log:
        with pytest.raises(BuildError) as caught:
            enter(place, "printf '\\001\\033]0;title\\007\\n'; printf 'E: \\033[2J\\302\\233x\\n'; "
                  "head -c 3000000 /dev/zero | tr '\\0' x; exit 1", log=log)  # fmt: skip
        assert max(map(len, log.tail)) <= LINE_LIMIT
    for text in (path.read_text(), str(caught.value), *titles):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert "E: ?[2J?x" in str(caught.value)
    assert titles == ["?]0;title?"]


def test_a_log_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.host.log.LOG_LIMIT", 1000)
    with Log(tmp_path / "log") as log:
        for number in range(1000):
            log.line(f"line {number}")
    text = (tmp_path / "log").read_text()
    assert 900 < len(text) < 1100
    assert text.endswith("# the rest is left out\n")
    assert log.tail[-1] == "line 999"


# ---------------------------------------------------------------- the end


KILLED = """
import sys; sys.path[:0] = [{project!r}, {tests!r}]
from pathlib import Path
from support.sandboxes import enter, step
enter(Path({place!r}), step("sh", "-c", "cd {cwd}; echo {mark} > ready; sleep 611 & trap '' TERM; sleep 612"),
      root={root!r}, mounts={mounts!r})
"""


def traces(place: Path) -> list[str]:
    """Processes, mounts and loop devices of a folder, anywhere on the host."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if re.search(rb"sleep\0(611|612)\0", (path / "cmdline").read_bytes()):
                found.append(f"process {path.name}")
            if str(place) in (path / "mountinfo").read_text():
                found.append(f"mount in {path.name}")
        except (OSError, ProcessLookupError):
            continue
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [str(path)] if str(place) in path.read_text() else []
        except OSError:
            continue
    return found


@root_only
@pytest.mark.parametrize("kind", ["root", "loop"])
def test_sigkill_of_the_builder_leaves_nothing(place: Path, kind: str) -> None:
    mounts = [["bind", str(place / "root"), "root", ""]]
    ready = place / "root/root/ready"
    if kind == "loop":
        (place / "raw").write_bytes(b"")
        os.truncate(place / "raw", 4 << 20)
        subprocess.run(["mke2fs", "-q", "-F", place / "raw"], check=True)
        mounts, ready = [["loop:ext2", str(place / "raw"), "filled", "noatime"]], place / "ready"
    code = KILLED.format(project=str(PROJECT), tests=str(PROJECT / "tests"), place=str(place),
                         root="root" if kind == "root" else None, mounts=mounts, mark="mark",
                         cwd="/root" if kind == "root" else shlex.quote(str(place)))  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    try:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.1)
        seen = traces(place)
        assert any("process" in one for one in seen)
        assert kind == "root" or any("loop" in one for one in seen)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    while traces(place) and time.monotonic() - began < 5:
        time.sleep(0.02)
    assert traces(place) == []


@root_only
def test_a_loop_mount_is_gone_with_its_step(place: Path) -> None:
    (place / "raw").write_bytes(b"")
    os.truncate(place / "raw", 4 << 20)
    subprocess.run(["mke2fs", "-q", "-F", place / "raw"], check=True)
    for script in ("echo kept > filled/file", "test $(cat filled/file) = kept; rm filled/file"):
        enter(place, script, root=None, cwd=str(place),
              mounts=[["loop:ext2", str(place / "raw"), "filled", "noatime"]])  # fmt: skip
        assert traces(place) == []
    with pytest.raises(BuildError):
        enter(place, "exit 1", root=None, cwd=str(place),
              mounts=[["loop:ext2", str(place / "raw"), "filled", "noatime"]])  # fmt: skip
    assert traces(place) == []
