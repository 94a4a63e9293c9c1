"""What a build writes into out/NAME/ by itself, so that nothing else may be called so."""

from __future__ import annotations

PUBLISHED = ("packages.txt", "SHA256SUMS", "build.json", "host.json", "log",
             "sbom.cdx.json", "sbom.spdx.json", "provenance.json", "provenance.intoto.jsonl",
             "SHA256SUMS.sig", "sbom.cdx.json.sig", "sbom.spdx.json.sig")  # fmt: skip
"""Beside NAME.yaml."""
