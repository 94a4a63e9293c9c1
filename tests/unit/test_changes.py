"""What `doit lock` says that it changed."""

from __future__ import annotations

from dataclasses import replace

from support import samples
from tasks.plan.changes import SHOWN, changes, markdown
from tasks.plan.lockfile import LockedRepo


def test_changes_of_a_lock_are_told_in_package_terms() -> None:
    one, two, three = (samples.record(name) for name in ("one", "two", "three"))
    old = samples.lock([one], {"app": [two, three]})
    assert changes(old, old) == []
    assert changes(None, old) == ["base: 1 package", "app: 2 packages"]
    newer = replace(two, version="9")
    other = replace(three, sha256="f" * 64)
    new = samples.lock([one, samples.record("four")], {"app": [newer, other]})
    assert changes(old, new) == [
        f"+ four {one.version} (base, from main)",
        f"  three {three.version}: other bytes of the same version (from main)",
        f"  two {two.version} → 9 (from main)",
    ]
    assert changes(new, samples.lock([one, newer], {"app": []})) == [
        f"- four {one.version} (base)", f"- three {three.version} (app)", "  two: app → base",
    ]  # fmt: skip
    foreign = replace(one, architecture="i386")
    assert changes(old, samples.lock([one, foreign], {"app": [two, three]})) == [
        f"+ one:i386 {one.version} (base, from main)"
    ]


REPOS = tuple(
    LockedRepo(name=name, release="a" * 64, date="", fields={"Label": label})
    for name, label in (("main", "Debian"), ("security", "Debian-Security"), ("noble", "Ubuntu"))
)

SUITES = {"main": "trixie", "security": "trixie", "noble": "noble-security"}


def test_a_pull_request_has_security_first() -> None:
    """By the suite of the repository or by its Release's Label, whatever the spec calls it."""
    names = ("alpha", "zeta", "omega", "kept")
    old = samples.lock([samples.record(name) for name in names], repos=REPOS)
    new = samples.lock(
        [
            samples.record("alpha", "2"), samples.record("zeta", "2", repository="security"),
            samples.record("omega", "2", repository="noble"), samples.record("beta"),
            samples.record("kept"),
        ],
        repos=REPOS,
    )  # fmt: skip
    assert markdown("web", old, new, SUITES) == (
        "### web\n\n**Security**\n\n- `omega 1 → 2 (security, from noble)`\n"
        "- `zeta 1 → 2 (security, from security)`\n\n**Others**\n\n"
        "- `alpha 1 → 2 (from main)`\n- new: `beta 1 (base, from main)`\n"
    )


def test_a_pull_request_is_of_packages_alone() -> None:
    old = samples.lock([samples.record("alpha")], repos=REPOS)
    assert markdown("web", old, replace(old, inputs="1" * 32), SUITES) == ""
    assert markdown("web", None, old, SUITES) == "### web\n\n- `base: 1 package`\n"
    new = samples.lock([samples.record(f"p{number}") for number in range(SHOWN + 5)], repos=REPOS)
    text = markdown("web", old, new, SUITES)
    assert text.count("\n- ") == SHOWN + 1
    assert text.endswith("- … and 6 more: see the lock\n")
