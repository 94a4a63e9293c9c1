"""A plan's stages → jobs: what each is made of, read from the spec, the lock and the checkout."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import BuildError
from ..spec.model import Spec
from . import booting, fstab, hostkeys
from .accounts import accounts
from .entries import layer_entries, layer_scripts, made_file
from .job import BaseJob, Job, Later, LayerJob, SettingsJob
from .passwords import is_password, shadow_field
from .plan import late_answers
from .repositories import expand
from .settings import apt_files, setting_files, settings_identity
from .stage import TREE, Plan, Stage
from .top_jobs_of import top_job


def job_of(stage: Stage, spec: Spec, plan: Plan, mirrors: Mapping[str, str]) -> Job:
    """The job of a stage of this plan; `mirrors` are what ${mirror} and its kin stand for."""
    if stage.kind == "base":
        return base_job(spec, plan)
    if stage.kind not in TREE:
        return top_job(stage, spec, plan)
    number = plan.layers.index(stage)
    if number < len(spec.layers):
        return layer_job(spec, plan, number)
    return settings_job(spec, plan, mirrors)


def base_job(spec: Spec, plan: Plan) -> BaseJob:
    """What a base is made of."""
    records = {layer.name: layer.records for layer in plan.lock.layers}
    return BaseJob(
        stage=plan.base,
        spec=str(spec.path),
        arch=spec.arch,
        foreign=spec.foreign,
        records=plan.lock.base,
        answers=spec.base.debconf,
        configured=_configured(spec),
        later=tuple(
            Later(stage=stage, records=records[stage.name])
            for stage in plan.layers
            if stage.name in records
        ),
    )


def layer_job(spec: Spec, plan: Plan, number: int) -> LayerJob:
    """What layer `number` is made of; BuildError for a source or a script that cannot be read."""
    layer = spec.layers[number]
    lower = spec.layers[:number]
    locked = next(one for one in plan.lock.layers if one.name == layer.name)
    # Passwords are in no layer once it is done; these packages may ask for those given below.
    answered = [*spec.base.debconf, *(line for one in lower for line in one.debconf)]
    passwords = [line for line in answered if is_password(line)]
    known = {record.package for record in plan.lock.installed(number)}
    return LayerJob(
        stage=plan.layers[number],
        spec=str(spec.path),
        arch=spec.arch,
        foreign=spec.foreign,
        below=plan.tree[: number + 1],
        records=locked.records,
        installed=tuple(plan.lock.installed(number + 1)),
        configured=_configured(spec),
        has_apt="apt" in known or not (locked.records or locked.removes),
        answers=(*(passwords if locked.records else ()), *layer.debconf),
        answers_below=tuple(answered),
        entries=tuple(layer_entries(layer, spec)),
        given_below={
            entry.target: one.name
            for one in lower
            for entry in layer_entries(one, spec)
            if entry.kind != "folder"
        },
        groups=layer.groups,
        users=tuple(accounts(layer, spec, plan.lock)),
        services=layer.services,
        scripts=tuple(layer_scripts(layer, spec)),
        remove=tuple(sorted(layer.remove)),
        late=tuple(late_answers(spec, plan.lock, number)),
    )


def settings_job(spec: Spec, plan: Plan, mirrors: Mapping[str, str]) -> SettingsJob:
    """What the last layer is made of; BuildError where it is no longer what its key was made of."""
    settings = spec.settings
    uris = {repo.name: expand(repo.uri, mirrors, spec) for repo in spec.repos}
    entries = setting_files(settings.given)
    if settings.apt_sources:
        entries += apt_files(spec, plan.lock, uris)
    stage = plan.layers[-1]
    keyed = dict(stage.inputs["settings"])
    yields = []
    if made := keyed.pop("fstab", None):
        entries.append(made_file(fstab.PATH, made["text"]))
        yields += [] if made["asked"] else [fstab.PATH]
    if keyed.pop("boot", None):
        boot = booting.entries(spec, plan.lock)
        entries += boot
        # A layer's own stays: who writes a loader's configuration means it.
        yields += [one.target for one in boot if one.kind != "folder"]
    if made := keyed.get("ssh_host_keys"):
        unit = hostkeys.entries()
        entries += unit
        yields += [] if made["asked"] else [entry.target for entry in unit]
    if made := keyed.get("docs"):
        entries.append(made_file("/etc/dpkg/dpkg.cfg.d/strata-docs", made))
    # After the files were read: what they hold is what the key was made of, or was.
    if settings_identity(spec, plan.lock, mirrors, plan.version) != keyed:
        raise BuildError(
            f"{spec.path}: layers.settings: a keyring was changed while it was built",
            "run the same command again",
        )
    given = [name for name in ("root_password", "hashed_root_password") if name in settings.given]
    return SettingsJob(
        stage=stage,
        spec=str(spec.path),
        arch=spec.arch,
        foreign=spec.foreign,
        below=plan.tree[:-1],
        installed=tuple(plan.lock.installed()),
        configured=_configured(spec),
        timezone=settings.timezone,
        locale=settings.locale,
        locales=tuple(keyed.get("locales", ())),
        entries=tuple(entries),
        yields=tuple(yields),
        remove=tuple(keyed.get("remove", ())),
        docs="docs" not in keyed,
        os_release=tuple(keyed.get("os_release", ())),
        shadow=shadow_field(spec, plan.lock),
        password_field="".join(given[:1]),
    )


def _configured(spec: Spec) -> bool:
    return spec.base.variant != "extract"
