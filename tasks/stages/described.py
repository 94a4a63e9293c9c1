"""NAME.yaml, host.json and packages.txt: what a build says of what it publishes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..plan import lockfile
from ..plan.stage import Product
from ..spec.model import masked
from ..store.record import Entry
from ..version import VERSION
from .publication import Publication

_PLAIN = re.compile(r"[ -~]{0,100}")


def yaml_text(content: Any) -> str:
    """A document of YAML, byte for byte as PyYAML's own writer has it.

    libyaml's takes a tenth of the time, and writes the same where all words are short and ASCII.
    Of others, and of a key without a letter, it does not.
    """
    import yaml

    fast = hasattr(yaml, "CSafeDumper") and _plain(content)
    return str(
        yaml.dump(
            content,
            Dumper=yaml.CSafeDumper if fast else yaml.SafeDumper,
            sort_keys=False,
            default_flow_style=False,
            allow_unicode=True,
        )
    )


def _plain(content: Any) -> bool:
    if isinstance(content, str):
        return _PLAIN.fullmatch(content) is not None
    if isinstance(content, Mapping):
        return all(key and _plain(key) and _plain(value) for key, value in content.items())
    return not isinstance(content, list | tuple) or all(map(_plain, content))


def metadata(to: Publication, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """foo.yaml: fuel-agent's fields, which provisioners read, and what Strata adds.

    It is in SHA256SUMS, so nothing in it is of the host alone.
    """
    spec, plan = to.spec, to.plan
    first = plan.lock.repos[0].fields
    major, _, minor = first.get("Version", "").partition(".")
    return {
        "os": {
            "name": first.get("Origin", ""),
            "codename": first.get("Codename", ""),
            "version": first.get("Version", ""),
            "major": major,
            "minor": minor,
            "arch": spec.arch,
        },
        "repos": [
            {
                "type": "deb",
                "name": repo.name,
                # As the spec has it: what ${mirror} stands for is the host's, and in host.json.
                # Only an address's own secrets: a password may be a word of a host's name.
                "uri": masked(repo.uri),
                "suite": repo.suite,
                "section": repo.section,
                "priority": repo.priority,
                "meta": repo.meta,
                **({"snapshot": repo.snapshot} if repo.snapshot else {}),
            }
            for repo in spec.repos
        ],
        "packages": sorted({name for layer in spec.layers for name in layer.packages}),
        "images": [
            {
                "raw_md5": entry.facts["raw"]["md5"],
                "raw_sha256": entry.facts["raw"]["sha256"],
                "raw_size": entry.facts["raw"]["size"],
                "raw_name": None,
                "container_name": file,
                "container_md5": entry.facts["packed"]["md5"],
                "container_sha256": entry.facts["packed"]["sha256"],
                "container_size": entry.facts["packed"]["size"],
                "container": image.container,
                "format": image.format,
                "mount": image.mount,
                "uuid": entry.facts["uuid"],
                "label": image.label,
                "key": stage.key,
            }
            for image, file, stage in zip(spec.images, plan.files, plan.images, strict=True)
            for entry in [entries[stage.task]]
        ],
        **_above(to, entries),
        "keys": {stage.task: stage.key for stage in plan.stages},
        "installed": {
            lockfile.short_name(record.package, record.architecture, spec.arch): record.version
            for record in plan.lock.installed()
        },
        "lock": to.lock_digest,
        **({"not_reproducible": list(spec.unreproducible)} if spec.unreproducible else {}),
        "tools": plan.tools,
        **({"version": plan.version} if plan.version else {}),
        "strata": VERSION,
    }


def _above(to: Publication, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Files of disks and exports, where a spec has them."""
    spec, plan = to.spec, to.plan
    by_task = {one.task: one for one in plan.stages}
    products = {one.name: one for one in plan.products}
    disks = [
        {
            "name": disk.name,
            "table": disk.table,
            "firmware": list(disk.firmware),
            "loader": disk.loader,
            "sector": disk.sector,
            "key": by_task[f"disk:{disk.name}"].key,
            "files": [
                {"name": file.name, "format": file.format, **_packed(products[file.name], entries)}
                for file in disk.files
            ],
        }
        for disk in spec.disks
    ]
    exports = [
        {"name": one.name, "format": one.format, **_packed(products[one.name], entries)}
        for one in spec.exports
    ]
    return {**({"disks": disks} if disks else {}), **({"exports": exports} if exports else {})}


def _packed(product: Product, entries: Mapping[str, Entry]) -> dict[str, Any]:
    entry = entries[product.stage.task]
    found = {"container": product.stage.inputs.get("container", "raw"), "key": product.stage.key}
    if not product.folder:
        found |= {"sha256": entry.sha256, "size": entry.size}
    return found


def host_text(to: Publication) -> str:
    """host.json: what differs by host where the images do not, which SHA256SUMS does not list."""
    addresses = {name: masked(uri) for name, uri in to.uris.items()}
    return json.dumps({"spec": to.spec.name, "repos": addresses}, indent=1) + "\n"


def packages_text(lock: lockfile.Lock) -> str:
    """packages.txt: name, version and architecture, a line each."""
    return "".join(
        f"{record.package} {record.version} {record.architecture}\n" for record in lock.installed()
    )
