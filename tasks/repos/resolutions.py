"""What apt answered before, by all that it was asked."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..host import safe, strict
from ..host.files import write_text
from ..plan import lockfile
from ..plan.keys import checksum, key
from ..plan.lockfile import Record

ANSWERS_KEPT = 64
"""Of apt's, in .doit/resolved/: a spec with four layers has five."""


class ResolutionCache:
    """What apt answered before, by all that it was asked: nothing is solved a second time.

    Of this checkout, and spare: what is missing, of another question or not whole is not believed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, asked: Mapping[str, Any]) -> Path:
        return self.folder / f"{key(asked)}.json"

    def get(
        self, asked: Mapping[str, Any], repos: set[str]
    ) -> tuple[list[Record], list[str]] | None:
        """(what apt adds, what it removes), None if that was not asked before."""
        try:
            kept = strict.read(self._path(asked), strict.LIST_LIMIT)
            if kept["asked"] != asked or kept["sum"] != _sum(kept):
                return None
            return lockfile.answer_of(kept["adds"], kept["removes"], repos)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, asked: Mapping[str, Any], adds: Sequence[Record], removes: Sequence[str]) -> None:
        """Keep an answer, unless there is no room or no right to."""
        kept = {"asked": asked, "adds": [asdict(one) for one in adds], "removes": list(removes)}
        kept["sum"] = _sum(kept)
        with contextlib.suppress(OSError):
            write_text(self._path(asked), json.dumps(kept), sync=False)
            with safe.folder(self.folder) as folder:
                own = [
                    path
                    for path in folder.iterdir()
                    if re.fullmatch(r"[0-9a-f]{32}\.json", path.name)
                ]
                for path in sorted(own, key=lambda path: path.lstat().st_mtime)[:-ANSWERS_KEPT]:
                    path.unlink(missing_ok=True)


def _sum(kept: Mapping[str, Any]) -> str:
    return checksum([kept["asked"], kept["adds"], kept["removes"]])
