"""What of out/NAME/ a build would write anew: files that are gone, changed, or of another build."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..host import safe, strict
from ..plan.stage import Plan
from ..session.session import Session
from ..stages import items
from ..stages.papers import known_files

SUMS = "SHA256SUMS"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of out/NAME/, or the folder itself as "": its `state`, and `line` in words.

    `redone`: it was published, and is not what it was; what never was there does not count.
    """

    file: str
    state: str
    line: str
    redone: bool = True

    def plain(self) -> dict[str, Any]:
        """It for another program."""
        return {"file": self.file, "state": self.state, "redone": self.redone, "text": self.line}


def published(
    session: Session, plan: Plan, last: Mapping[str, str], hits: Collection[str]
) -> list[Published]:
    """What is not as a build would leave it; `last` are the files of the last build that is known.

    `hits` are the entries of what is published that the cache has. What a build writes anew only
    since the lock or the spec says something else, beside an image, is not told: that is no file's
    fault.
    """
    known = known_files(session.out) or last
    folder = os.path.relpath(session.out, session.root)
    if not known:
        line = f"nothing is published in {folder}/ yet"
        return [Published(file="", state="never", line=line, redone=False)]
    if not os.path.lexists(session.out):
        return [Published(file="", state="gone", line=f"{folder}/ is gone")]
    found = []
    wanted = dict(_wanted(session, plan, hits))
    files = {one.name: None for one in plan.products if not one.folder}
    # Of a folder that is to be made anew nobody knows what it will hold: it is what it was.
    folders = tuple(f"{one.name}/" for one in plan.products if one.folder)
    held = [name for name in sorted({*known, *wanted}) if name.startswith(folders)]
    names = {*files, *held, f"{session.spec.name}.yaml", "packages.txt"}
    renamed = {known[one]: one for one in sorted(known.keys() - names)}
    for name in [*files, *sorted(names - {*files})]:
        sha256, state = known.get(name), ""
        if sha256 is not None:
            state = _state(session, name, sha256)
        if not state and name in wanted and wanted[name] != sha256:
            state = "other" if sha256 is not None else "new"
        if state:
            other = renamed.get(wanted.get(name, ""), "") if state == "new" else ""
            words = f"is called {other} so far" if other else WORDS[state]
            found.append(Published(file=name, state=state, line=f"{folder}/{name} {words}"))
    if state := _sums(session, known):
        found.append(Published(file=SUMS, state=state, line=f"{folder}/{SUMS} {WORDS[state]}"))
    return found


def _wanted(session: Session, plan: Plan, hits: Collection[str]) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of each file that a build would publish of what the cache has."""
    found = {
        stage.task: entry
        for stage in plan.ends
        if stage.entry in hits and (entry := session.cache.get(stage)) is not None
    }
    for product in plan.products:
        stages = [product.stage]
        if product.folder:
            stages += [one for one in plan.below(product.stage) if one.kind == "blob"]
        if all(one.task in found for one in stages):
            yield from ((one.path, one.sha256) for one in items.of_product(plan, product, found))


WORDS = {
    "gone": "is gone",
    "changed": "changed since it was published",
    "other": "is of another build",
    "new": "is not published yet",
}


def _state(session: Session, name: str, sha256: str) -> str:
    path = session.out / name
    if not os.path.lexists(path):
        return "gone"
    try:
        return "" if session.cache.memory.holds(path, sha256) else "changed"
    except OSError:
        return "changed"


def _sums(session: Session, known: Mapping[str, str]) -> str:
    path = session.out / SUMS
    if not os.path.lexists(path):
        return "gone"
    text = "".join(f"{known[name]}  {name}\n" for name in sorted(known)).encode()
    try:
        return "" if safe.read_bytes(path, strict.LIST_LIMIT) == text else "changed"
    except OSError:
        return "changed"
