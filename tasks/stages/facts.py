"""What the record of a stage above the tree says of what it was made of."""

from __future__ import annotations

from typing import Any

from ..builder import Builder
from ..plan.job import Job
from ..rootfs import identities

CARRIED = ("drawn", "removed")


def common(job: Job, builder: Builder) -> dict[str, Any]:
    """`private`: something in it is not for everybody; `drawn` and `removed` as its trees have it.

    What is made of other stages above the tree has these of the first that knows them.
    """
    cache = builder.cache
    found: dict[str, Any] = {"private": builder.private(job)}
    for part in job.made_of:
        facts = cache.require(part).facts
        found |= {name: facts[name] for name in CARRIED if name in facts and name not in found}
    if not job.below:
        return found
    gone = [
        [one.name, *fact]
        for one in job.below
        for fact in cache.require(one).facts.get("removed", ())
    ]
    drawn = identities.of_trees(cache, job.below)
    return {**found, "drawn": drawn, **({"removed": gone} if gone else {})}
