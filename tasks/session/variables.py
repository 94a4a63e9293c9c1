"""The name=value words of the command line: what each is, and what it can be."""

from __future__ import annotations

VARIABLES = {
    "spec": "a name in specs/; several as a,b, all or 'web-*'",
    "lock": "latest, keep or frozen",
    "mirror": "what ${mirror} stands for",
    "security_mirror": "what ${security_mirror} stands for",
    "snapshot_mirror": "where a snapshot service is: `snapshot`, ${snapshot_mirror}",
    "variant": "of `variants` in the spec: built as NAME-VARIANT",
    "cache": "shared caches, in order: file:, https:, s3:, gs:, az:, oci:",
    "cache_mode": "pull, push or both: what goes between the cache and shared ones",
    "cache_trust": "cache_trust=any: take what nobody has signed, too",
    "scheduler": "of `doit fleet`: where Dask's scheduler is, as tls://host:8786",
    "workers": "of `doit fleet` without one: how many, on this machine",
    "quiet": "quiet=1, -q: only results and errors",
    "verbose": "verbose=1, -v: also what the commands of a stage print",
    "progress": "auto, plain or json: how a build says what it does",
    "format": "text, json and others, as `help COMMAND` says",
    "sign": "the file of a key, as keygen writes it, that signs what is published",
    "severity": "of `doit audit`: low, medium, high or critical: what counts",
    "fixed": "of `doit audit`: fixed=1 counts only what an update would fix",
    "from": "of `doit diff`: what is compared, as out/old or HEAD~3",
    "to": "of `doit diff`: with what; of `push-oci`: where in a registry, as HOST/NAME:TAG",
    "export": "of `push-oci`: which of the spec's OCI exports, by its name",
    "changelog": "changelog=1: of `doit outdated`, what the archives' changelogs say of it",
    "have": "of `doit keys`, for github and gitlab: a file of the entries there are, a line each",
    "provider": "of `doit ci`: github or gitlab",
    "file": "of `doit import`, `doit audit`: the file to read; of `doit report`: the one to write",
    "rounds": "of `doit bench`: how often each way is measured",
    "name": "of `doit keygen`: whose key it is",
    "keep": "of `doit prune`: how large the cache may be, as 10G",
    "days": "of `doit prune`: what was used within so many days stays",
    "layer": "of `shell`: in which layer's tree, as base or settings; else the whole tree",
    "command": "of `shell`: what is run in place of a shell, its exit status passed on",
    "network": "of `shell` and `boot`, network=1: it sees the network; else nothing outside",
    "shell_on_failure": "shell_on_failure=1: a shell where a stage fails, as that left it",
    "test": "test=off: without the boot tests of the spec",
    "disk": "of `boot`: which of the spec's disks, by its name; else the images",
    "firmware": "of `boot`, of a disk: bios, uefi or uefi-secure",
    "memory": "of `boot`: the machine's, in MiB, or as 2G",
    "cpus": "of `boot`: how many processors it has",
    "ssh": "of `boot`: the port of 127.0.0.1 that leads to its port 22; else a free one",
    "forward": "of `boot`: more of them, as 8080:80,8443:443",
    "append": "of `boot`: more words for the kernel's command line",
    "expect": "of `boot`: ends with 0 as soon as the console shows this text",
    "timeout": "of `boot`: seconds after which it ends, with status 124",
    "dry": "of `doit prune`: dry=1 only says what would go",
    "only": "of `doit bench`: some of ours, rivals, growth",
    "fast": "of `doit test`: fast=1 runs the unit tests alone, and the linters but mypy",
    "all": "of `doit test`: all=1 runs all repetitions of kills and full disks",
}


PROGRESS = ("auto", "plain", "json")

ONE_OF = {
    "quiet": ("1",),
    "progress": PROGRESS,
    "verbose": ("1",),
    "dry": ("1",),
    "network": ("1",),
    "firmware": ("bios", "uefi", "uefi-secure"),
    "shell_on_failure": ("1",),
    "test": ("off",),
    "changelog": ("1",),
    "cache_mode": ("pull", "push", "both"),
    "cache_trust": ("any",),
    "fixed": ("1",),
    "severity": ("low", "medium", "high", "critical"),
}
"""What may be given to variables, where anything else would be passed over."""

LOCK_MODES = ("latest", "keep", "frozen")
