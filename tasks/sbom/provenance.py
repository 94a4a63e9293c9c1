"""Provenance of images: an in-toto Statement with SLSA's provenance, and envelopes for signatures.

https://in-toto.io/Statement/v1, https://slsa.dev/provenance/v1, DSSE 1.0. When it was built and how
long that took is left out: the same build says the same.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import BuildError
from ..plan.stage import Plan
from ..remote.signing import SecretKey
from ..spec.model import Spec
from ..version import VERSION

FILE = "provenance.json"

ENVELOPE = "provenance.intoto.jsonl"
"""The same with a signature, as others look for it by this name."""

TYPE = "application/vnd.in-toto+json"

BUILD_TYPE = "urn:strata:image:1"
"""What the parameters below mean: docs/questions.md tells it."""

BUILDER = "STRATA_BUILDER_ID"


def statement(
    spec: Spec, plan: Plan, images: Mapping[str, str], *, lock: str, text: str, revision: str
) -> dict[str, Any]:
    """The statement on images, by the SHA-256 of each file.

    `lock` and `text` are the digests of the lock and of the spec's own file, `revision` is git's of
    the project; "" for what is not known or may not be told.
    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_named(name, sha256) for name, sha256 in sorted(images.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"spec": str(spec.path), "name": spec.name},
                "internalParameters": {
                    "arch": spec.arch,
                    "keys": {stage.task: stage.key for stage in plan.stages},
                    "tools": plan.tools,
                    **({"version": plan.version} if plan.version else {}),
                    **(
                        {"not_reproducible": list(spec.unreproducible)}
                        if spec.unreproducible
                        else {}
                    ),
                },
                "resolvedDependencies": list(_materials(spec, plan, lock, text, revision)),
            },
            "runDetails": {"builder": {"id": builder(), "version": {"strata": VERSION}}},
        },
    }


def builder() -> str:
    """Who built it, as an address: what `STRATA_BUILDER_ID` says, as of a CI system's runner."""
    found = os.environ.get(BUILDER, "")
    if not found:
        return "urn:strata:builder"
    if not found.isprintable() or " " in found or ":" not in found or len(found) > 500:
        raise BuildError(
            f"{BUILDER}={found[:80]!r}: expected an address, as https://… or urn:…",
            "name who builds, as SLSA's builder.id does",
        )
    return found


def _materials(
    spec: Spec, plan: Plan, lock: str, text: str, revision: str
) -> Iterator[dict[str, Any]]:
    yield {**_named("lock", lock), "uri": str(spec.path.with_suffix(".lock"))}
    if text:
        yield {**_named("spec", text), "uri": str(spec.path)}
    if revision:
        yield {"name": "project", "digest": {"gitCommit": revision}}
    records = {record for stage in plan.tree for record in plan.records(stage)}
    for record in sorted(records):
        yield _named(record.path.rpartition("/")[2], record.sha256)


def _named(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def text_of(said: Mapping[str, Any]) -> str:
    """A statement as the file has it."""
    return json.dumps(said, indent=1, sort_keys=True) + "\n"


def envelope(payload: bytes, key: SecretKey) -> str:
    """A payload with its signature in a DSSE envelope, in one line."""
    signature = key.signature(before_signing(payload))
    made = {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": TYPE,
        "signatures": [
            {"keyid": key.name, "sig": base64.b64encode(signature).decode("ascii")},
        ],
    }
    return json.dumps(made, sort_keys=True) + "\n"


def before_signing(payload: bytes) -> bytes:
    """What of an envelope is signed: DSSE's PAE of its type and payload."""
    kind = TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
