"""Commands in a sandbox as a stage has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.host import toolroot
from tasks.host.log import Log
from tasks.host.sandbox import DPKG_CAPABILITIES, Sandbox, Step, step


def enter(place: Path, *steps: Step | str, log: Log | None = None, **fields: Any) -> list[str]:
    """Run shell scripts with `root` as the root, as packages' scripts are; what they printed."""
    log = log or Log(None)
    given = {
        "root": "root", "keep": DPKG_CAPABILITIES,
        "mounts": [["bind", str(place / "root"), "root", ""]], **fields,
    }  # fmt: skip
    binds = [*toolroot.programs(), *given.pop("binds", ())] if given["root"] else []
    if given["root"] is None:
        given["keep"] = None
    Sandbox(base=place, binds=binds, **given).run(
        *(step("sh", "-ec", one) if isinstance(one, str) else one for one in steps), log=log
    )
    return [line for line in log.tail if not line.startswith("+ ")]
