"""What records and files are called in a shared cache, where it is a tree of them."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def record(name: str) -> str:
    """Path of a record, of `base-<key>` and its kin: `ac/<key>`, filled up to 64 digits.

    Servers that were made for Bazel take nothing else for a key (bazel-remote: "an arbitrary 64
    character lowercase hexadecimal string"), and Strata's have 32.
    """
    return f"ac/{name.rpartition('-')[2]:0<64}"


def file(sha256: str) -> str:
    """Path of a file: `cas/<sha256>`."""
    return f"cas/{sha256}"


def server(address: str) -> SplitResult | None:
    """The parts of a web server's address, http(s)://[WHO@]HOST[:PORT]…; None for another text."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    good = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return parts if good else None
