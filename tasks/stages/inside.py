"""Work inside a tree: what layers and settings have in common.

the trees below ─→ an upper directory on top ─→ steps run confined in it ─→ cleaned, dated, packed
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..errors import BuildError
from ..host.files import remove
from ..host.sandbox import DPKG_CAPABILITIES, Sandbox, Step, step
from ..plan.entries import Entry
from ..plan.job import LayerJob, SettingsJob
from ..rootfs import clean, debconf, identities, measure, tarball
from ..rootfs.overlay import Upper
from ..rootfs.paths import find_in
from ..spec import given
from . import own

INSIDE = "/dev/.strata/in"
"""Where a stage's inputs are seen in the sandbox: on the private /dev, so no trace is left."""
SHELL = "/dev/.strata/sh"
"""Where it sees the programs of SCRIPTS."""
SCRIPTS = Path(__file__).with_name("scripts")

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Of all but the user's script: what an image has below /usr/local is for its own users, and an
apt-get of theirs steers no installation."""

POLICY = "policy-rc.d"
LOCALE = "/etc/default/locale"


def shell(name: str, *arguments: str, title: str = "") -> Step:
    """A step that is one of the programs in scripts/, which says itself what it does."""
    return step("/bin/sh", f"{SHELL}/{name}.sh", *arguments, title=title, shown="")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tree is worked on: the trees below it, and the folder that the sandbox is given."""

    job: LayerJob | SettingsJob
    builder: Builder
    folder: Path
    lower: Sequence[str]
    made: Mapping[str, str]
    """What `files` and scripts made of the layers below: by path the layer's name."""

    def epoch(self, newest: int) -> int:
        """SOURCE_DATE_EPOCH, or the newer of a date and the parent's, in seconds."""
        override = self.job.stage.inputs["epoch"]
        if override is not None:
            return int(override)
        parent = self.builder.cache.require(self.job.below[-1])
        return max(int(parent.facts["epoch"]), newest)

    def sandbox(
        self,
        upper: Upper,
        epoch: int,
        shown: Mapping[str, str],
        env: Mapping[str, str],
        writable: Sequence[tuple[str, str]] = (),
        *,
        network: bool = False,
    ) -> Sandbox:
        """What the steps run in."""
        return Sandbox(
            base=upper.base,
            mounts=[upper.mount("root")],
            root="root",
            binds=[(str(self.folder), INSIDE), (str(SCRIPTS), SHELL)],
            writable=writable,
            keep=DPKG_CAPABILITIES,
            cwd="/",
            arches=self.job.arches,
            env={
                "SOURCE_DATE_EPOCH": str(epoch),
                "APT_CONFIG": f"{INSIDE}/apt.conf",
                "SYSTEMD_OFFLINE": "1",
                "HOME": "/root",
                "PATH": PATH,
                **env,
            },
            hostname=shown.get("hostname", "localhost"),
            network=network,
        )

    def without_contradiction(
        self, entries: Sequence[Entry], yields: Sequence[str] = ()
    ) -> list[Entry]:
        """The files of settings, without those that yield to the user's own.

        `yields` are targets that the spec did not ask for. BuildError where another one would write
        over what is the user's own and says something else.
        """
        found = []
        for given_entry in entries:
            entry = given_entry
            if entry.target == LOCALE:
                entry = replace(entry, target=self._locale_file())
            name = entry.target.lstrip("/")
            if name not in self.made:
                found.append(entry)
                continue
            if entry.target not in given.MADE_BY or entry.target in yields:
                continue  # an /etc/hosts of theirs stays as it is
            found.append(entry)
            path = find_in(self.builder.trees.folder, self.lower, name)
            if path is not None and own.content(path) != (entry.kind, entry.content.strip()):
                field = given.MADE_BY[entry.target]
                raise BuildError(
                    f"{self.job.spec}: {field}: the layer {self.made[name]} makes {entry.target} "
                    "itself, and it says something else",
                    f"leave one of the two out: {field}, or the file",
                )
        return found

    def _locale_file(self) -> str:
        """Where the trees below have the LANG of all: since Debian 13 LOCALE is a link.

        systemd reads only what it leads to there, so the link is not to be replaced.
        """
        path = find_in(self.builder.trees.folder, self.lower, LOCALE.lstrip("/"))
        # As text: nothing of a tree is followed on the host.
        leads = os.readlink(path) if path is not None and path.is_symlink() else LOCALE
        target = os.path.normpath(os.path.join(os.path.dirname(LOCALE), leads))
        return target if target == given.LOCALE_CONF else LOCALE


@contextlib.contextmanager
def place(job: LayerJob | SettingsJob, builder: Builder) -> Iterator[Place]:
    """The place of a job; its folder is removed when all went well."""
    folder = builder.scratch / f"in-{job.stage.key}"
    remove(folder)
    folder.mkdir()
    folder.chmod(0o755)
    (folder / POLICY).write_bytes((SCRIPTS / f"{POLICY}.sh").read_bytes())
    lower = builder.trees.lower(job.below, builder.log)
    made = {
        str(path): stage.name
        for stage in job.below
        for path in builder.cache.require(stage).facts.get("own", ())
    }
    yield Place(job=job, builder=builder, folder=folder, lower=lower, made=made)
    # After a failure it stays till scratch goes: what is free then is looked at first.
    remove(folder)


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What is known of a tree when its steps have run."""

    epoch: int
    mine: Set[str] = frozenset()
    """What the user's files and script put where a build cleans, relative to the tree."""
    drawn: Sequence[identities.Notice] = field(default=())
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else its record says of it."""


def finish(place: Place, upper: Upper, found: Finish) -> None:
    """Clean the tree, give it its times and put it into the cache."""
    builder, name = place.builder, place.job.stage.name
    identities.note(found.drawn, builder.log)
    kept = {*found.mine, *own.shielded(upper, place.lower, place.made)}
    clean.sweep(upper.path, kept=kept)
    debconf.sweep(upper.base, upper.name, place.lower)
    rare = clean.clamp_times(upper.path, found.epoch, upper.begun)
    if rare.sockets:
        builder.say(own.sockets(name, rare.sockets))
    facts: dict[str, Any] = measure.facts(found.epoch, place.job.installed, upper.path)
    facts["drawn"] = identities.facts(found.drawn)
    if found.mine:
        facts["own"] = sorted(found.mine)
    facts |= found.facts
    doubtful = builder.trees.standing(place.job.below).doubtful
    with builder.cache.put(place.job.stage, facts, doubtful=doubtful) as target:
        tarball.pack(upper.path, target, builder.log, rare=rare, size=facts["size"])
