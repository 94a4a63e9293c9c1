"""The JSON of an OCI image layout: config, manifest, index (OCI image specification 1.0)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..spec.disks import OciConfig

MEDIA = "application/vnd.oci.image."

PACKED = {"gzip": "layer.v1.tar+gzip", "zstd": "layer.v1.tar+zstd"}

ARCHITECTURES = {
    "amd64": ("amd64", ""), "arm64": ("arm64", "v8"), "armhf": ("arm", "v7"),
    "armel": ("arm", "v5"), "i386": ("386", ""), "ppc64el": ("ppc64le", ""),
    "riscv64": ("riscv64", ""), "s390x": ("s390x", ""), "mips64el": ("mips64le", ""),
}  # fmt: skip
"""Debian's names → GOARCH and variant, as the specification has them."""

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where the spec says none: Debian's own for root."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A blob: `diff_id` is the SHA-256 of its tar, `sha256` and `size` (bytes) are as packed."""

    name: str
    diff_id: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of layers, the lowest first; `created` is in seconds since 1970."""

    name: str
    arch: str
    created: int
    config: OciConfig
    container: str
    layers: tuple[Layer, ...]


def layout(image: Image) -> dict[str, bytes]:
    """The files of an image's folder but for the layers' blobs, by path."""
    config = _json(_config(image))
    manifest = _json(_manifest(image, config))
    index = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}index.v1+json",
        "manifests": [
            {
                **_described(f"{MEDIA}manifest.v1+json", manifest),
                "platform": _platform(image),
                "annotations": {"org.opencontainers.image.ref.name": image.name},
            }
        ],
    }
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        f"blobs/sha256/{_sha256(config)}": config,
        f"blobs/sha256/{_sha256(manifest)}": manifest,
    }


def _platform(image: Image) -> dict[str, str]:
    arch, variant = ARCHITECTURES.get(image.arch, (image.arch, ""))
    found = {"architecture": arch, "os": "linux"}
    return {**found, **({"variant": variant} if variant else {})}


def _config(image: Image) -> dict[str, Any]:
    given = image.config
    env = {"PATH": SEARCHED, **given.env}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.created))
    config: Mapping[str, Any] = {
        "User": given.user,
        "ExposedPorts": {port: {} for port in given.ports},
        "Env": [f"{name}={value}" for name, value in sorted(env.items())],
        "Entrypoint": list(given.entrypoint),
        "Cmd": list(given.cmd),
        "WorkingDir": given.workdir,
        "Labels": dict(sorted(given.labels.items())),
    }
    return {
        "created": when,
        **_platform(image),
        "config": {name: value for name, value in config.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.diff_id}" for one in image.layers]},
        "history": [{"created": when, "created_by": f"strata: {one.name}"} for one in image.layers],
    }


def _manifest(image: Image, config: bytes) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}manifest.v1+json",
        "config": _described(f"{MEDIA}config.v1+json", config),
        "layers": [
            {
                "mediaType": MEDIA + PACKED[image.container],
                "digest": f"sha256:{one.sha256}",
                "size": one.size,
            }
            for one in image.layers
        ],
    }


def _described(media: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media, "digest": f"sha256:{_sha256(content)}", "size": len(content)}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
