"""What `doit lock` says that it changed."""

from __future__ import annotations

from dataclasses import replace

from support import samples
from tasks.plan.changes import changes


def test_changes_of_a_lock_are_told_in_package_terms() -> None:
    one, two, three = (samples.record(name) for name in ("one", "two", "three"))
    old = samples.lock([one], {"app": [two, three]})
    assert changes(old, old) == []
    assert changes(None, old) == ["base: 1 package", "app: 2 packages"]
    newer = replace(two, version="9")
    other = replace(three, sha256="f" * 64)
    new = samples.lock([one, samples.record("four")], {"app": [newer, other]})
    assert changes(old, new) == [
        f"+ four {one.version} (base)",
        f"  three {three.version}: other bytes of the same version",
        f"  two {two.version} → 9",
    ]
    assert changes(new, samples.lock([one, newer], {"app": []})) == [
        f"- four {one.version} (base)", f"- three {three.version} (app)", "  two: app → base",
    ]  # fmt: skip
    foreign = replace(one, architecture="i386")
    assert changes(old, samples.lock([one, foreign], {"app": [two, three]})) == [
        f"+ one:i386 {one.version} (base)"
    ]
