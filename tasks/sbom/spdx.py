"""A bill as SPDX 2.3 in JSON, by the library of its makers."""

from __future__ import annotations

import datetime
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ..rootfs.inventory import Sums
from ..rootfs.licences import references
from ..version import VERSION
from .bill import Bill, Part, declared

if TYPE_CHECKING:
    from spdx_tools.spdx.model import Document, File, Package, Relationship

IMAGE = "SPDXRef-Image"


def text(bill: Bill) -> str:
    """The whole document."""
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    stream = io.StringIO()
    # Its validator is one of the tests; here it would take longer than all the rest.
    write_document_to_stream(_document(bill), stream, validate=False, drop_duplicates=False)
    return stream.getvalue() + "\n"


def _document(bill: Bill) -> Document:
    from spdx_tools.spdx.model import Actor, ActorType, CreationInfo, Document

    files = {**bill.own, **bill.files}
    return Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=bill.name,
            # A name and no address (SPDX 2.3, 6.5): nothing has to be there.
            document_namespace=f"urn:uuid:{bill.serial}",
            creators=[Actor(ActorType.TOOL, f"strata-{VERSION}")],
            created=datetime.datetime.fromtimestamp(bill.epoch, datetime.timezone.utc).replace(
                tzinfo=None
            ),
        ),
        packages=[_image(bill), *map(_package, bill.parts)],
        files=[_file(path, sums) for path, sums in files.items()],
        relationships=list(_relations(bill, files)),
        extracted_licensing_info=list(_named(bill)),
    )


def _image(bill: Bill) -> Package:
    from spdx_tools.spdx.model import (
        Package,
        PackagePurpose,
        PackageVerificationCode,
        SpdxNoAssertion,
    )

    files = [sums.sha1 for sums in (*bill.own.values(), *bill.files.values())]
    code = hashlib.sha1("".join(sorted(files)).encode(), usedforsecurity=False).hexdigest()
    told = " ".join(filter(None, (bill.distribution, bill.release, bill.codename, bill.arch)))
    return Package(
        spdx_id=IMAGE,
        name=bill.name,
        version=bill.version,
        download_location=SpdxNoAssertion(),
        files_analyzed=bool(files),
        verification_code=PackageVerificationCode(code) if files else None,
        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM,
        comment=f"{told}; lock sha256:{bill.lock}",
    )


def _package(part: Part) -> Package:
    from spdx_tools.spdx.model import (
        Actor,
        ActorType,
        Checksum,
        ChecksumAlgorithm,
        ExternalPackageRef,
        ExternalPackageRefCategory,
        Package,
        PackagePurpose,
        SpdxNoAssertion,
    )

    name, address = part.maintainer
    licences = declared(part)
    return Package(
        spdx_id=_package_id(part.ref),
        name=part.name,
        version=part.version,
        file_name=part.file,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        supplier=Actor(ActorType.ORGANIZATION, part.supplier)
        if part.supplier
        else SpdxNoAssertion(),
        originator=Actor(ActorType.PERSON, name, address or None) if name else SpdxNoAssertion(),
        checksums=[Checksum(ChecksumAlgorithm.SHA256, part.sha256)],
        homepage=part.homepage or SpdxNoAssertion(),
        source_info=f"built from the source package {part.source} {part.source_version}",
        license_concluded=SpdxNoAssertion(),
        license_declared=_expression(licences) if licences else SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        summary=part.summary or None,
        external_references=[
            ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", part.purl)
        ],
        primary_package_purpose=PackagePurpose.LIBRARY,
    )


def _file(path: str, sums: Sums) -> File:
    from spdx_tools.spdx.model import Checksum, ChecksumAlgorithm, File, SpdxNoAssertion

    return File(
        # Relative, as SPDX 2.3 (8.1) has it.
        name=f".{path}",
        spdx_id=_file_id(path),
        checksums=[
            Checksum(ChecksumAlgorithm.SHA1, sums.sha1),
            Checksum(ChecksumAlgorithm.SHA256, sums.sha256),
        ],
        license_concluded=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
    )


def _relations(bill: Bill, files: Mapping[str, Sums]) -> Iterator[Relationship]:
    from spdx_tools.spdx.model import Relationship, RelationshipType

    yield Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, IMAGE)
    for part in bill.parts:
        yield Relationship(IMAGE, RelationshipType.CONTAINS, _package_id(part.ref))
    for part in bill.parts:
        for one in part.depends:
            yield Relationship(_package_id(part.ref), RelationshipType.DEPENDS_ON, _package_id(one))
    there = {part.name: _package_id(part.ref) for part in reversed(bill.parts)}
    for path, sums in files.items():
        yield Relationship(IMAGE, RelationshipType.CONTAINS, _file_id(path))
        # Nothing was analyzed of what a package contains but what it put here (SPDX 2.3, 7.8).
        if sums.package in there:
            archive = RelationshipType.EXPANDED_FROM_ARCHIVE
            yield Relationship(_file_id(path), archive, there[sums.package])


def _named(bill: Bill) -> Iterator[Any]:
    """What SPDX wants to know of each licence that it has no name of."""
    from spdx_tools.spdx.model import ExtractedLicensingInfo

    first: dict[str, str] = {}
    for part in bill.parts:
        for one in references(part.licences):
            first.setdefault(one, part.name)
    for reference, package in sorted(first.items()):
        yield ExtractedLicensingInfo(
            license_id=reference,
            extracted_text=f"Its text is in /usr/share/doc/{package}/copyright.",
            license_name=reference.removeprefix("LicenseRef-"),
        )


def _package_id(ref: str) -> str:
    """An identifier of letters, digits, dots and hyphens; what else a name has is told apart."""
    return f"SPDXRef-Package-{re.sub('[+:]', lambda sign: f'.{ord(sign[0]):x}.', ref)}"


def _file_id(path: str) -> str:
    return f"SPDXRef-File-{hashlib.sha256(path.encode()).hexdigest()[:32]}"


@cache
def _expression(text: str) -> Any:
    return _licensing().parse(text)


@cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
