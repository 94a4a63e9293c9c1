"""`doit check`: is a spec right? Without root, network or lock, in less than a second."""

from __future__ import annotations

from ..plan import lockfile
from ..plan.accounts import authorized_keys
from ..plan.entries import layer_entries, layer_scripts
from ..plan.image_version import git_version
from ..plan.repositories import MIRRORS, keyring_files, lacking, read_from
from ..session.session import Session
from ..spec.compose import variants_of
from ..spec.words import counted


def check(session: Session) -> None:
    """Say what a spec holds, once all that can be seen without a build was looked at.

    Raises BuildError for the first fault: the schema, rules, each source file, script and keyring,
    the addresses, and what the lock says of itself. A lock that is stale or missing is no fault,
    and neither is a mirror that this host does not know; that is told.
    """
    spec = session.spec
    for variant in () if session.variant else variants_of(spec.path, session.specs):
        # Read and checked as if it were wanted: who mistyped it is told before it is.
        _ = Session(root=session.root, variables={**session.variables, "variant": variant}).spec
    # What these stand for is the building host's to say.
    unknown = dict.fromkeys(MIRRORS, "http://mirror.invalid/debian")
    files = 0
    for layer in spec.layers:
        files += len(layer_entries(layer, spec))
        layer_scripts(layer, spec)
        for user in layer.users:
            authorized_keys(user, layer, spec)
    for repo in spec.repos:
        if repo.keyring is not None:
            keyring_files(repo, spec)
        read_from(repo, {**unknown, **session.mirrors}, spec)
    if spec.settings.version == "git":
        git_version(spec, session.root)
    lock = session.read_lock()
    debs = sum(map(len, session.project.own(lock).values()))
    state = "current" if lock is not None and session.fits(lock) else lockfile.state(lock)
    held = ", ".join(
        counted(number, what)
        for number, what in (
            (len(spec.repos), "repository"), (len(spec.layers), "layer"), (debs, ".deb"),
            (files, "file"),
            (len(spec.images), "image"), (len(spec.disks), "disk"), (len(spec.exports), "export"),
            (len(spec.tests), "boot test"),
        )
        if number
    )  # fmt: skip
    session.screen.line(f"{spec.path}: right: {held}; the lock is {state}")
    for one in lacking(spec, session.mirrors):
        session.screen.line(f"  to lock or build it here, {one.hint}: {one.message}")
