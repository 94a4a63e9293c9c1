"""Keys: canonical JSON and its digest, and what of a spec the lock depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import xxhash

from ..spec.model import Spec
from .lockfile import FORMAT, SCAN, Record


def canonical(value: Any) -> str:
    """JSON with one way to write each value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key(value: Any) -> str:
    """xxh3-128 of a value's canonical JSON, as 32 hex digits: identity, not trust."""
    return xxhash.xxh3_128_hexdigest(canonical(value).encode())


def resolution_inputs(spec: Spec) -> str:
    """The digest of all that the lock depends on in a spec: a lock with another one is stale.

    So is a lock of an older form, which lacks something. Addresses are left out (a mirror with the
    same content gives the same lock), and so is the order of a package list.
    """
    return key(
        {
            "format": FORMAT,
            # With them, what looks at them is found when the .debs are locked.
            **({"scan": SCAN} if spec.settings.shown else {}),
            "arch": spec.arch,
            "base": [spec.base.tool, spec.base.variant, sorted(set(spec.base.include))],
            "repos": [
                # Without pins as before there were any: a lock of then is not stale.
                [repo.name, repo.suite, repo.section, repo.priority, *filter(None, [repo.pins])]
                for repo in spec.repos
            ],
            "layers": [[layer.name, sorted(set(layer.packages))] for layer in spec.layers],
            "recommends": spec.recommends,
            **({"network": list(spec.unreproducible)} if spec.unreproducible else {}),
        }
    )


def identities(records: tuple[Record, ...]) -> list[list[str]]:
    """The part of records that a key sees: the repo hash is made of these."""
    return sorted(list(record.identity) for record in records)


def checksum(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: shows a bit that was lost."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
