"""What runs in a machine that is tested, how it gets there, and what is said to it.

Nothing of it is in the image. The machine is given one credential of systemd's (systemd(1),
systemd.system-credentials(7)), tmpfiles.extra, by an SMBIOS string of type 11, which systemd reads
since its version 252; of more than 4 KiB it loses the end. systemd-tmpfiles(8) makes a unit and a
link of it below /run: a few words of shell, and the wish that they run with the device KNOCK. What
is made there so late counts only for what starts afterwards, so that port is plugged in from
outside, again and again until the unit has opened PORT, by which it gets the agent itself.

    we:    LENGTH, and so many bytes: the agent
    agent: hello VERSION                     of systemd
    we:    wait SECONDS 0                    for all that starts at boot
    agent: state WORD LENGTH, and so many bytes
    we:    run SECONDS LENGTH, and so many bytes: a script
    agent: result STATUS LENGTH, and so many bytes
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PORT = "strata.test"

KNOCK = "strata.knock"

SYSTEMD = 252
"""The first that takes credentials from SMBIOS."""

OUTPUT_LIMIT = 1 << 20
"""Bytes of a script's output that are kept: the agent sends no more."""

LINE_LIMIT = 256

AGENT = Path(__file__).parent / "scripts/boot-agent.sh"

SCRIPT = "/dev/shm/strata-test/script"
"""Where a script is while it runs."""

UNIT = "strata-test.service"

# The job of a unit of type simple is over as soon as it runs: the agent waits for all others.
# Without default dependencies it runs in a system that starts no further, too, and tells of it.
# Where the initramfs has a systemd, as dracut's has, that one reads the credential, too: the agent
# is for the system that comes after it (os-release(5), /etc/initrd-release).
# A `$` is doubled for systemd.
_UNIT = f"""\
[Unit]
Description=Boot test
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
[Service]
Type=simple
ExecStart=/bin/sh -c 'exec 3<>/dev/virtio-ports/{PORT}; read -r n <&3; \
head -c "$$n" <&3 >/run/strata-test; exec /bin/sh /run/strata-test'
StandardError=journal+console
"""


class BadAnswer(ValueError):
    """The machine said what no agent says."""


def tmpfiles() -> str:
    """Lines of tmpfiles.d(5) that put the agent into /run."""
    device = rf"dev-virtio\x2dports-{KNOCK}.device"
    units = "/run/systemd/system"
    return "".join(
        line + "\n"
        for line in (
            f"f~ {units}/{UNIT} 0644 root root - {_base64(_UNIT.encode())}",
            # A backslash of a path is doubled there.
            f"d {units}/{device}.wants 0755 root root - -".replace("\\", r"\\"),
            f"L {units}/{device}.wants/{UNIT} - - - - ../{UNIT}".replace("\\", r"\\"),
        )
    )


def smbios() -> list[str]:
    """QEMU's words for the credential."""
    credential = f"io.systemd.credential.binary:tmpfiles.extra={_base64(tmpfiles().encode())}"
    return ["-smbios", f"type=11,value={credential}"]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def agent_order() -> bytes:
    """The agent: the first that the unit reads."""
    agent = AGENT.read_bytes()
    return f"{len(agent)}\n".encode() + agent


def wait_order(seconds: int) -> bytes:
    """Asks for the system's state, once all is started or so many seconds are over."""
    return f"wait {seconds} 0\n".encode()


def run_order(script: bytes, seconds: int) -> bytes:
    """Asks for a script to be run, for so many seconds at the most."""
    return f"run {seconds} {len(script)}\n".encode() + script


END_ORDER = b"end 0 0\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an agent said: `hello` with systemd's version, `state` with a word of systemctl(1)'s
    is-system-running, or `result` with an exit status; `text` is what came with it."""

    kind: str
    word: str
    text: bytes = b""

    @property
    def number(self) -> int:
        """The word as a number, -1 where it is none."""
        return int(self.word) if re.fullmatch(r"[0-9]{1,9}", self.word) else -1


class Answers:
    """Takes an agent's answers out of a stream of bytes, wherever it is cut."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def add(self, data: bytes) -> Sequence[Answer]:
        """More of the stream; the answers that are whole by now. BadAnswer for anything else."""
        self.rest += data
        found = []
        while (answer := self._next()) is not None:
            found.append(answer)
        return found

    def _next(self) -> Answer | None:
        line, end, _ = bytes(self.rest[: LINE_LIMIT + 1]).partition(b"\n")
        if not end:
            if len(line) > LINE_LIMIT:
                raise BadAnswer(f"a line of more than {LINE_LIMIT} bytes")
            return None
        text = line.decode("ascii", "replace")
        if hello := re.fullmatch(r"hello ([0-9a-z.~+-]{1,40})", text):
            del self.rest[: len(line) + 1]
            return Answer(kind="hello", word=hello[1])
        match = re.fullmatch(r"(state) ([a-z]{1,20}) ([0-9]{1,7})", text) or re.fullmatch(
            r"(result) ([0-9]{1,3}) ([0-9]{1,7})", text
        )
        if match is None or int(match[3]) > OUTPUT_LIMIT:
            raise BadAnswer(ascii(text))
        begin = len(line) + 1
        size = int(match[3])
        if len(self.rest) < begin + size:
            return None
        answer = Answer(kind=match[1], word=match[2], text=bytes(self.rest[begin : begin + size]))
        del self.rest[: begin + size]
        return answer
