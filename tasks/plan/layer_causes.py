"""What differs of what a layer is given beside packages: files, scripts, accounts and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..spec.words import counted
from .cause import Cause, Pair, cause, moved_to, salted
from .difference import File, between


def files(pair: Pair) -> list[Cause]:
    """`files` and overlays, by path."""
    was, now = ({row[0]: row for row in rows or ()} for rows in (pair.before, pair.after))
    lines = []
    for path in sorted(was.keys() | now.keys()):
        if was.get(path) == now.get(path):
            continue
        before, after = (
            _file(rows[path], side.notes) if path in rows else None
            for rows, side in ((was, pair.old), (now, pair.new))
        )
        if before is None or after is None:
            kind, state = (after.kind, "new") if after else (was[path][1], "gone")
            size = f" ({counted(after.size, 'byte')})" if after and after.size >= 0 else ""
            lines.append(f"{kind} {path} is {state}{size}")
            continue
        told = between(before, after) or ["its mode, where the folder is there already"]
        lines.append(f"{after.kind} {path} changed ({'; '.join(told)})")
    return [cause("files", line) for line in lines or ["files: another order"]]


def _file(row: Sequence[Any], notes: Mapping[str, Any]) -> File:
    """An entry of `files`; a size that is not known is -1."""
    target, kind, digest, mode, owner = row[:5]
    user, _, group = owner.partition(":")
    size = notes.get("sizes", {}).get(target, -1) if kind == "file" else -1
    size = size if type(size) is int else -1
    return File(kind=kind, mode=int(mode), uid=user, gid=group, size=size, digest=digest)


def script(pair: Pair) -> list[Cause]:
    """Scripts, by path."""
    was, now = (
        _runs(value, side.notes)
        for value, side in ((pair.before, pair.old), (pair.after, pair.new))
    )
    if len(was) == len(now):
        # Where its path is not known, a script is known by its place.
        was = [(old[0] or new[0], *old[1:]) for old, new in zip(was, now, strict=True)]
    lines = []
    for path in dict.fromkeys(one[0] for one in (*now, *was)):
        before, after = ([one for one in side if one[0] == path] for side in (was, now))
        for old, new in zip(before, after, strict=False):
            lines += _run(path, old, new)
        lines += [f"script {path} is new"] * (len(after) - len(before))
        gone = f"script {path}" if path else "a script"
        lines += [f"{gone} is gone"] * (len(before) - len(after))
    return [cause("script", line) for line in lines or ["scripts: another order"]]


_Run = tuple[str, str, Mapping[str, str], bool]
"""Path, digest, variables, and whether it sees the network."""


def _runs(value: Any, notes: Mapping[str, Any]) -> list[_Run]:
    rows = [] if not value else [[value, {}, False]] if isinstance(value, str) else value
    paths = list(notes.get("scripts", ()))
    paths += [""] * (len(rows) - len(paths))
    return [
        (str(path), digest, dict(env), network)
        for path, (digest, env, network) in zip(paths, rows, strict=False)
    ]


def _run(path: str, old: _Run, new: _Run) -> list[str]:
    lines = [] if old[1] == new[1] else [f"script {path} changed"]
    for name in sorted(old[2].keys() | new[2].keys()):
        if old[2].get(name) != new[2].get(name):
            # Not its values: the old one may be a secret that nobody knows as one any more.
            state = "is new" if name not in old[2] else "changed" if name in new[2] else "is gone"
            lines.append(f"script {path}: its variable {name} {state}")
    if old[3] != new[3]:
        lines.append(f"script {path}: it sees {'the' if new[3] else 'no'} network now")
    return lines


def debconf(pair: Pair) -> list[Cause]:
    """Answers, by the question."""
    was, now = (
        {tuple(one.split(" ")[:2]): one for one in rows or ()} for rows in (pair.before, pair.after)
    )
    lines = []
    for question in dict.fromkeys([*was, *now]):
        before, after = was.get(question, ""), now.get(question, "")
        if before == after:
            continue
        if not before or not after:
            lines.append(f"debconf: {'with' if after else 'without'} {_answer(after or before)}")
        elif _password(before) and _password(after):
            lines.append(f"debconf: without {_answer(before)} as it was: it is another one")
        else:
            lines.append(f"debconf: {moved_to(_answer(before), _answer(after))}")
    return [cause("debconf", line) for line in lines or ["debconf: another order"]]


def _password(line: str) -> bool:
    return line.split(" ", 3)[2:3] == ["password"]


def _answer(line: str) -> str:
    """An answer as people read it: of a password, which has a digest here, the question alone."""
    return " ".join(line.split(" ", 3)[:3]) if _password(line) else line[:120]


_USER = ("uid", "groups", "comment", "shell", "home", "password", "ssh_keys", "sudo", "system")

_GROUP = ("gid", "system")


def accounts(pair: Pair) -> list[Cause]:
    """Users and groups, by name."""
    was, now = ({(row[0], row[1]): row for row in rows or ()} for rows in (pair.before, pair.after))
    lines = []
    for kind, name in sorted(was.keys() | now.keys()):
        before, after = was.get((kind, name)), now.get((kind, name))
        if before is None or after is None:
            lines.append(f"{kind} {name} is {'new' if after else 'gone'}")
            continue
        fields = _USER if kind == "user" else _GROUP
        told = []
        for field, old, new in zip(fields, before[2:], after[2:], strict=True):
            if old == new or (field == "password" and salted(pair, name, old, new)):
                continue
            hidden = field in ("password", "ssh_keys")
            told.append(f"{field} changed" if hidden else f"{field} {moved_to(old, new)}")
        if told:
            lines.append(f"{kind} {name}: {'; '.join(told)}")
    return [cause("accounts", line) for line in lines]


def services(pair: Pair) -> list[Cause]:
    """Units, by what becomes of them."""
    was, now = pair.before or {}, pair.after or {}
    told = []
    for verb in sorted(was.keys() | now.keys()):
        old, new = was.get(verb, []), now.get(verb, [])
        told += [f"+ {verb} {one}" for one in new if one not in old]
        told += [f"- {verb} {one}" for one in old if one not in new]
    return [cause("services", "services: " + ("; ".join(told) or "another order"))]


def shown(pair: Pair) -> list[Cause]:
    """Settings that the layer looks at."""
    was, now = pair.before or {}, pair.after or {}
    return [
        cause("shown", f"{one}, which it looks at: "
               f"{was.get(one, 'unset')} → {now.get(one, 'unset')}")
        for one in sorted(was.keys() | now.keys()) if was.get(one) != now.get(one)
    ]  # fmt: skip
