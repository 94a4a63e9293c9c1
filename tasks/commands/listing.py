"""`strata list`: the specs here, or a spec's graph with the state of each stage. Works offline."""

from __future__ import annotations

from ..errors import BuildError
from ..plan import fstab
from ..session.session import Session
from ..spec.load import spec_names


def listing(session: Session) -> None:
    """Say what there is; a spec without a lock has no keys yet. BuildError for a bad one."""
    if not session.name:
        names = spec_names(session.specs)
        for name in names:
            session.screen.line(name)
        if not names:
            session.screen.line("no spec here: strata init makes one")
        return
    try:
        plan = session.plan
    except BuildError:
        spec = session.spec  # its own error, if it is what cannot be read
        session.screen.line("base")
        # What is in a folder of theirs, and what the lock asks for, is not known yet.
        files = {one.name: [[file.target] for file in one.files] for one in spec.layers}
        last = ["settings"] if spec.settings or fstab.wanted(spec, files) else []
        for layer in [*(one.name for one in spec.layers), *last]:
            session.screen.line(f"└─ layer {layer}")
        for image in spec.images:
            session.screen.line(f"   └─ image {image.mount}")
        session.screen.line(f"no key is known before {session.lock_path} is: strata lock")
        return
    for stage in plan.stages:
        entry = session.cache.get(stage)
        depth = {"base": "", "layer": "└─ ", "image": "   └─ "}[stage.kind]
        size = f"{entry.path.stat().st_size / 1e6:10.1f} MB" if entry else ""
        state = "in the cache" if entry else "not built"
        session.screen.line(f"{depth + stage.title:<24} {stage.key[:8]}  {state:<12}{size}")
