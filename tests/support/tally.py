"""What the tests of a run really did: they add to it while they do it, and the end of pytest tells it."""

from __future__ import annotations

from collections import Counter

TALLY: Counter[str] = Counter()
"""By kind: kills; full disks, network faults, rot; hostile attempts; images."""


FAULTS = ("full disks", "network faults", "rot")


def told(tally: Counter[str]) -> str:
    """One line; what was not done in this run is not spoken of."""
    faults = {kind: tally[kind] for kind in FAULTS if tally[kind]}
    each = ", ".join(f"{count} {kind}" for kind, count in faults.items())
    parts = (
        (tally["kills"], "survived {} kills"),
        (sum(faults.values()), f"{{}} faults injected ({each})"),
        (tally["hostile attempts"], "{} hostile attempts contained"),
        (tally["images"], "{} images reproduced"),
    )
    return "; ".join(text.format(count) for count, text in parts if count)
