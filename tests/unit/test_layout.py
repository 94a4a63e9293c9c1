"""Where partitions lie, how large a disk is that fits, and what is too small for what it holds."""

from __future__ import annotations

import pytest

from support.disks import MIB, disk, part
from tasks.errors import BuildError
from tasks.plan.layout import Layout, TooSmall, lay
from tasks.spec.disks import CORE

GIB = 1 << 30


def places(found: Layout) -> list[tuple[str, int, int]]:
    """Name, first MiB and MiB of each; nothing but whole MiB begins one."""
    assert all(slot.first % MIB == 0 for slot in found.slots)
    return [(slot.name, slot.first // MIB, slot.size // MIB) for slot in found.slots]


def test_the_rest_is_what_the_others_and_the_second_table_leave() -> None:
    parts = (part("bios", MIB, "bios"), part("esp", 64 * MIB, "esp"), part("root", rest=True))
    found = lay(disk(*parts, size=8 * GIB), {"root": 500 * MIB, "bios": 102_912})
    assert places(found) == [("bios", 1, 1), ("esp", 2, 64), ("root", 66, 8192 - 67)]
    assert (found.size, found.core) == (8 * GIB, MIB)
    swapped = lay(disk(*parts[1:], part("data", 10 * MIB), size=8 * GIB), {})
    assert places(swapped)[1:] == [("root", 65, 8192 - 65 - 11), ("data", 8192 - 11, 10)]


def test_an_mbr_has_nothing_at_the_end() -> None:
    found = lay(disk(part("root", rest=True), size=64 * MIB, table="mbr"), {CORE: 102_912})
    assert places(found) == [("root", 1, 63)]
    assert found.core == 512
    assert lay(disk(part("root", rest=True), size=64 * MIB, table="mbr"), {}).core is None


def test_a_partition_without_size_takes_what_it_needs() -> None:
    found = lay(disk(part("a"), part("b"), part("c"), size=64 * MIB),
                {"a": 3 * MIB, "b": 3 * MIB + 1})  # fmt: skip
    assert places(found) == [("a", 1, 3), ("b", 4, 4), ("c", 8, 1)]
    assert found.size == 64 * MIB


def test_a_size_of_no_whole_mib_stays_and_the_next_begins_at_one() -> None:
    found = lay(disk(part("a", 1536 * 1024), part("b", 5000), part("c", MIB), size=64 * MIB), {})
    assert [(one.first, one.size) for one in found.slots] == [
        (MIB, 1536 * 1024), (3 * MIB, 5120), (4 * MIB, MIB),
    ]  # fmt: skip
    coarse = lay(disk(part("b", 5000), size=64 * MIB, sector=4096), {})
    assert coarse.slot("b").size == 8192
    with pytest.raises(KeyError):
        coarse.slot("a")


@pytest.mark.parametrize(
    ("partitions", "sizes", "total"),
    [
        # The slack is the rest's, or else the last one's that grows, or else behind all.
        ([part("a", rest=True), part("b", grow=True)], [2 + 7, 3], 1 + 9 + 3 + 1),
        ([part("a", grow=True), part("b", grow=True)], [2, 3 + 7], 1 + 2 + 10 + 1),
        ([part("a"), part("b")], [2, 3], 1 + 2 + 3 + 7 + 1),
        # A size that was written is meant.
        ([part("a"), part("b", 4 * MIB, grow=True)], [2, 4], 1 + 2 + 4 + 7 + 1),
    ],
)  # fmt: skip
def test_a_disk_that_fits(partitions: list[object], sizes: list[int], total: int) -> None:
    needs = {"a": 2 * MIB, "b": 3 * MIB - 1}
    found = lay(disk(*partitions, slack=7 * MIB), needs)  # type: ignore[arg-type]
    assert [slot.size // MIB for slot in found.slots] == sizes
    assert found.size == total * MIB
    again = lay(disk(*partitions, slack=7 * MIB, table="mbr"), needs)  # type: ignore[arg-type]
    assert again.size == (total - 1) * MIB


def test_one_byte_too_many_is_too_small() -> None:
    lay(disk(part("root", 3 * MIB), size=5 * MIB), {"root": 3 * MIB})
    with pytest.raises(TooSmall, match=r"^3 MiB are too small: .* takes 3\.1 MiB\n") as caught:
        lay(disk(part("root", 3 * MIB), size=5 * MIB), {"root": 3 * MIB + 1})
    fault = caught.value
    assert (fault.name, fault.has, fault.needs) == ("root", 3 * MIB, 3 * MIB + 1)
    assert fault.hint == "make it 4 MiB or larger, or leave its size out"
    told = fault.retold(lambda text: f"specs/web.yaml: {text}")
    assert (told.name, told.needs) == ("root", 3 * MIB + 1)
    assert told.message.startswith("specs/web.yaml: 3 MiB are")


def test_a_disk_that_does_not_hold_its_partitions() -> None:
    for table, least in (("gpt", 10), ("mbr", 9)):
        parts = (part("a", 3 * MIB), part("b", 5 * MIB))
        assert lay(disk(*parts, size=least * MIB, table=table), {}).size == least * MIB
        with pytest.raises(TooSmall) as caught:
            lay(disk(*parts, size=(least - 1) * MIB, table=table), {})
        assert (caught.value.name, caught.value.needs) == ("", least * MIB)
        assert f"make the disk {least} MiB or larger" in caught.value.hint


def test_a_rest_that_is_too_small() -> None:
    parts = (part("a", 3 * MIB), part("root", rest=True))
    assert lay(disk(*parts, size=10 * MIB), {"root": 5 * MIB}).slot("root").size == 5 * MIB
    for size, left in ((9, 4), (4, 0)):
        with pytest.raises(TooSmall) as caught:
            lay(disk(*parts, size=size * MIB), {"root": 5 * MIB})
        assert (caught.value.name, caught.value.has) == ("root", left * MIB)
        assert "make the disk 10 MiB or larger" in caught.value.hint


def test_grubs_core_and_its_place() -> None:
    """boot.img does not lie in the partition, so the core alone must fit."""
    parts = (part("bios", MIB, "bios"), part("root", rest=True))
    assert lay(disk(*parts, size=64 * MIB), {"bios": 512 + MIB}).core == MIB
    with pytest.raises(TooSmall) as caught:
        lay(disk(*parts, size=64 * MIB), {"bios": 1024 + MIB})
    assert (caught.value.name, caught.value.needs) == ("bios", MIB + 512)
    old = disk(part("root", rest=True), size=64 * MIB, table="mbr")
    assert lay(old, {CORE: MIB}).core == 512
    with pytest.raises(TooSmall, match=r"^1023\.5 KiB are too small: .* 1 MiB\n") as caught:
        lay(old, {CORE: MIB + 512})
    assert caught.value.hint.startswith("use a GPT")


def test_what_an_mbr_does_not_tell_of() -> None:
    four = [part(name, MIB) for name in "abcd"]
    assert len(lay(disk(*four, size=64 * MIB, table="mbr"), {}).slots) == 4
    with pytest.raises(BuildError, match="4 partitions at the most, and these are 5"):
        lay(disk(*four, part("e", MIB), size=64 * MIB, table="mbr"), {})
    assert lay(disk(part("a", rest=True), size=1 << 41, table="mbr"), {}).size == 1 << 41
    with pytest.raises(BuildError, match="2097152 MiB at the most, and this disk takes 2097153"):
        lay(disk(part("a", rest=True), size=(1 << 41) + MIB, table="mbr"), {})
