"""Specs with and without one field, each example of which the schema has."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from support import samples
from support.spec_doc import SCHEMA, fields
from tasks.errors import BuildError
from tasks.plan import inputs
from tasks.plan.lockfile import LockedRepo, Record
from tasks.plan.plan import make_plan
from tasks.plan.stage import Plan
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

FIELDS = {one.path: one for one in fields(json.loads(SCHEMA.read_text()))}

PLACES = {"files": "/etc/a", "images": "/boot"}
"""The user's name in a mapping of LEAST at which a field is tried."""


Pair = tuple[dict[str, Any], dict[str, Any]]


def changed(document: dict[str, Any], path: str, value: Any) -> Iterator[Pair]:
    """The document without and with a field; then also without one of those that may exclude it.

    What it is in is there in both, by its own example if by nothing else.
    """
    made = copy.deepcopy(document)
    at: Any = made
    *above, last = re.findall(r"\w[\w-]*|\[\]|\*", path)
    for number, step in enumerate(above):
        here = ".".join(above[: number + 1]).replace(".[]", "[]")
        if step in ("[]", "*"):
            name: Any = 0 if step == "[]" else PLACES.get(above[number - 1], "")
            name = name if step == "[]" or name in at else next(iter(at))
            # A path may stand for a mapping that has no more than its source.
            at[name] = {"source": at[name]} if isinstance(at[name], str) else at[name]
            at = at[name]
        else:
            at = at.setdefault(step, copy.deepcopy(FIELDS[here].rules["examples"][0]))
    whole = copy.deepcopy(made)
    at.pop(last, None)
    without = copy.deepcopy(made)
    siblings = list(at)
    at[last] = value
    for before in (without, whole, document):
        yield before, made
        for name in siblings:
            kept = at.pop(name)
            yield before, made
            at[name] = kept


def write_files(folder: Path, value: Any) -> None:
    """Something of its kind at each relative path in an example."""
    if isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            write_files(folder, one)
    elif isinstance(value, str) and re.fullmatch(r"\w[\w-]*(/[\w.-]+)+\.\w+|\w+/\w+", value):
        path = folder / value
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.suffix:
            path = path / "usr/local/bin/own"
            path.parent.mkdir(parents=True, exist_ok=True)
        key = b"\0\0\0\x0bssh-ed25519\0\0\0 " + value[:32].ljust(32).encode()
        content = {
            ".gpg": b"\x9b" + value.encode(), ".asc": b"\x9b" + value.encode(),
            ".pub": b"ssh-ed25519 " + base64.b64encode(key) + b"\n",
            ".debconf": f"own own/file string {value}\n".encode(),
        }.get(path.suffix, f"#!/bin/sh\n# {value}\n".encode())  # fmt: skip
        if not path.exists():
            path.write_bytes(content)


def loaded(folder: Path, document: dict[str, Any]) -> Spec | str:
    path = folder / "web.yaml"
    path.write_text(json.dumps(document))
    write_files(folder, document)
    try:
        with samples.json_is_read_quickly(path):
            return load_spec(path, schema=SCHEMA)
    except BuildError as error:
        return str(error)


def planned(
    folder: Path, document: dict[str, Any], layers: Callable[[int], Record], base: Sequence[Record]
) -> tuple[Spec, Plan] | str:
    """The plan of a document, or the message of what is wrong; `layers` gives each its record."""
    spec = loaded(folder, document)
    if isinstance(spec, str):
        return spec
    found = {layer.name: [layers(number)] for number, layer in enumerate(spec.layers)}
    repos = tuple(
        LockedRepo(name=repo.name, release="a" * 64, date="", fields={"Origin": "Test"})
        for repo in spec.repos
    )
    lock = samples.lock(list(base), found, repos=repos)
    mirrors = {"mirror": "http://mirror.invalid"}
    try:
        host = inputs.host_inputs(spec, lock, mirrors, Path("none"), folder)
        return spec, make_plan(spec, lock, host)
    except BuildError as error:
        return str(error)
