"""A spec's values, checked against the schema → the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import BuildError
from . import debconf
from .boot_tests import tests_of
from .disk_values import disks_of, exports_of
from .images import Image
from .machine import groups_of, overlays_of, scripts_of, services_of, unit_files, users_of
from .model import SETTINGS, Base, File, Layer, Repo, Settings, Spec, project_of
from .moments import timestamp
from .rules import VERSION, check_version, places
from .sizes import size_of, words_of
from .words import field_of_layer, short

OF_PACKAGES = ("packages", "debs", "debconf", "debconf_file", "groups", "users", "overlays",
               "files", "units", "services", "script", "scripts", "env")  # fmt: skip
"""Fields of a layer that may stand at the top of a spec, for the layer `packages`."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """A spec's fields as they were written; `given` is what its `${names}` stand for."""

    path: Path
    name: str
    document: Mapping[str, Any]
    given: Mapping[str, str]

    def spec(self) -> Spec:
        """The whole of it; BuildError for what only a file, a date or a name shows."""
        document = self.document
        proxies = document.get("proxies", {})
        check_version(self.path, document.get("version", ""), self.given)
        images = tuple(
            self._image(mount, image) for mount, image in sorted(document.get("images", {}).items())
        )
        disks = disks_of(self.path, document, images, self._find)
        return Spec(
            name=self.name,
            path=self.path,
            arch=document.get("arch", "amd64"),
            base=self._base(document.get("base", {})),
            repos=tuple(self._repo(repo) for repo in document["repos"]),
            layers=self._layers(),
            recommends=document.get("recommends", False),
            allow_network=document.get("allow_network", False),
            settings=self._settings(),
            proxies={key: proxies[key] for key in ("http", "https") if key in proxies},
            direct=tuple(proxies.get("direct", ())),
            images=images,
            disks=disks,
            exports=exports_of(document),
            tests=tests_of(self.path, self.name, document, disks, self._find),
            sbom=_sbom(document.get("sbom", False)),
            provenance=document.get("provenance", False),
        )

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """What `${name}` stands for in templates and variables of scripts."""
        document = self.document
        settings = {one: str(document[one]) for one in SETTINGS if document.get(one)}
        return {
            "spec": self.name, "arch": document.get("arch", "amd64"), **settings, **self.given,
        }  # fmt: skip

    def _find(self, name: str) -> Path:
        """Where a path of the spec is: beside it, or in the folder above."""
        folder, given = self.path.parent, Path(name)
        beside, above = folder / given, folder.parent / given
        if given.is_absolute() or os.path.lexists(beside) or not os.path.lexists(above):
            return beside
        return above

    def _answers(self, entry: Mapping[str, Any], where: str) -> dict[str, str]:
        """The answers in files, each with its `file:line`; what is said last counts."""
        given = entry.get("debconf_file", ())
        found: dict[str, str] = {}
        for one in [given] if isinstance(given, str) else given:
            source = self._find(one)
            hint = short(places(source, self.path))
            project = project_of(self.path, self.name)
            for line, place in debconf.from_file(source, project, where=where, hint=hint).items():
                found.pop(line, None)
                found[line] = place
        return found

    def _base(self, base: Mapping[str, Any]) -> Base:
        answers = self._answers(base, f"{self.path}: base.debconf_file")
        return Base(
            tool=base.get("tool", "mmdebstrap"),
            variant=base.get("variant", "minbase"),
            include=tuple(base.get("include", ())),
            debconf=(*answers, *_inline(base)),
            debconf_from=answers,
        )

    def _repo(self, repo: Mapping[str, Any]) -> Repo:
        pins = [
            (" ".join(pin["packages"].split()), pin["priority"]) for pin in repo.get("pins", ())
        ]
        return Repo(
            name=repo["name"],
            uri=repo["uri"].rstrip("/"),
            suite=repo["suite"],
            section=" ".join(repo.get("section", "").split()),
            priority=repo.get("priority"),
            keyring=self._find(repo["keyring"]) if "keyring" in repo else None,
            trusted=repo.get("trusted", False),
            check_valid_until=repo.get("check_valid_until", "snapshot" not in repo),
            check_rollback=repo.get("check_rollback", True),
            pins=tuple(pins),
            meta=repo.get("meta"),
            snapshot=self._moment(repo) if "snapshot" in repo else "",
        )

    def _moment(self, repo: Mapping[str, Any]) -> str:
        try:
            return timestamp(repo["snapshot"])
        except (ValueError, OverflowError) as error:
            told = str(repo["snapshot"])
            raise BuildError(
                f"{self.path}: repos.{repo['name']}.snapshot: {told!r} is no date: {error}",
                "as 2026-11-20, or in UTC 2026-11-20T06:00:00Z",
            ) from error

    def _layers(self) -> tuple[Layer, ...]:
        """All of them, that of the spec's own top first."""
        document = self.document
        layers = [self._layer(entry) for entry in document.get("layers", ())]
        named = {name: document[name] for name in OF_PACKAGES if document.get(name)}
        if named:
            first = {**named, **({"reads": document["reads"]} if "reads" in document else {})}
            layers.insert(0, self._layer({"name": "packages", **first}))
        elif "reads" in document:
            raise BuildError(
                f"{self.path}: reads: it is of the layer `packages`, and there is none",
                "put it into the layer that it is of",
            )
        return tuple(layers)

    def _layer(self, entry: Mapping[str, Any]) -> Layer:
        where = field_of_layer(self.path, entry["name"], "")
        answers = self._answers(entry, f"{where}debconf_file")
        files = [self._file(*one) for one in sorted(entry.get("files", {}).items())]
        return Layer(
            name=entry["name"],
            packages=tuple(entry.get("packages", ())),
            debs=tuple(entry.get("debs", ())),
            debconf=(*answers, *_inline(entry)),
            debconf_from=answers,
            groups=groups_of(entry),
            users=users_of(entry, self._find),
            overlays=overlays_of(entry, self._find, _owner),
            files=(*files, *unit_files(entry, self._find, where)),
            services=services_of(entry),
            scripts=scripts_of(entry, self._find, self._names, where),
            remove=tuple(entry.get("remove", ())),
            reads=tuple(entry["reads"]) if "reads" in entry else None,
        )

    def _file(self, target: str, value: str | Mapping[str, Any]) -> File:
        fields: Mapping[str, Any] = {"source": value} if isinstance(value, str) else value
        sources = [self._find(fields[kind]) for kind in ("source", "template") if kind in fields]
        return File(
            target=target,
            source=next(iter(sources), None),
            names=self._names if "template" in fields else None,
            content=fields.get("content"),
            owner=_owner(fields.get("owner", "root:root")),
            owned="owner" in fields,
            mode=int(fields["mode"], 8) if "mode" in fields else None,
        )

    def _settings(self) -> Settings:
        document = self.document
        return Settings(
            hostname=document.get("hostname", ""),
            timezone=document.get("timezone", ""),
            locale=document.get("locale", ""),
            root_password=document.get("root_password", ""),
            hashed_root_password=document.get("hashed_root_password", ""),
            apt_sources=document.get("apt_sources", False),
            locales=tuple(document.get("locales", ())),
            fstab=document.get("fstab"),
            ssh_host_keys=document.get("ssh_host_keys", ""),
            version=document.get("version", ""),
            remove=tuple(document.get("remove", ())),
            docs=document.get("docs", True),
        )

    def _image(self, mount: str, image: Mapping[str, Any]) -> Image:
        version = self.document.get("version", "")
        late = version in ("", "git", "date")
        return Image(
            mount=mount,
            file=image["file"] if late else image["file"].replace(VERSION, version),
            format=image["format"],
            container=image.get("container", "gzip"),
            level=image.get("level", "default"),
            pack=image.get("pack", "loop"),
            label=image.get("label", ""),
            uuid=image.get("uuid", "").lower(),
            options=words_of(image.get("options", "")),
            size=size_of(image.get("size")),
            free=size_of(image.get("free")),
            max_size=size_of(image.get("max_size")),
        )


def _sbom(given: bool | Mapping[str, bool]) -> str:
    """What of the tree a bill of materials names, "" for no bill."""
    if isinstance(given, bool):
        return "packages" if given else ""
    return "files" if given.get("files", False) else "packages"


def _owner(given: str) -> str:
    """`user:group`; a group alone leaves the user that a new file has."""
    return f"root{given}" if given.startswith(":") else given


def _inline(entry: Mapping[str, Any]) -> list[str]:
    """The answers that stand in a spec itself."""
    return [line for item in entry.get("debconf", ()) for _, line in debconf.answers(item)]
