"""`max_size`: an image that is larger than it may be is not published."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BuildError
from ..formats.footprint import MIB
from ..plan.stage import Plan, Stage
from ..spec.model import Spec
from ..store.cache import Cache
from ..store.record import Entry


def check_sizes(spec: Spec, plan: Plan, entries: Sequence[Entry], cache: Cache) -> None:
    """BuildError for the first image that is larger than its max_size, with what takes most of it.

    It is no content, so an image that is in the cache is looked at as one that was just made.
    """
    for image, stage, entry in zip(spec.images, plan.images, entries, strict=True):
        size = int(entry.facts["raw"]["size"])
        if image.max_size is None or size <= image.max_size:
            continue
        raise BuildError(
            f"{spec.path}: images.{image.mount}.max_size: the filesystem has {_shown(size)}, more "
            f"than the {_shown(image.max_size)} that it may have; nothing was published\n"
            + _most(plan, stage.name, _below(plan, stage), cache),
            "leave out packages or files, or make max_size larger",
        )


def _below(plan: Plan, stage: Stage) -> Sequence[str]:
    """Mount points below an image's, or, of one that is only packed, below its filesystem's."""
    made = next(one for one in (stage, *plan.below(stage)) if "below" in one.inputs)
    found: Sequence[str] = made.inputs["below"]
    return found


def _shown(size: int) -> str:
    return f"{size / MIB:.1f} MiB"


def _most(plan: Plan, mount: str, below: Sequence[str], cache: Cache) -> str:
    """The largest packages and folders, a line each; trees may have been pruned."""
    from ..rootfs.largest import COUNT, largest  # tarfile: not for a build with nothing to do

    trees = [cache.intact(stage) for stage in plan.tree]
    found = [tree.path for tree in trees if tree is not None]
    if len(found) < len(trees):
        return "    the cache has its trees no more: what is large in them is not known"
    most = largest(found, mount, below)
    lines = []
    for what, rows in (
        ("packages of the tree, by Installed-Size", most.packages),
        ("folders of the image", most.folders),
    ):
        lines.append(f"    the largest {what} ({min(COUNT, len(rows))}):")
        # A name of a file may hold anything.
        plain = ((name.translate({9: "?", 10: "?"}), size) for name, size in rows)
        lines += [f"    {_shown(size):>12}  {name}" for name, size in plain]
    return "\n".join(lines)
