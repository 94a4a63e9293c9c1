"""The tasks beside the graph, as doit reads them: each is one function of commands/."""

from __future__ import annotations

import importlib
from typing import Any

from .session.actions import Task, action
from .session.reporter import Reporter


def _plain(module: str, function: str) -> Task:
    """A task that is one function of the session, whose module is imported when it runs.

    doit takes what it is for from its creator's docstring.
    """

    def work() -> Any:
        found = importlib.import_module(f".commands.{module}", __package__)
        return getattr(found, function)(Reporter.session)

    return {"actions": [action(work)], "uptodate": [False]}


def task_keys() -> Task:
    """each stage's key, for a CI cache (format=json|github|gitlab|text)"""
    return _plain("keys", "keys")


def task_ci() -> Task:
    """print a pipeline for a CI system (provider=github|gitlab)"""
    return _plain("ci", "pipeline")


def task_check() -> Task:
    """is a spec right? without root, network or lock"""
    return _plain("check", "check")


def task_show() -> Task:
    """the whole spec, with where each value came from"""
    return _plain("show", "show")


def task_why() -> Task:
    """what a build would redo, and why"""
    return _plain("why", "why")


def task_outdated() -> Task:
    """what lock=latest would change; writes no lock"""
    return _plain("outdated", "outdated")


def task_diff() -> Task:
    """what differs between two locks or builds (from=, to=)"""
    return _plain("diff", "diff")


def task_graph() -> Task:
    """the stages with their state and size (format=text|dot|mermaid|svg)"""
    return _plain("graph", "graph")


def task_sizes() -> Task:
    """what takes how much, by layer, package and folder (format=text|json)"""
    return _plain("sizes", "sizes")


def task_report() -> Task:
    """one HTML page of what was built, and how: report/NAME.html (or file=)"""
    return _plain("report", "report")


def task_sbom() -> Task:
    """what is in a spec's tree, for others (format=cdx|spdx)"""
    return _plain("sbom", "sbom")


def task_provenance() -> Task:
    """what a spec's images are made of, as an in-toto statement"""
    return _plain("sbom", "provenance")


def task_audit() -> Task:
    """known faults (CVEs) of a spec's packages, by a file of advisories (file=)"""
    return _plain("audit", "audit")


def task_shell() -> Task:
    """a shell in a throwaway copy of a layer (layer=, command=, network=1)"""
    return _plain("shell", "shell")


def task_boot() -> Task:
    """the images in QEMU, the console here (expect=, timeout=)"""
    return _plain("boot", "boot")


def task_prune() -> Task:
    """drop the cache entries that no lock needs"""
    return _plain("prune", "prune")


def task_verify() -> Task:
    """check every cache entry against its digest"""
    return _plain("upkeep", "verify")


def task_push() -> Task:
    """send what the cache has of a spec to the shared caches"""
    return _plain("sharing", "push")


def task_push_oci() -> Task:
    """send a published OCI export to a registry (to=, export=)"""
    return {"basename": "push-oci", **_plain("push_oci", "push_oci")}


def task_pull() -> Task:
    """fetch what shared caches have of a spec"""
    return _plain("sharing", "pull")


def task_fleet() -> Task:
    """make the images of many specs, on many machines"""
    return _plain("fleet", "fleet")


def task_keygen() -> Task:
    """make a key that signs what is shared: name=ci writes ci.key"""
    return _plain("sharing", "keygen")


def task_reproduce() -> Task:
    """build again from the lock in an empty cache, compare with out/NAME/"""
    return _plain("reproduce", "reproduce")


def task_doctor() -> Task:
    """what the host lacks"""
    return _plain("doctor", "doctor")


def task_import() -> Task:
    """make specs/NAME.yaml from fuel-agent's input (file=provision.json)"""
    return _plain("fuel_agent", "import_input")


def task_bench() -> Task:
    """measure against the rivals, write docs/performance.md (rounds=3, only=ours)"""
    return _plain("develop", "bench")


def task_test() -> Task:
    """all the tests"""
    return _plain("develop", "test")
