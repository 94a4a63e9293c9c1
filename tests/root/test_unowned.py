"""Whatever no package ships and no one asked for has a reason, or is not in an image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.trees import only_root, tree_of
from support.unowned import unowned
from support.world import World

pytestmark = pytest.mark.root


def test_each_file_of_a_finished_image_is_a_packages_or_has_a_reason(
    built: World, tmp_path: Path
) -> None:
    only_root(built)
    built.build()
    with tree_of(built, tmp_path) as root:
        # That of `files` is /etc/motd; the script makes the other.
        assert unowned(root) == ["/boot/kernel"]
        assert os.listdir(root / "etc/dpkg/dpkg.cfg.d") == []
        assert not list((root / "etc/apt").rglob("*mmdebstrap*"))
        (root / "etc/dpkg/dpkg.cfg").read_text()
