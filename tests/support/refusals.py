"""What a run may not change or leave behind when it is refused, and what it says then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from support.world import Build, World


def results(world: World) -> dict[str, bytes]:
    """What a failed run may not change: locks, and out/ but for its logs."""
    files = [*world.root.glob("specs/*.lock"), *world.root.glob("out/*/*")]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def leftovers(world: World) -> list[str]:
    """What a run may not leave: temporary files, scratch folders, half a cache entry."""
    found = [*world.root.glob("specs/**/*.tmp"), *world.root.glob("specs/**/.*"),
             *world.root.glob("out/**/*.tmp"), *world.root.glob("out/**/.*"),
             *world.root.glob("cache/**/*.tmp"), *world.root.glob("cache/**/.new-*"),
             *scratch(world).glob("build-*")]  # fmt: skip
    for path in world.root.glob("cache/*/*-*.*"):
        if path.suffix != ".json" and path.parent.name in ("layers", "images"):
            record = path.with_name(path.name.partition(".")[0] + ".json")
            found += [] if record.exists() else [path]
    return [str(path) for path in found]


def scratch(world: World) -> Path:
    return Path(world.env.get("STRATA_SCRATCH", world.root / ".doit/scratch")) / "strata-0"


def refused(
    world: World,
    *words: str,
    run: Callable[[World, Sequence[str]], Build] | None = None,
    **env: str,
) -> str:
    """What doit says when it refuses these words: checked to be an error that changed nothing."""
    before = results(world)
    build = run(world, words) if run else world.doit(*words, check=False, **env)
    assert build.code != 0, build.text
    assert "Traceback" not in build.text
    assert build.err.count("ERROR: ") == 1, build.text
    assert results(world) == before
    assert leftovers(world) == []
    return build.text


def late(world: World) -> str:
    """What a build says that fails after the lock has been written: that file is no leftover."""
    world.doit("lock", "spec=web")
    return refused(world, "build", "spec=web", "lock=keep")
