"""Versions in dpkg's order: what it says itself is the measure."""

from __future__ import annotations

import itertools
import random
import subprocess

import pytest

from tasks.debian.ordering import compared, older

ORDERED = ["1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0", "1.0-1~bpo12+1", "1.0-1", "1.0-1+b1",
           "1.0-1+deb12u1", "1.0-1+deb12u10", "1.0-1.1", "1.0a", "1.0+dfsg-1", "1.0.1", "1.00.2",
           "1.9", "1.10", "1:0.1", "2:0~1"]  # fmt: skip
"""From the oldest to the newest."""


def test_tilde_epoch_and_numbers_are_as_the_policy_has_them() -> None:
    for one, other in itertools.combinations(ORDERED, 2):
        assert older(one, other), (one, other)
        assert not older(other, one), (one, other)
    for one, other in (("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("1.", "1.0")):
        assert compared(one, other) == 0


@pytest.mark.starts
def test_dpkg_says_the_same() -> None:
    draw = random.Random(14)
    words = ["".join(draw.choices("0019~+.-ab:", k=draw.randint(1, 7))) for _ in range(100)]
    # A revision may be none, and may not be empty.
    made = [f"{draw.choice(['', '0:', '1:'])}{draw.choice('019')}{word.replace(':', '.')}1"
            for word in words]  # fmt: skip
    pairs = [(draw.choice(made), draw.choice(made)) for _ in range(150)]
    pairs += list(itertools.pairwise(ORDERED))
    script = 'while read -r a b; do for o in lt eq gt; do dpkg --compare-versions "$a" $o "$b" 2>/dev/null && echo $o; done; done'
    lines = "".join(f"{one} {other}\n" for one, other in pairs)
    said = subprocess.run(["sh", "-c", script], input=lines, capture_output=True, text=True).stdout
    assert [{"lt": -1, "eq": 0, "gt": 1}[word] for word in said.split()] == [
        compared(one, other) for one, other in pairs
    ]
