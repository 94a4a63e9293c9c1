"""A boot test: a disk's own file in a machine, with the spec's scripts run inside.

file of the cache ─→ a throwaway overlay ─→ QEMU ─→ console.log, screen.png, report.json ─→ .tar
                                              ↑ scripts, by tasks.host.agent
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..formats import compress
from ..formats.picture import LARGEST_PPM, png_of
from ..host import agent, qemu, safe, space
from ..host.console import Lines
from ..host.disk_machine import DiskMachine
from ..host.files import remove
from ..host.log import STEP_MARK, Log, last_lines
from ..host.process import interrupted
from ..host.running_machine import MachineStopped, RunningMachine, started
from ..plan import scripts
from ..plan.entries import Script
from ..plan.top_jobs import TestJob
from ..spec.boot_tests import SCRIPT_LIMIT
from ..store.record import Entry
from .facts import common
from .sound import sound

CONSOLE_LIMIT = 4 << 20
"""Characters of a console that are kept."""

SHOWN = 40
"""Lines of the console of which an error shows the last that matter."""

GRACE = 15
"""Seconds that a script which is stopped inside has to say so."""

DEGRADED = re.compile(rb"#\s*strata:\s*degraded")
"""A comment at a script's head by which units that failed do not fail its test."""

GOOD = ("running", "degraded")


def build(job: TestJob, builder: Builder) -> None:
    """Boot the file, run the scripts, and put what was seen into the cache.

    BuildError for a script that failed, a system that did not come up, or too little time: then
    the stage's log has it all, and the cache nothing.
    """
    stage, log = job.stage, builder.log
    contents = contents_of(job)
    entry = sound(job.file, builder)
    folder = builder.scratch / stage.entry
    folder.mkdir()
    try:
        boot = Boot(job=job, log=log, contents=contents)
        boot.run(disk_file(job, entry, folder, log), folder)
        facts: dict[str, Any] = {
            **common(job, builder),
            "firmware": job.firmware,
            "scripts": [one.name for one in job.scripts],
        }
        bundle = folder / "bundle.tar"
        bundle.write_bytes(tarball(boot.files()))
        with builder.cache.put(stage, facts, doubtful=builder.doubtful(job)) as target:
            packed = compress.compress(bundle, target, container="raw")
            facts |= {"raw": asdict(packed.raw), "packed": asdict(packed.container)}
    finally:
        remove(folder)


def disk_file(job: TestJob, entry: Entry, folder: Path, log: Log) -> Path:
    """The file to boot: the cache's own, or where that is compressed, what is in it."""
    if job.container == "raw":
        return entry.path
    log.step("decompressing the disk")
    if size := entry.facts.get("raw", {}).get("size"):
        log.need_room("scratch", int(size), "a copy of the disk to boot")
    target = folder / "disk"
    with open(safe.reading(entry.path), "rb") as packed:
        compress.decompress(packed, entry.path.name, target, job.container)
    return target


