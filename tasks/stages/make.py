"""A job's stage, built by what makes its kind: imported then, since most runs make none."""

from __future__ import annotations

from importlib import import_module

from ..builder import Builder
from ..plan.job import Job

MAKERS = {
    "BaseJob": ("base", "build"),
    "LayerJob": ("layer", "build"),
    "SettingsJob": ("settings", "build"),
    "ImageJob": ("image", "build"),
    "FilesystemJob": ("image", "build_filesystem"),
    "VerityJob": ("verity", "build"),
    "EspJob": ("esp", "build"),
    "BiosJob": ("bios", "build"),
    "DiskJob": ("disk", "build"),
    "FileJob": ("file", "build"),
    "BlobJob": ("blob", "build"),
    "ExportJob": ("export", "build"),
    "TestJob": ("boottest", "build"),
}
"""The module and function that makes each kind of job."""


def build(job: Job, builder: Builder) -> None:
    """Make a stage and put it into the builder's cache, but for what that does not keep."""
    module, function = MAKERS[type(job).__name__]
    getattr(import_module(f".{module}", __package__), function)(job, builder)
