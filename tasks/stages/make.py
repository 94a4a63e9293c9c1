"""A job's stage, built by what makes its kind: imported then, since most runs make none."""

from __future__ import annotations

from ..builder import Builder
from ..plan.job import BaseJob, ImageJob, Job, LayerJob, SettingsJob


def build(job: Job, builder: Builder) -> None:
    """Make a stage and put it into the builder's cache."""
    if isinstance(job, BaseJob):
        from . import base

        base.build(job, builder)
    elif isinstance(job, LayerJob):
        from . import layer

        layer.build(job, builder)
    elif isinstance(job, SettingsJob):
        from . import settings

        settings.build(job, builder)
    else:
        from . import image

        assert isinstance(job, ImageJob)
        image.build(job, builder)
