"""All that keys take from the host, gathered for the plan."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import BuildError
from ..spec.model import Spec
from . import versions
from .accounts import accounts_identity
from .entries import layer_entries, script_identity, script_reads
from .image_version import image_version
from .lockfile import Lock
from .passwords import debconf_identity
from .plan import tools_for
from .settings import settings_identity
from .sources import source_digests
from .stage import Host
from .tools import tool_versions


def epoch_override() -> int | None:
    """SOURCE_DATE_EPOCH, in seconds, or None; BuildError when it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > 4102444800:
        raise BuildError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)


def host_inputs(
    spec: Spec, lock: Lock, mirrors: Mapping[str, str], memory: Path, project: Path
) -> Host:
    """All that the plan needs of the host."""
    version = image_version(spec, lock, project)
    boots: set[str] = set()
    tests: dict[str, str] = {}
    if spec.tests:
        from . import boot_tests  # as in plan.tools_for

        boots, tests = boot_tests.tools(spec), boot_tests.digests(spec)
    # Of what boots disks, what lacks here is the tests' fault alone, where they are run.
    tools = tool_versions(tools_for(spec), memory, boots)
    return Host(
        version=version,
        tools={name: versions.keyed(name, found) for name, found in tools.items()},
        files={
            layer.name: [entry.identity() for entry in layer_entries(layer, spec)]
            for layer in spec.layers
        },
        scripts={
            layer.name: script_identity(layer, spec) for layer in spec.layers if layer.scripts
        },
        accounts={layer.name: accounts_identity(layer, spec, lock) for layer in spec.layers},
        debconf={
            "base": debconf_identity(spec.base.debconf),
            **{layer.name: debconf_identity(layer.debconf) for layer in spec.layers},
        },
        settings=settings_identity(spec, lock, mirrors, version),
        epoch=epoch_override(),
        sources=source_digests(spec),
        tests=tests,
        reads={
            layer.name: script_reads(layer)
            for layer in spec.layers
            if layer.scripts and spec.settings.shown
        },
    )
