"""Entries of a cache, as stages put them."""

from __future__ import annotations

from pathlib import Path

from tasks.plan.stage import Stage
from tasks.store.cache import Cache

STAGE = Stage(kind="layer", name="app", key="1" * 32, inputs={"a": [1, "ü"]}, suffix=".tar.zst")


DIGESTS = {"md5": "0" * 32, "sha256": "0" * 64, "size": 7}


IMAGE_FACTS = {"uuid": "", "raw": DIGESTS, "packed": DIGESTS}


def put(cache: Cache, stage: Stage = STAGE, content: bytes = b"content") -> Path:
    with cache.put(stage, IMAGE_FACTS if stage.kind == "image" else {"epoch": 7}) as temporary:
        temporary.write_bytes(content)
    return cache.file(stage)
