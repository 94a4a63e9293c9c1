"""One apt for all repositories: what it would install, remove and mark, and why it will not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..builder import Builder
from ..debian import answers, apt, deb822, unsolved
from ..errors import BuildError, NoRoom
from ..host.log import last_lines
from ..host.process import capture
from ..plan import lockfile
from ..plan.debs import OwnDeb
from ..plan.lockfile import Lock, Record
from ..plan.tools import tool_versions
from ..spec.model import Spec
from ..store.digests import SEAL
from . import own
from .resolutions import ResolutionCache
from .snapshot import Snapshot

PINNED = 32767
"""Of what lock=keep keeps: apt's highest, which no priority of a spec's reaches then."""


class Resolver:
    """One private apt that sees all snapshots, each at a site of its own."""

    def __init__(
        self, spec: Spec, builder: Builder, snapshots: Sequence[Snapshot], keep: Lock | None
    ) -> None:
        self.spec = spec
        self.snapshots = snapshots
        self.log = builder.log
        self.folder = builder.scratch / "resolve"
        self.stanzas: dict[str, str] = {}
        self.places: dict[Path, dict[bytes, int]] = {}
        for name in ("lists/partial", "cache", "trusted.gpg.d"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.own: dict[tuple[str, str], OwnDeb] = {}
        given = {
            (one.record.package, one.record.native(spec.arch))
            for debs in builder.reach.own.values()
            for one in debs
        }
        self.sources = sources = self._link_lists()
        self.pins = pins = self._pins(keep, given)
        self.kept = {keep.slot(record): record for record in keep.installed()} if keep else {}
        self.answers = ResolutionCache(builder.state / "resolved")
        # Snapshots are what their Release says, by whose digest they are called.
        self.asked: dict[str, Any] = {
            "recipe": 2,
            "apt": tool_versions(["apt-get"], builder.state / "tools.json")["apt-get"],
            "sources": sources,
            "releases": [snapshot.release for snapshot in snapshots],
            "names": [snapshot.repo.name for snapshot in snapshots],
            "pins": pins,
            "arch": [self.spec.arch, *self.spec.foreign],
            "recommends": self.spec.recommends,
            "wanted": [],
        }
        self._configure(sources, pins)
        for name, text in (
            ("auth.conf", ""),
            (
                "apt.conf",
                apt.configuration(
                    str(self.folder),
                    arch=self.spec.arch,
                    foreign=self.spec.foreign,
                    recommends=self.spec.recommends,
                ),
            ),
        ):
            (self.folder / name).write_text(text, encoding="utf-8")

    def _configure(self, sources: Sequence[str], pins: str) -> None:
        for name, text in (("apt.sources", "\n".join(sources)), ("preferences", pins)):
            (self.folder / name).write_text(text, encoding="utf-8")

    def offer(self, debs: Sequence[OwnDeb]) -> None:
        """Show apt these .debs of the project: from now on it takes them, and no others of a name.

        What was asked before did not see them.
        """
        if not debs:
            return
        for one in debs:
            self.own[(one.record.package, one.record.native(self.spec.arch))] = one
            self.stanzas[one.record.sha256] = one.stanza
        all_ = [self.own[slot] for slot in sorted(self.own)]
        site = len(self.snapshots)
        source = own.write_index(self.folder / "lists", all_, site)
        pins = own.pins(all_, site, self.spec.arch, PINNED)
        self._configure([source, *self.sources], pins + self.pins)
        offers = self.asked.get("own", [])
        digests = sorted(one.record.sha256 for one in all_)
        self.asked["own"] = [*offers, [len(self.asked["wanted"]), digests]]
        self.asked["names"] = list(dict.fromkeys([*self.asked["names"], lockfile.OWN]))

    def _record(self, item: answers.Available) -> Record:
        """What apt chose as the lock has it."""
        if item.site == len(self.snapshots):
            return next(one.record for one in self.own.values() if one.record.sha256 == item.sha256)
        return Record(
            package=item.package,
            version=item.version,
            architecture=item.architecture,
            sha256=item.sha256,
            size=item.size,
            path=item.path,
            repository=self.snapshots[item.site].repo.name,
        )

    def _link_lists(self) -> list[str]:
        """Show apt the snapshots' lists, each at a site of its own; its sources for them."""
        sources = []
        for number, snapshot in enumerate(self.snapshots):
            repo = snapshot.repo
            sources.append(apt.source(apt.site(number), repo.suite, repo.components, trusted=True))
            for path in snapshot.folder.iterdir():
                if path.name == SEAL:
                    continue
                link = self.folder / "lists" / f"{apt.list_name(apt.site(number))}_{path.name}"
                link.unlink(missing_ok=True)
                link.symlink_to(path)
        return sources

    def _pins(self, keep: Lock | None, given: set[tuple[str, str]]) -> str:
        """Priorities of repositories and, above them, of what is kept and not `given` by debs."""
        snapshots = self.snapshots
        highest = PINNED - 1 if keep or given else PINNED
        pins = apt.preferences(
            [
                (s.repo.name, s.repo.priority and min(s.repo.priority, highest), s.fields)
                for s in snapshots
            ],
            where=self.spec.path,
            sites=True,
            pins={
                s.repo.name: [(names, min(priority, highest)) for names, priority in s.repo.pins]
                for s in snapshots
            },
        )
        if keep is not None:
            pins = (
                "\n".join(
                    [
                        f"Package: {record.package}:{record.native(self.spec.arch)}\n"
                        f"Pin: version {record.version}\nPin-Priority: {PINNED}\n"
                        for record in keep.installed()
                        if record.repository != lockfile.OWN and keep.slot(record) not in given
                    ]
                )
                + "\n"
                + pins
            )
        return pins

    def packages_paths(self, number: int) -> list[Path]:
        """The Packages files of one snapshot."""
        return sorted(self.snapshots[number].folder.glob("*Packages"))

    def solve(
        self, wanted: Sequence[str], installed: Sequence[Record], where: str
    ) -> tuple[list[Record], list[str]]:
        """(what apt adds, what it removes) to install `wanted` on `installed`.

        `installed` is what came of the calls before this one.
        """
        requests = [self._by_version(name) for name in wanted]
        self.asked = {**self.asked, "wanted": [*self.asked["wanted"], requests]}
        if not wanted:
            return [], []
        unsolved.contradiction(where, wanted, self.spec.arch)
        known = self.answers.get(self.asked, set(self.asked["names"]))
        if known is not None:
            self.log.line(f"# resolved {where} before: {' '.join(wanted)}")
            # Of a .deb that was moved meanwhile the path is another.
            paths = {one.record.sha256: one.record for one in self.own.values()}
            return [paths.get(one.sha256, one) for one in known[0]], known[1]
        self._read_stanzas(installed, where)
        status = deb822.installed_status(self.stanzas[record.sha256] for record in installed)
        (self.folder / "status").write_text(status, encoding="utf-8")
        essential = {
            record.package
            for record in installed
            if re.search(
                r"^(Essential|Protected|Important): yes$", self.stanzas[record.sha256], re.MULTILINE
            )
        }
        named = {answers.plain_name(name) for name in wanted if name.endswith("-")}
        # Only what is named so may go: see below.
        allowed = ["--allow-remove-essential"] if named & essential else []
        # Where what a kept version needs is gone, its suite may have something in its place.
        for asking in [requests, wanted] if requests != list(wanted) else [wanted]:
            code, out, err = capture(
                [
                    "apt-get",
                    "--print-uris",
                    "--yes",
                    "--allow-downgrades",
                    *allowed,
                    "install",
                    *asking,
                ],
                env={"APT_CONFIG": str(self.folder / "apt.conf")},
            )
            self.log.line(f"# resolving {where}: {' '.join(asking)}\n{out}{err}")
            if not code:
                break
        if code:
            failed = self.log.failure(f"resolving {where}", err)
            if isinstance(failed, NoRoom):
                raise failed
            self._refuse_removal(where, answers.parse_removed(out), essential - named)
            raise unsolved.explained(
                where,
                wanted,
                out,
                err,
                self._apt_cache,
                repos=[*(one.repo.name for one in self.snapshots), "debs"],
                suites=[
                    [
                        one.fields[name]
                        for name in ("Suite", "Archive", "Codename")
                        if one.fields.get(name)
                    ]
                    for one in self.snapshots
                ],
                essential=essential,
                arches=[self.spec.arch, *self.spec.foreign],
                satisfies=_satisfies,
                missing=[
                    f"repos.{one.repo.name} has no index of its component {component}"
                    for one in self.snapshots
                    for component in one.without_index()
                ],
            )
        available, removed = answers.parse_print_uris(out)
        self._refuse_removal(where, removed, essential - named)
        added = sorted(self._record(item) for item in available)
        self.answers.put(self.asked, added, removed)
        return added, removed

    def _by_version(self, request: str) -> str:
        """`name/suite` as `name=version` if a version is kept and that suite still has it.

        Else apt takes what is newest in the suite, whatever is pinned.
        """
        name, slash, suite = request.rpartition("/")
        slot = answers.requested(request, self.kept.keys(), self.spec.arch) if slash else None
        if slot is None:
            return request
        record = self.kept[slot]
        for number, snapshot in enumerate(self.snapshots):
            if suite in (snapshot.fields.get(field) for field in ("Suite", "Archive", "Codename")):
                for path in self.packages_paths(number):
                    if path not in self.places:
                        self.places[path] = deb822.places_by_sha256(path.read_bytes())
                    if record.sha256.encode() in self.places[path]:
                        return f"{name}={record.version}"
        return request

    def _apt_cache(self, *words: str) -> str:
        env = {"APT_CONFIG": str(self.folder / "apt.conf")}
        return capture(["apt-cache", *words], env=env)[1]

    def _refuse_removal(self, where: str, removed: Sequence[str], essential: set[str]) -> None:
        """BuildError for what is essential and would go without having been named."""
        lost = sorted({name.partition(":")[0] for name in removed} & essential)
        if lost:
            raise BuildError(
                f"{where}: apt would remove {', '.join(lost)}, which is essential",
                f"leave out what does not go with it, or list {lost[0]}- here if the image can "
                "do without",
            )

    def manual(
        self, wanted: Sequence[str], installed: Sequence[Record], where: str
    ) -> tuple[str, ...]:
        """The packages that apt took for what is wanted, of all that is installed after it.

        What a request names outright is read off; for the rest, as a virtual package, apt is asked.
        """
        arch = self.spec.arch
        slots = {(one.package, one.native(arch)) for one in installed}
        found = {name: answers.requested(name, slots, arch) for name in wanted}
        asked = {slot for slot in found.values() if slot is not None}
        if any(slot is None and not name.endswith("-") for name, slot in found.items()):
            asked = self._manual_by_apt(wanted, installed, slots, where)
        return tuple(sorted(lockfile.short_name(*slot, arch) for slot in asked))

    def _manual_by_apt(
        self,
        wanted: Sequence[str],
        installed: Sequence[Record],
        slots: set[tuple[str, str]],
        where: str,
    ) -> set[tuple[str, str]]:
        """Ask the same of an apt that has it all, marked automatic: what it unmarks it would take.

        It has nothing to install then, writes its marks and ends.
        """
        asked = {**self.asked, "marks": True}
        known = self.answers.get(asked, set(self.asked["names"]))
        if known is not None:
            return {lockfile.slot(name, self.spec.arch) for name in known[1]}
        self._read_stanzas(installed, where)
        status = deb822.installed_status(self.stanzas[record.sha256] for record in installed)
        (self.folder / "status").write_text(status, encoding="utf-8")
        marks = self.folder / "extended_states"
        # By what is there: of a suite apt would take what is newest, and need to fetch it.
        versions = {(one.package, one.native(self.spec.arch)): one.version for one in installed}
        requests = []
        for name in wanted:
            slot = answers.requested(name, slots, self.spec.arch) if "/" in name else None
            plain = name.partition("/")[0]
            requests.append(name if slot is None else f"{plain}={versions[slot]}")
        names = sorted(f"{package}:{architecture}" for package, architecture in slots)
        marks.write_text(deb822.extended_states(names), encoding="ascii")
        code, out, err = capture(
            [
                "apt-get",
                "--yes",
                "--allow-downgrades",
                "--no-download",
                "--option",
                "Debug::NoLocking=true",
                "install",
                *requests,
            ],
            env={"APT_CONFIG": str(self.folder / "apt.conf")},
        )
        self.log.line(f"# what {where} asked for: {' '.join(wanted)}\n{out}{err}")
        taken = slots - deb822.marked_auto(marks.read_text(encoding="utf-8"))
        marks.unlink()
        if code or not taken:
            raise BuildError(
                f"{where}: apt does not tell which package it takes for "
                f"{' '.join(wanted)}:\n{last_lines((out + err).splitlines())}",
                "name the packages themselves, not what they provide",
            )
        self.answers.put(asked, [], [lockfile.short_name(*slot, self.spec.arch) for slot in taken])
        return taken

    def _read_stanzas(self, records: Sequence[Record], where: str) -> None:
        for number, snapshot in enumerate(self.snapshots):
            wanted = {one.sha256 for one in records if one.repository == snapshot.repo.name}
            if wanted <= self.stanzas.keys():
                continue
            for path in self.packages_paths(number):
                index = path.read_bytes()
                if path not in self.places:
                    self.places[path] = deb822.places_by_sha256(index)
                left = wanted - self.stanzas.keys()
                self.stanzas.update(deb822.stanzas_by_sha256(index, left, self.places[path]))
        lost = [one.package for one in records if one.sha256 not in self.stanzas]
        if lost:
            raise BuildError(f"{where}: no index has the stanza of {', '.join(lost[:5])}")

    def base(self) -> list[str]:
        """What the base variant asks for, by the first repository's own indexes."""
        names: set[str] = set()
        for path in self.packages_paths(0):
            index = path.read_bytes()
            names |= deb822.selected_names(index, self.spec.base.variant, self.spec.arch)
            if self.spec.base.tool == "debootstrap" and b"\nPackage: usr-is-merged\n" in index:
                # bookworm's script asks for it by name, and for usrmerge not to be there.
                names.add("usr-is-merged")
        return sorted(names | set(self.spec.base.include))


def _satisfies(version: str, relation: str) -> bool:
    """Whether a version fits `>= 2` or the like, as dpkg compares them."""
    sign, _, other = relation.partition(" ")
    if not other:
        return True
    return capture(["dpkg", "--compare-versions", version, sign, other])[0] == 0
