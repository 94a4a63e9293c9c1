"""Headless Chromium, asked by the DevTools protocol over two pipes: no library, no port.

https://chromedevtools.github.io/devtools-protocol/: messages are JSON, each ended by a NUL.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.host.tools import tool


class Browser:
    """A page of Chromium's; `said` is what it logged that is an error or a warning."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.number = 0
        self.session = ""
        self.rest = b""
        self.said: list[str] = []
        self.requested: list[str] = []
        self.loaded = False

    def ask(self, method: str, **parameters: Any) -> Any:
        """The answer to a command; what comes before it is noted."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self.number:
                assert "error" not in told, f"{method}: {told}"
                return told["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            read = os.read(self.reading, 1 << 16)
            assert read, "the browser has ended"
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"])
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.said.append(told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.said.append(str(told["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(told["exceptionDetails"]))

    def open(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show a file in a window of this size."""
        if not self.session:
            page = self.ask("Target.createTarget", url="about:blank")["targetId"]
            found = self.ask("Target.attachToTarget", targetId=page, flatten=True)
            self.session = found["sessionId"]
            for domain in ("Page", "Log", "Runtime", "Network"):
                self.ask(f"{domain}.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 700)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.loaded = False
        self.ask("Page.navigate", url=path.as_uri())
        until = time.monotonic() + 60
        while not self.loaded:
            assert time.monotonic() < until
            self.ask("Runtime.evaluate", expression="0")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is, which is no inline script to the page's policy."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def key(self, name: str, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a screenshot."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole,
                         **({"clip": self._all()} if whole else {}))  # fmt: skip
        path.write_bytes(base64.b64decode(found["data"]))

    def _all(self) -> dict[str, float]:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def printed(self) -> bytes:
        """The page as a PDF, as it would be printed."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, which reaches no network."""
    theirs, ours = os.pipe()
    back, told = os.pipe()
    # Not 3 or 4 already: the shell would close one under the other.
    ends = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (theirs, told)]
    argv = [
        "bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9", f"--user-data-dir={profile}",
        "--hide-scrollbars", "--remote-debugging-pipe",
    ]  # fmt: skip
    process = subprocess.Popen(argv, pass_fds=ends, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        for one in (theirs, told, *ends):
            os.close(one)
        yield Browser(back, ours)
    finally:
        process.terminate()
        process.wait(20)
        os.close(back)
        os.close(ours)