def tarball(files: Mapping[str, bytes]) -> bytes:
    """A tar of plain files, sorted, with nothing of this host or time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@dataclass(kw_only=True)
class Boot:
    """One run of a machine, and what was seen in it."""

    job: TestJob
    log: Log
    contents: Sequence[bytes]
    """Of the job's scripts, in their order."""
    console: list[str] = field(default_factory=list)
    room: int = CONSOLE_LIMIT
    report: dict[str, Any] = field(default_factory=dict)
    screen: bytes = b""
    doing: str = ""
    """What was not done, as messages name it, if no more comes."""
    timeout: int = 0
    """Of what it is at, in seconds from the machine's start."""

    @property
    def title(self) -> str:
        """What runs where, as messages name it."""
        return f"disk {self.job.disk.name} under {self.job.firmware}"

    def files(self) -> dict[str, bytes]:
        """What is kept of it."""
        report = json.dumps(self.report, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        found = {
            "console.log": "".join(f"{line}\n" for line in self.console).encode(),
            "report.json": report.encode(),
        }
        return found | ({"screen.png": self.screen} if self.screen else {})

    def run(self, disk: Path, folder: Path) -> None:
        """The whole of it; BuildError as `build` has it."""
        job = self.job
        where = f"{job.spec}: tests"
        kind = qemu.machine_of(job.arch, job.spec)
        rights = qemu.rights(kind)
        # With two, emulated, a kernel may meet code that the other one is just patching.
        cpus = min(2, len(os.sched_getaffinity(0))) if rights.kvm else 1
        machine = DiskMachine(
            arch=job.arch,
            firmware=job.firmware,
            disk=disk,
            format=job.format,
            memory=max(one.memory for one in job.tests) >> 20,
            cpus=cpus,
            sector=job.disk.sector,
        )
        how = "KVM" if rights.kvm else f"emulated, which is slow ({rights.why})"
        self.log.step(f"booting {self.title}: {machine.memory} MiB, {how}")
        if self.log.path is not None:
            remove(self.log.path.with_suffix(".png"))  # of the test before this
        lines = Lines(self.shown)
        began = time.monotonic()
        seen = (lines.add, lambda: lines.dead)
        with started(machine, rights, folder, where, self.log, seen) as running:
            try:
                self.talk(running, began)
            except MachineStopped as stopped:
                lines.end()
                raise self.stopped(stopped) from stopped
            finally:
                if not interrupted():
                    self._look(running)
            lines.end()

    def shown(self, line: str) -> None:
        """A line of the console: into the log, without secrets, and into what is kept."""
        line = self._line(line)
        self.room -= len(line) + 1
        if self.room > 0:
            self.console.append(line)

    def _look(self, running: RunningMachine) -> None:
        """The screen, beside the log, too."""
        try:
            self.screen = png_of(running.picture(LARGEST_PPM))
        except ValueError:
            return  # there is none to be had
        if self.log.path is not None:
            with open(safe.creating(self.log.path.with_suffix(".png")), "wb") as file:
                file.write(self.screen)

    def talk(self, running: RunningMachine, began: float) -> None:
        """Wait for the system, run the scripts, and look whether they left it well."""
        tests = list(zip(self.job.tests, self.job.scripts, self.contents, strict=True))
        self.timeout = self.job.tests[0].timeout
        until = began + self.timeout
        self.doing = "the system did not come up"
        hello = running.answer("hello", until)
        self.log.step("waiting until all is started")
        state, units = self._state(
            running, until, ", not up", "see what it waits for, or give it more time (timeout)"
        )
        results, strict = [], ""
        for test, script, content in tests:
            strict = strict or (script.path if not says_degraded(content) else "")
            if state == "degraded" and strict:
                raise self._units_failed("units of the system failed", units, strict)
            self.timeout = test.timeout
            results.append(self._ran(running, script, content, began + test.timeout))
        after = self._after(running, began + self.timeout, strict)
        running.send(agent.END_ORDER)
        self.report = {
            "disk": self.job.disk.name,
            "firmware": self.job.firmware,
            "systemd": hello.number,
            "state": state,
            "units": units if state != "running" else [],
            "scripts": results,
            "after": after,
        }

    def _after(self, running: RunningMachine, until: float, strict: str) -> dict[str, Any]:
        """What the report has of the state that the scripts left; BuildError where it is not good.

        `strict` is a script that takes no failed unit, "" where there is none.
        """
        self.doing = "what state the scripts left the system in was not told"
        self.log.step("asking for the state that the scripts left")
        hint = "a test may neither power it off nor reboot it, nor go to another target"
        state, units = self._state(running, until, " after its scripts", hint)
        if state == "degraded" and strict:
            raise self._units_failed("units failed while the scripts ran", units, strict)
        return {"state": state, "units": units if state != "running" else []}

    def _state(
        self, running: RunningMachine, until: float, when: str, hint: str
    ) -> tuple[str, list[str]]:
        """The state of a system that is up, and its failed units; BuildError where it is not."""
        now = time.monotonic()
        running.send(agent.wait_order(max(1, int(until - now))))
        state = running.answer("state", max(until, now) + GRACE)
        units = self._lines(state.text)
        if state.word not in GOOD:
            how = f"the system is {state.word!r} (systemctl is-system-running){when}"
            raise self._failure(how, units, hint)
        return state.word, units

    def _ran(
        self, running: RunningMachine, script: Script, content: bytes, until: float
    ) -> dict[str, Any]:
        """What the report has of a script that was run; BuildError where it failed."""
        begun = time.monotonic()
        self.doing = f"{script.path} was not done"
        self.log.step(f"running {script.path}")
        running.send(agent.run_order(content, max(1, int(until - begun))))
        result = running.answer("result", until + GRACE)
        named = scripts.naming(agent.SCRIPT, script.path)
        lines = [self._line(named(line)) for line in _lines(result.text)]
        if result.number and time.monotonic() >= until - 1:
            raise self._late(lines)
        if result.number:
            raise self._failure(f"{script.path} failed (exit status {result.number})", lines)
        seconds = round(time.monotonic() - begun, 1)
        return {"name": script.name, "status": 0, "seconds": seconds, "output": lines}

    def _lines(self, text: bytes) -> list[str]:
        """What a machine said, into the log; as it is there, without secrets."""
        return [self._line(line) for line in _lines(text)]

    def _line(self, text: str) -> str:
        """One line that a machine said, which is no heading of the log's."""
        return self.log.line(text.lstrip(STEP_MARK))

    # ------------------------------------------------------------ what went wrong

    def _failure(self, what: str, lines: Sequence[str], hint: str = "") -> BuildError:
        """The error of this test: what failed, the last lines of what it said, where all is."""
        said = last_lines(lines)
        place = f"all that it showed is in {self.log.path}" if self.log.path else ""
        return BuildError(
            f"{self.job.spec}: tests: {self.title}: {what}"
            + (f":\n{said}" if said else "; it said nothing"),
            "\n".join(filter(None, [hint, place])),
        )

    def _units_failed(self, what: str, units: Sequence[str], script: str) -> BuildError:
        return self._failure(
            what,
            units,
            f"mend them, or have {script} say `# strata: degraded` in a comment at its head, "
            "before all else, if that is as it should be",
        )

    def _late(self, lines: Sequence[str], dead: str = "") -> BuildError:
        return self._failure(
            f"{self.doing} within its timeout, {self.timeout} s from the machine's start"
            + (f"; it shows {dead!r}" if dead else ""),
            lines,
            "" if dead else "make the test's timeout longer: an emulated machine is slow",
        )

    def stopped(self, stopped: MachineStopped) -> BuildError:
        """The error where no answer came."""
        shown = self.console[-SHOWN:]
        match stopped.why:
            case "late":
                return self._late(shown, stopped.detail)
            case "dead":
                return self._failure(f"{self.doing}: it shows {stopped.detail!r}", shown)
            case "full" if self.log.places:
                full = space.full_places(self.log.places) or ["scratch"]
                return space.no_room(self.title, self.log.places, full, self.log.began)
            case "failed":
                return self._failure(f"QEMU ended ({stopped.detail})", shown)
            case "nonsense":
                return self._failure(f"{self.doing}: it said {stopped.detail}", shown)
            case "left":
                return self._failure(f"{self.doing}: what runs the scripts was ended there", shown)
            case _:
                return self._failure(
                    f"{self.doing}: the machine ended",
                    shown,
                    "a test may neither power it off nor reboot it",
                )


def contents_of(job: TestJob) -> list[bytes]:
    """The scripts' bytes, read once: BuildError where these are not what the key was made of.

    Else what another script found would be told under the old one's key for ever.
    """
    found = []
    for script, (sha256, _timeout) in zip(job.scripts, job.stage.inputs["scripts"], strict=True):
        content = script.content
        if script.source is not None:
            try:
                content = safe.read_bytes(script.source, SCRIPT_LIMIT)
            except OSError as error:
                raise BuildError(
                    f"{script.where}: {script.path} cannot be read: {error.strerror}"
                ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise BuildError(
                f"{script.where}: {script.path} was changed since the build began",
                "run the same command again",
            )
        found.append(content)
    return found


def says_degraded(content: bytes) -> bool:
    """Whether a script says so: in a comment before the first line that is another."""
    for line in map(bytes.strip, content.split(b"\n")):
        if DEGRADED.fullmatch(line):
            return True
        if line and not line.startswith(b"#"):
            break
    return False


def _lines(text: bytes) -> list[str]:
    return text.decode("utf-8", "replace").splitlines()
