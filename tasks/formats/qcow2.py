"""How qemu-img is told to write a qcow2: qemu-img(1), and docs/interop/qcow2 of QEMU."""

from __future__ import annotations

OPTIONS = ("compat=1.1", "compression_type=zstd", "cluster_size=64k")
"""In full, since a later version's defaults may be others. QEMU from 5.1 on reads what it makes."""
