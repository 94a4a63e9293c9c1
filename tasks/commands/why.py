"""`doit why`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..host import safe, strict
from ..plan import lockfile
from ..plan.debs import changed
from ..plan.keys import canonical
from ..plan.stage import Stage, other_tools, tools_of
from ..session.session import Session
from ..spec.words import network_told
from ..store.record import FOLDERS, read_record


def why(session: Session) -> bool:
    """Say of each stage whether a build would redo it, and what changed; asks no repository.

    False where something would be redone: the exit status is 2.
    """
    lock = session.read_lock()
    if lock is None or not session.fits(lock):
        state = lockfile.state(lock)
        session.screen.line(f"lock    {session.lock_path} is {state}: a build resolves it first")
        if lock is not None:
            for line in changed(session.project.own(lock), lock):
                session.screen.line(f"        {line}")
            session.screen.line("        run `doit lock` to see the rest")
        return False
    for name in session.spec.unreproducible:
        session.screen.line(network_told(name))
    plan = session.plan
    needed = [stage for stage in plan.images if session.cache.get(stage) is None]
    if not needed:
        session.screen.line("nothing would be redone: every image is in the cache")
        return True
    there = {stage.entry: _pulled_from(session, stage) for stage in needed}
    redo: list[Stage] = list(needed)
    if not all(there.values()):
        for stage in reversed(plan.tree):
            if session.cache.get(stage) is not None:
                break
            redo.insert(0, stage)
            there[stage.entry] = _pulled_from(session, stage)
    for stage in redo:
        place = there[stage.entry]
        would = f"would be pulled from {place}" if place else "would be built"
        session.screen.line(f"{stage.kind:<6}  {stage.name:<16} {stage.key[:8]} {would}")
        reasons = [] if place else [*_reasons(session, stage), *_elsewhere(session, stage)]
        for line in reasons:
            session.screen.line(f"        {line}")
    return False


def _pulled_from(session: Session, stage: Stage) -> str:
    """The shared cache that has a stage, or ""."""
    shared = session.shared
    return shared.where(stage) if shared is not None else ""


def _elsewhere(session: Session, stage: Stage) -> list[str]:
    """With which other tools another host has made it, as the shared caches know, a line each."""
    if session.shared is None:
        return []
    like = session.likenesses[stage.entry]
    tools = session.shared.like(like)
    return [
        f"not in the shared cache: built there with {name} {tools[name]}, here {like.tools[name]}"
        for name in sorted(tools.keys() & like.tools.keys())
        if tools[name] != like.tools[name]
    ]


def _reasons(session: Session, stage: Stage) -> list[str]:
    """How the inputs differ from those of the most recent record of the same stage."""
    records = [
        path
        for path in session.cache.own(FOLDERS[stage.kind])
        if path.suffix == ".json" and path.name.startswith(f"{stage.kind}-")
    ]
    records.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
    # Before the most recent of all specs comes what this spec's own last build was made of.
    own = _last_key(session, stage)
    records.sort(key=lambda path: path.stem != f"{stage.kind}-{own}")
    for path in records:
        try:
            record = read_record(path)
            if record["name"] != stage.name or record["key"] == stage.key:
                continue
        except (OSError, ValueError):
            continue  # damaged, or with the form of another version
        try:
            found = differences(record["inputs"], stage.inputs)
        except (ValueError, LookupError, TypeError, AttributeError):
            # A record vouches for its own form, not for that of what it was made of.
            return ["the inputs of its last build cannot be compared: they have another form"]
        return found or ["its file in the cache is missing"]
    # Of another host there may be the results alone.
    tools = other_tools(_published_tools(session), tools_of(stage.inputs))
    return ["no earlier build of it is in the cache", *tools]


def _published_tools(session: Session) -> dict[str, str]:
    """The tools that out/NAME/ was built with, as its metadata tells, or nothing."""
    import yaml

    try:
        text = safe.read_bytes(session.out / f"{session.name}.yaml", strict.LIST_LIMIT)
        return {str(name): str(one) for name, one in yaml.safe_load(text)["tools"].items()}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        yaml.YAMLError,
    ):
        return {}


def _last_key(session: Session, stage: Stage) -> str:
    """The key that a stage of this name had in the last build, or ""."""
    try:
        stages = strict.read(session.out / "build.json")["stages"]
        return next(
            str(one["key"])
            for one in stages
            if (one["stage"], one["name"]) == (stage.kind, stage.name)
        )
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two stages' inputs, in package terms where it is packages.

    ValueError, LookupError, TypeError or AttributeError where the old ones have no form that is
    known: only what the new ones hold is of a form that can be relied on.
    """
    lines: list[str] = []
    if old.get("recipe") != new.get("recipe"):
        # What the inputs are called may differ, too.
        return ["this version of Strata makes it in another way"]
    tools = other_tools(tools_of(old), tools_of(new))
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if None not in (before, after) and type(before) is not type(after):
            raise strict.Damaged(f"its inputs' {name} is malformed")
        if name in ("tools", "tool_version") and tools:
            lines += tools
            tools = []
            continue
        if name == "records" and isinstance(before, list) and isinstance(after, list):
            was = {(row[0], row[2]): row for row in before}
            now = {(row[0], row[2]): row for row in after}
            for slot in sorted(was.keys() | now.keys()):
                if was.get(slot) == now.get(slot):
                    continue
                if slot not in now:
                    lines.append(f"package {slot[0]} {was[slot][1]} is gone")
                elif slot not in was:
                    lines.append(f"package {slot[0]} {now[slot][1]} is new")
                elif was[slot][1] == now[slot][1]:
                    lines.append(f"package {slot[0]} {now[slot][1]} has other bytes")
                else:
                    lines.append(f"package {slot[0]}: {was[slot][1]} → {now[slot][1]}")
        elif name == "manual":
            had, has = set(before or ()), set(after or ())
            lines += [
                f"package {one.partition(':')[0]} is no longer asked for"
                for one in sorted(had - has)
            ]
            lines += [f"package {one.partition(':')[0]} is asked for" for one in sorted(has - had)]
        elif name == "auto":
            continue  # what is not asked for: the packages or `manual` tell it
        elif name == "script":
            lines.append(
                "its script "
                + ("is gone" if not after else "is new" if not before else "has other bytes")
            )
        elif name == "shown":
            was, now = before or {}, after or {}
            differ = [one for one in sorted({*was, *now}) if was.get(one) != now.get(one)]
            lines += [
                f"{one}, which it looks at: {was.get(one, 'unset')} → {now.get(one, 'unset')}"
                for one in differ
            ]
        elif name == "settings":
            was, now = before or {}, after or {}
            lines += [
                _setting(one, was.get(one), now.get(one))
                for one in sorted({*was, *now})
                if was.get(one) != now.get(one)
            ]
        elif name == "parent":
            lines.append("what it stands on changed")
        elif isinstance(before, list) and isinstance(after, list):
            was_there, is_there = ({canonical(value) for value in one} for one in (before, after))
            gone = [value for value in before if canonical(value) not in is_there]
            new_ones = [value for value in after if canonical(value) not in was_there]
            lines += [f"{name}: without {_short(value)}" for value in gone]
            lines += [f"{name}: with {_short(value)}" for value in new_ones]
        else:
            lines.append(f"{name}: {_short(before)} → {_short(after)}")
    return lines


def _setting(name: str, before: Any, after: Any) -> str:
    """How a field of the settings differs; of a digest or of files that it makes, only that."""
    if name == "password" or isinstance(before or after, dict):
        return f"{name} is " + ("gone" if not after else "new" if not before else "another")
    said = [
        ", ".join(map(str, one)) if isinstance(one, list) else str(one or "none")
        for one in (before or "", after or "")
    ]
    return f"{name}: {said[0][:80]} → {said[1][:80]}"


def _short(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[0]
    return str(value)[:80]
