"""A bill as CycloneDX 1.6, by the library of its makers."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..version import VERSION
from .bill import Bill, Part, declared

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression


def text(bill: Bill) -> str:
    """The whole document, in JSON."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    whole = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=bill.name,
        version=bill.version,
        bom_ref="image",
        properties=[
            Property(name=f"strata:{name}", value=value)
            for name, value in (
                ("architecture", bill.arch),
                ("distribution", bill.distribution),
                ("release", bill.release),
                ("codename", bill.codename),
                ("lock", f"sha256:{bill.lock}"),
            )
            if value
        ],
    )
    tool = Component(type=ComponentType.APPLICATION, name="strata", version=VERSION)
    parts = {part.ref: _component(part) for part in bill.parts}
    bom = Bom(
        serial_number=bill.serial,
        metadata=BomMetaData(
            timestamp=datetime.datetime.fromtimestamp(bill.epoch, datetime.timezone.utc),
            tools=ToolRepository(components=[tool]),
            component=whole,
        ),
        components=parts.values(),
    )
    bom.register_dependency(whole, parts.values())
    for part in bill.parts:
        bom.register_dependency(parts[part.ref], [parts[one] for one in part.depends])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library looks for each component among all others: of 15000 files, five minutes long.
    document["components"] += _files(bill)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _files(bill: Bill) -> Iterator[dict[str, Any]]:
    """The files as components."""
    for files, origin in ((bill.own, True), (bill.files, False)):
        for path, sums in files.items():
            said = {"origin": "spec"} if origin else {}
            said |= {"package": sums.package} if sums.package else {}
            yield {
                "type": "file",
                "bom-ref": f"file:{path}",
                "name": path,
                "hashes": [
                    {"alg": "SHA-1", "content": sums.sha1},
                    {"alg": "SHA-256", "content": sums.sha256},
                ],
                **(
                    {"properties": [_property(name, value) for name, value in said.items()]}
                    if said
                    else {}
                ),
            }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"strata:{name}", "value": value}


def _component(part: Part) -> Component:
    """A package as a component."""
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        Property,
        XsUri,
    )
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.contact import OrganizationalEntity
    from packageurl import PackageURL

    said = {
        "architecture": part.architecture,
        "source": part.source,
        "source-version": part.source_version,
        "layer": part.layer,
        "repository": part.repository,
        "file": part.file,
    }
    name, address = part.maintainer
    links = [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(part.homepage))]
    return Component(
        type=ComponentType.LIBRARY,
        name=part.name,
        version=part.version,
        bom_ref=part.ref,
        supplier=OrganizationalEntity(name=part.supplier) if part.supplier else None,
        publisher=(f"{name} <{address}>" if address else name) or None,
        description=part.summary or None,
        # Of the .deb, as the lock has it.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part.sha256)],
        licenses=_licences(part),
        purl=PackageURL.from_string(part.purl),
        external_references=links if part.homepage else (),
        properties=[
            Property(name=f"strata:{name}", value=value) for name, value in said.items() if value
        ],
    )


def _licences(part: Part) -> list[DisjunctiveLicense | LicenseExpression]:
    """What its copyright file declares, as one expression; nothing where that is for people."""
    from cyclonedx.model.license import (
        DisjunctiveLicense,
        LicenseAcknowledgement,
        LicenseExpression,
    )
    from cyclonedx.spdx import is_supported_id

    found = declared(part)
    if not found:
        return []
    how = LicenseAcknowledgement.DECLARED
    if is_supported_id(found):
        return [DisjunctiveLicense(id=found, acknowledgement=how)]
    return [LicenseExpression(found, acknowledgement=how)]
