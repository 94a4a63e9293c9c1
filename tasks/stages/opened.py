"""A tree that is in the cache, opened for a person: a copy of it, as its own stage saw it.

trees up to the stage ─→ a fresh upper ─→ what the stage was given ─→ a program ─→ thrown away
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..builder import Builder
from ..errors import BuildError
from ..host.files import remove
from ..host.sandbox import Step, step
from ..host.tools import ENV
from ..host.visit import Visit
from ..plan.job import BaseJob, Job, LayerJob, SettingsJob
from ..repos.pool import local_repository
from .inside import Place, place, shell
from .install import give
from .layer import give_network, give_scripts
from .shown import shown_env

READ = "apt-get update > /dev/null 2>&1"
"""apt's lists are elsewhere than in the tree, and empty at first."""


def opened(job: Job, builder: Builder, visit: Visit, *, network: bool) -> None:
    """Give a person what `visit` says in a copy of a stage's tree; BuildError where none can be.

    Of what the stage was given there are apt's configuration, the locked .debs as far as the cache
    has them, and scripts; no answers of debconf's and no accounts, which have passwords.
    """
    with place(_on_top(job), builder) as here:
        give(here.folder, ())
        steps = [shell("set-policy")]
        env: Mapping[str, str] = {}
        if isinstance(job, LayerJob):
            env = shown_env(job.stage.inputs["shown"])
            give_scripts(job, here.folder)
            steps += _repository(job, here)
        if network:
            env = {**env, **give_network(here)}
            steps.append(shell("set-network"))
        # As scripts have it: a person wants to see what they see.
        env = {**env, "PATH": ENV["PATH"]}
        shown = job.stage.inputs["shown"] if isinstance(job, LayerJob) else {}
        with builder.trees.passing(here.lower) as upper:
            sandbox = here.sandbox(upper, here.epoch(0), shown, env, network=network)
            sandbox.run(*steps, log=builder.log, what=f"a shell in {job.stage.title}", visit=visit)
            remove(upper.path)


def _on_top(job: Job) -> LayerJob | SettingsJob:
    """A job of which the stage's own tree is the last of those below."""
    below = (*job.below, job.stage)
    if isinstance(job, (LayerJob, SettingsJob)):
        return replace(job, below=below)
    if not isinstance(job, BaseJob):
        raise BuildError(f"{job.stage.title}: it is no tree", "name a layer")
    return LayerJob(stage=job.stage, spec=job.spec, arch=job.arch, foreign=job.foreign, below=below)


def _repository(job: LayerJob, here: Place) -> list[Step]:
    """The locked .debs for the tree's own apt, and what reads its lists; [] where it has none."""
    cache = here.builder.cache
    there = [record for record in job.records if cache.has_deb(record.sha256)]
    if lacking := len(job.records) - len(there):
        here.builder.say(
            f"{lacking} of {len(job.records)} .debs of the {job.stage.title} are in the cache no "
            "more: apt does without them"
        )
    if not there:
        return []
    local_repository(here.folder / "repo", there, here.builder)
    return [step("/bin/sh", "-c", READ)]
