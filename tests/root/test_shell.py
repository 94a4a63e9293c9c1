"""`strata shell`: by a terminal and by pipes, of what is built and of what fails; nothing comes out."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.terminals import Person
from support.world import World, says

pytestmark = pytest.mark.root

DOIT = (sys.executable, "-m", "doit")


def state(world: World) -> Mapping[str, bytes]:
    """All that a shell could have changed for others."""
    places = ("cache/layers", "cache/images", "out/web", "specs")
    return {
        str(path): path.read_bytes()
        for place in places
        for path in (world.root / place).rglob("*")
        if path.is_file()
    }


def person(world: World, *words: str) -> Person:
    return Person([*DOIT, *words], world.root, world.environment(TERM="xterm", SECRET="hunter2"))


def test_a_command_sees_what_the_build_saw_and_changes_nothing(built: World) -> None:
    before = state(built)
    command = "cat /etc/motd; touch /etc/mine /dev/.strata/x; ls /usr/share/alpha; tty; exit 7"
    done = built.doit("shell", "spec=web", f"command={command}", check=False, SECRET="hunter2")
    assert (done.code, done.out) == (7, "hello\nversion\nnot a tty\n"), done.text
    # Of single layers, with their .debs and scripts, by a shell that reads a pipe.
    script = b"""ls -d /usr/share/alpha /etc/mine; echo $APT_CONFIG; env; ls /dev/.strata/in
        apt-get install --reinstall --yes beta 2>&1; echo "ends $?"; echo > /etc/motd
        for one in 0 1 2; do ls -l /proc/self/fd/$one; done; hostname"""
    run = subprocess.run([*DOIT, "shell", "spec=web", "layer=app"], cwd=built.root, input=script,
                         env=built.environment(SECRET="hunter2"), check=False, capture_output=True)  # fmt: skip
    said = run.stdout.decode()
    assert run.returncode == 0, run.stderr
    says(said, "/usr/share/alpha", "/dev/.strata/in/apt.conf", "SOURCE_DATE_EPOCH=", "repo", "script",
         "Unpacking beta", "Setting up beta", "ends 0", "pipe:", "pipe:", "pipe:", "localhost")  # fmt: skip
    assert "hunter2" not in said
    base = built.doit("shell", "spec=web", "layer=base", "command=ls /usr/share/alpha", check=False)
    assert base.code == 2
    says(built.doit("shell", "spec=web", "layer=ap", check=False).err, "layer=ap: it has no such layer",
         "did you mean app? layers: base, packages, app")  # fmt: skip
    says(built.doit("boot", "spec=web", check=False).err, "web.yaml: the tree has no kernel",
         "add linux-image-")  # fmt: skip
    assert built.server.requests == []
    assert state(built) == before
    assert built.leftovers() == []
    assert set(built.build("lock=keep").values()) == {"hit"}


def test_a_layer_that_fails_is_opened_as_it_failed(built: World) -> None:
    built.write("scripts/app.sh", "#!/bin/sh\ntouch /tmp/left\necho half > /srv/half; sleep 600 &\n"
                "echo going wrong; exit 3\n", 0o755)  # fmt: skip
    before = state(built)
    # By a build, for whoever sits there.
    somebody = person(built, "build", "spec=web", "lock=keep", "shell_on_failure=1")
    mode = somebody.mode
    says(somebody.waits("# "), "layer app failed (exit status 3)", "going wrong", "out/web/log/",
         "as the failure left it")  # fmt: skip
    assert somebody.mode != mode
    somebody.types(
        "cat /srv/half; ls /tmp; tty; stty size; cat /proc/[0-9]*/comm; echo s$SECRET.\n"
    )
    says(somebody.waits("# "), "half", "left", "/dev/pts/0", "30 100", "sleep", "s.")
    somebody.resize(40, 120)
    # A terminal that is interrupted in the moment between bash and its command loses what is typed.
    somebody.types("sh -c 'echo ru''nning; exec sleep 1000'\n")
    somebody.waits("running")
    somebody.types("\x03")  # Ctrl-C is the program's inside
    somebody.waits("# ")
    somebody.types("stty size; rm -r /srv/half; exit 0\n")
    somebody.waits("40 120")
    assert somebody.ends() == 1
    says(somebody.seen[somebody.read :], "layer app failed (exit status 3)", "going wrong")
    # Later, for a program: no build left anything, so it is made up to there again.
    later = built.doit(
        "shell", "spec=web", "layer=app", "command=cat /srv/half; exit 9", check=False
    )
    assert (later.code, later.out) == (9, "half\n"), later.text
    assert "layer app failed (exit status 3)" in later.err
    # Nobody sits there.
    alone = built.doit("build", "spec=web", "lock=keep", "shell_on_failure=1", check=False)
    assert alone.code == 1
    says(alone.text, "app: failed", "going wrong", "to look: strata shell spec=web layer=app")
    assert {path: text for path, text in state(built).items() if "/log/" not in path} == {
        path: text for path, text in before.items() if "/log/" not in path
    }
    assert built.leftovers() == []


HOSTILE = r"""#!/bin/sh
trap '' HUP INT TERM
echo "fds $(ls -l /proc/self/fd | grep -c /dev/pts/0) of $(ls /proc/self/fd | wc -l)"
ls -l /proc/1/fd /proc/1/cwd /proc/1/root 2>&1 | grep -v denied | grep -- '->'
cat /proc/1/environ /proc/1/mem 2>&1 | tr '\0' '\n' | grep -v -e denied -e cannot
perl -e 'for my $c (split //, "echo typed > /escaped\n") { ioctl(STDIN, 0x5412, $c) }' 2>&1
perl -e 'open(my $t, "+<", "/dev/tty"); my $x = "x"; ioctl($t, 0x5412, $x); print "tty done\n"'
ls /dev/pts; kill -9 1; mount -t tmpfs none /mnt 2>&1; echo alive
while :; do sleep 1; done
"""


def test_what_a_hostile_shell_does_stays_inside(built: World) -> None:
    built.write("files/bash", HOSTILE)
    built.edit("    files: {/etc/motd: files/motd}\n", "    files: {/etc/motd: files/motd, "
               "/usr/bin/bash: {source: files/bash, mode: \"0755\"}}\n")  # fmt: skip
    # Afterwards the terminal is as it was, and nobody has typed anything into it.
    after = "code=$?; stty -a | grep -o -e '[-]*icanon' -e '[-]*isig'; timeout 1 cat | wc -c; exit $code"
    command = f"{shlex.join(DOIT)} shell spec=web layer=app; {after}"
    somebody = Person(["sh", "-c", command], built.root, built.environment(TERM="xterm"))
    shown = somebody.waits("alive")
    says(shown, "not in the cache: layer app", "fds 2 of 4", "tty done")
    assert "->" not in shown
    assert "PATH=" not in shown
    # It hangs, and ignores each signal that a terminal sends.
    somebody.types("\x03\x04exit\n")
    somebody.types("\x1d\x1d\x1d")
    assert somebody.ends() == 128 + 9
    assert somebody.seen[somebody.read :].split()[-3:] == ["isig", "icanon", "0"]
    assert not Path("/escaped").exists()
    assert built.leftovers() == []


def test_a_tree_without_a_shell_says_so(tiny: World) -> None:
    tiny.build()
    said = tiny.doit("shell", "spec=web", check=False)
    assert said.code == 1
    says(said.err, "web.yaml: base: the tree has no /bin/bash and no /bin/sh that can be run",
         "No such file", "to its packages")  # fmt: skip
    assert "several" not in tiny.doit("shell", "spec=web", "network=2", check=False).err
