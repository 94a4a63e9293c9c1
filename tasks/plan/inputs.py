"""All that keys take from the host, gathered for the plan."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..debian import apt
from ..errors import BuildError
from ..spec.model import Spec, masked
from . import versions
from .entries import layer_entries, script_identity, script_reads
from .lockfile import Lock
from .passwords import debconf_identity, shadow_field
from .plan import tools_for
from .repositories import expand, signed_identity
from .stage import Host
from .tools import tool_versions


def settings_identity(spec: Spec, lock: Lock, mirrors: Mapping[str, str]) -> dict[str, Any]:
    """What the key of the layer `settings` sees; of a password only a digest of its crypt(5)."""
    settings = spec.settings
    shadow = shadow_field(spec, lock)
    fields = {repo.name: repo.fields for repo in lock.repos}
    pins = [(repo.name, repo.priority, fields[repo.name]) for repo in spec.repos]
    return {
        "hostname": settings.hostname,
        "timezone": settings.timezone,
        "locale": settings.locale,
        "password": hashlib.sha256(shadow.encode()).hexdigest() if shadow else "",
        # The one place where an address is content: it is written into the image.
        "apt_sources": [
            [repo.name, masked(expand(repo.uri, mirrors, spec)), repo.suite, repo.section,
             repo.priority, repo.trusted,
             signed_identity(repo, spec, lock)]
            for repo in spec.repos
        ] if settings.apt_sources else [],
        "pins": apt.preferences(
            pins, sites=False, pins={repo.name: repo.pins for repo in spec.repos}
        ) if settings.apt_sources else "",
    }  # fmt: skip


# ---------------------------------------------------------------- all of it


def epoch_override() -> int | None:
    """SOURCE_DATE_EPOCH, in seconds, or None; BuildError when it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > 4102444800:
        raise BuildError(f"SOURCE_DATE_EPOCH={text}: expected seconds since 1970")
    return int(text)


def host_inputs(spec: Spec, lock: Lock, mirrors: Mapping[str, str], memory: Path) -> Host:
    """All that the plan needs of the host."""
    return Host(
        tools={
            name: versions.keyed(name, version)
            for name, version in tool_versions(tools_for(spec), memory).items()
        },
        files={
            layer.name: [entry.identity() for entry in layer_entries(layer, spec)]
            for layer in spec.layers
        },
        scripts={layer.name: script_identity(layer, spec) for layer in spec.layers if layer.script},
        debconf={layer.name: debconf_identity(layer) for layer in spec.layers},
        settings=settings_identity(spec, lock, mirrors) if spec.settings else {},
        epoch=epoch_override(),
        reads={layer.name: script_reads(layer) for layer in spec.layers
               if layer.script and spec.settings.shown},
    )  # fmt: skip
