"""What fuel-agent is given, with changes, and a project that migrates it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.commands.fuel_agent import import_spec, spec_document
from tasks.errors import BuildError
from tasks.spec.load import load_spec
from tasks.spec.model import Spec

SCHEMA = Path(__file__).parents[2] / "specs" / "spec.schema.json"


HASH = "$6$abcdefgh$0123456789ABCDEFabcdef./"


UBUNTU = "http://mirror.example.org/ubuntu"


FUEL = "http://10.20.0.2:8080/liberty-8.0/ubuntu/x86_64"


# What Nailgun gives to fa_build_image for an environment of Fuel 8 or 9.
PROVISION: dict[str, Any] = {
    "repos": [
        {"name": "ubuntu", "type": "deb", "uri": UBUNTU, "suite": "xenial",
         "section": "main universe  multiverse ", "priority": None},
        {"name": "ubuntu-updates", "type": "deb", "uri": UBUNTU, "suite": "xenial-updates",
         "section": "main universe multiverse", "priority": None},
        {"name": "mos", "type": "deb", "uri": FUEL, "suite": "mos8.0",
         "section": "main restricted", "priority": 1050},
        {"name": "Auxiliary", "type": "deb", "uri": f"{FUEL}/auxiliary", "suite": "/",
         "section": "", "priority": "1150"},
    ],
    "packages": ["linux-image-generic", "grub-pc", "openssh-server", "vim"],
    "image_data": {
        "/boot": {"container": "gzip", "format": "ext2",
                  "uri": "http://10.20.0.2:8080/targetimages/env_1_ubuntu-boot.img.gz"},
        "/": {"container": "gzip", "format": "ext4",
              "uri": "file:///var/www/nailgun/targetimages/env_1_ubuntu.img.gz?x=a/b"},
    },
    "output": "/var/www/nailgun/targetimages",
    "codename": "xenial",
    "hashed_root_password": HASH,
    "proxies": {
        "protocols": {"http": "http://proxy.example.org:3128", "https": None},
        "direct_repo_addr_list": ["10.20.0.2", "mirror.example.org", "10.20.0.2"],
    },
}  # fmt: skip


Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> dict[str, Any]:
    source = copy.deepcopy(PROVISION)
    change(source)
    return source


def convert(change: Change = lambda source: None) -> tuple[dict[str, Any], str]:
    """Return the document for a changed PROVISION, and the notes as one text."""
    document, notes = spec_document(changed(change), origin="provision.json")
    return document, "\n".join(notes)


class Project:
    """A folder with an input, and the spec that it is imported to."""

    def __init__(self, folder: Path) -> None:
        (folder / "specs").mkdir()
        self.target = folder / "specs" / "foo.yaml"
        self.input = folder / "provision.json"

    def write(self, source: object) -> None:
        self.input.write_text(json.dumps(source))

    def entries(self) -> list[str]:
        return sorted(entry.name for entry in self.target.parent.iterdir())

    def imported(self) -> Spec:
        self.notes = "\n".join(import_spec(self.input, self.target, schema=SCHEMA))
        return load_spec(self.target, schema=SCHEMA)

    def refused(self) -> BuildError:
        """Import, and return why not; nothing new may be left in specs/."""
        before = self.entries()
        with pytest.raises(BuildError) as caught:
            import_spec(self.input, self.target, schema=SCHEMA)
        assert self.entries() == before
        assert caught.value.message.startswith((str(self.input), str(self.target)))
        return caught.value
