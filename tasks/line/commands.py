"""Strata's commands and variables, as help, completion and mistyped words know them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command: what it does, in a line and in more; the variables that are for it.

    `spec`: it takes a spec. `own`: it is of Strata's checkout alone.
    """

    name: str
    summary: str
    takes: tuple[str, ...] = ()
    spec: bool = True
    own: bool = False
    more: str = ""


ASK = ("lock", "mirror", "security_mirror", "snapshot_mirror")
"""The variables of what may ask repositories."""

SHARE = ("cache", "cache_mode", "cache_trust")
"""Those of what takes from shared caches, or gives to them."""

COMMANDS = {
    one.name: one
    for one in (
        Command(
            name="build", takes=(*ASK, *SHARE, "sign", "shell_on_failure", "progress", "test"),
            summary="make the images of a spec, in out/NAME/",
            more="Looks at the repositories, makes each stage that is not in the cache, and "
            "publishes.\nNeeds root for stages; who is not root may publish what the cache has.\n"
            "progress=json: a line of JSON for each event, docs/progress.md. On a terminal a bar; "
            "progress=plain: none.\ntest=off: without the spec's boot tests; build.json says so.",
        ),
        Command(
            name="init", spec=False, summary="begin a project here: init [NAME]",
            more="A commented spec, .gitignore and dodo.py; what is there is left alone.",
        ),
        Command(
            name="lock", takes=(*ASK, *SHARE, "format"),
            summary="look at the repositories, write specs/NAME.lock",
            more="lock=keep resolves only what the spec added. Says `unchanged`, or what changed.\n"
            "format=markdown prints the changes alone, for a pull request: security first.",
        ),
        Command(
            name="check", summary="is a spec right? without root, network or lock",
            more="The schema, the files that it names, modes of scripts, architecture, time zone, "
            "names.\nspec=all checks every spec, as CI should.",
        ),
        Command(
            name="show", summary="the whole spec, with where each value came from",
            more="With what it includes, its variant and vars: YAML that could stand in its place.",
        ),
        Command(
            name="why", takes=(*ASK, *SHARE, "format"), summary="what a build would redo, and why",
            more="Exit status 0: nothing; 2: a stage, or a published file that is not as it was.\n"
            "By the lock, if it fits the spec: nobody is asked. Else, and with lock=latest, it is\n"
            "resolved as a build would, and not written. format=json: for other programs.",
        ),
        Command(
            name="outdated", takes=(*ASK[1:], *SHARE, "format", "changelog"),
            summary="what lock=latest would change; writes no lock",
            more="Exit status 0: nothing; 2: some package, with its repository and security marked."
            "\nchangelog=1: with the new entries of changelogs, where the repositories have them."
            "\nformat=markdown or json: for a pull request, for other programs.",
        ),
        Command(
            name="diff", takes=("from", "to", "format"),
            summary="what differs between two locks or builds: from= to=",
            more="Each is a lock, an out/ folder, its build.json or an image in it, a spec's name, "
            "a git revision,\nor REVISION:NAME. With a spec, from=HEAD and to= its lock are "
            "understood. Packages, image sizes,\nand files where the cache has both trees. "
            "format=markdown or json: for a pull request, a program.",
        ),
        Command(
            name="keys", takes=("format", "have"), summary="each stage's key, for a CI cache",
            more="format=text or json; of all specs at once: format=github for $GITHUB_OUTPUT, "
            "format=gitlab\nfor a child pipeline. have=FILE: entries that there are, a line each.",
        ),
        Command(
            name="ci", takes=("provider", "cache", *ASK[1:]),
            summary="print a pipeline for a CI system: provider=github or gitlab",
            more="As in: strata ci provider=github spec=all > .github/workflows/strata.yml\n"
            "cache=URL or STRATA_REMOTE: a shared cache in place of the CI system's own. "
            "mirror= and its kin\nare written into it, and so is what pip installs, "
            "STRATA_REQUIREMENT. docs/ci.md tells the rest.",
        ),
        Command(
            name="graph", takes=("format", *SHARE),
            summary="the stages with their state and size, as text or a picture",
            more="format=text, dot, mermaid or svg. Several specs are one graph: what they share "
            "stands there once.",
        ),
        Command(
            name="sizes", takes=("format",),
            summary="what takes how much, by layer, package and folder",
            more="And which files two layers hold. Of the trees that the cache has; "
            "format=text or json.",
        ),
        Command(
            name="report", takes=("file", *SHARE),
            summary="one HTML page of what was built, and how: report/NAME.html",
            more="Graph, builds and their times, what changed, sizes, packages with their licences."
            "\nIt needs no network, to be made or to be read. Several specs are one page. "
            "file=PATH: elsewhere.",
        ),
        Command(
            name="sbom", takes=("format",), summary="a bill of materials: what is in the tree",
            more="format=cdx (CycloneDX 1.6) or spdx (SPDX 2.3), as `sbom: true` of a spec writes "
            "into out/.\nOf the trees that the cache has.",
        ),
        Command(
            name="provenance", takes=("sign",),
            summary="what the images are made of, as an in-toto statement (SLSA)",
            more="As `provenance: true` of a spec writes into out/; sign=KEY: "
            "in a signed envelope.",
        ),
        Command(
            name="audit", takes=("file", "format", "severity", "fixed"),
            summary="known faults (CVEs) of its packages, by a file of advisories: file=",
            more="file= is Debian's security tracker as JSON, or OSV records: a zip, a folder or a "
            "file. No network.\nExit status 0: none is open; 2: some. severity=high counts what is "
            "rated so or above, or by\nnobody; fixed=1 what an update fixes.",
        ),
        Command(
            name="shell", takes=("layer", "command", "network", *SHARE),
            summary="a shell in a throwaway copy of a layer, as its stage saw it",
            more="As in: strata shell web layer=app, or strata shell web -- dpkg -l\n"
            "Without layer= in the whole tree. What is not in the cache is made first; where that "
            "fails, the shell\nis opened there. Nothing done in it stays. Its exit status is the "
            "command's own.",
        ),
        Command(
            name="boot",
            takes=("disk", "firmware", "memory", "cpus", "ssh", "forward", "append", "expect",
                   "timeout", "network", *SHARE),
            summary="the images or a disk in QEMU, the console here",
            more="disk=NAME boots a disk by its own loader, under the firmware asked for. Of "
            "images kernel and initrd are\nthe tree's own. Nothing that it writes stays. Its "
            "port 22 is at 127.0.0.1,\nas told. For CI: expect=TEXT timeout=300. Exit status 0: it "
            "was switched off, or showed the text;\n124: not within timeout=.",
        ),
        Command(
            name="reproduce", summary="build again in an empty cache, compare with out/NAME/",
            more="Exit status 1 if anything differs, which is named.",
        ),
        Command(name="list", summary="the specs; with spec=NAME its stages and their state"),
        Command(name="info", summary="what a stage is, its file and state: info STAGE spec=NAME"),
        Command(name="clean", summary="remove what builds put into out/NAME/"),
        Command(name="forget", summary="forget doit's own state of a spec; nothing is redone"),
        Command(
            name="push", takes=SHARE, summary="send what the cache has of a spec to shared caches",
            more="cache=URL or STRATA_REMOTE; signed with the key in STRATA_SIGNING_KEY.",
        ),
        Command(
            name="push-oci", takes=("to", "export"),
            summary="send a published OCI export to a registry: to=HOST/NAME:TAG",
            more="As in: strata push-oci web to=registry.example.org/team/web:1.0\n"
            "By skopeo, with the login of `skopeo login` or REGISTRY_AUTH_FILE; layers that the "
            "registry has\nare not sent again. export=NAME: which, of several. No root needed.",
        ),
        Command(
            name="pull", takes=SHARE, summary="fetch what shared caches have of a spec",
            more="cache=URL or STRATA_REMOTE; of those whom STRATA_TRUSTED_KEYS names.",
        ),
        Command(
            name="keygen", takes=("name",), spec=False,
            summary="make a key that signs what is shared: name=ci",
            more="Writes NAME.key, for STRATA_SIGNING_KEY; prints the public line, for "
            "STRATA_TRUSTED_KEYS.",
        ),
        Command(
            name="fleet", takes=("scheduler", "workers", *ASK[1:], *SHARE, "sign"),
            summary="make the images of many specs, on many machines",
            more="scheduler=tls://… cache=URL: on the workers of a Dask cluster; docs/fleet.md.\n"
            "Without a scheduler: on this machine, a process for each of workers=4.\n"
            "By the locks as they are: none is written.",
        ),
        Command(
            name="prune", spec=False, takes=("keep", "days", "dry", "cache"),
            summary="drop the cache entries that no lock needs",
            more="keep=10G: only until the cache is no larger. days=30: only what nothing used\n"
            "for so long. dry=1: only say it. cache=file:///…: the same of a shared folder.",
        ),
        Command(
            name="verify", spec=False, summary="check every cache entry against its digest",
        ),
        Command(name="doctor", summary="what this host lacks, with the remedy"),
        Command(
            name="import", takes=("file",), summary="make a spec of fuel-agent's input, file=",
        ),
        Command(
            name="completion", spec=False, summary="a shell's completion: bash, zsh, fish",
            more='As in: eval "$(strata completion bash)"',
        ),
        Command(name="help", spec=False, summary="this, or `help COMMAND`"),
        Command(
            name="test", spec=False, own=True, takes=("fast", "all"),
            summary="all the tests; fast=1 units only, all=1 all repetitions",
        ),
        Command(
            name="bench", spec=False, own=True, takes=("rounds", "only"),
            summary="measure against the rivals, write docs/performance.md",
        ),
    )
}  # fmt: skip

STAGES = ("base", "layer", "filesystem", "image", "verity", "esp", "bios", "disk", "file", "blob",
          "export", "boot_test")  # fmt: skip
"""Tasks that make single stages: `layer:app`, `image:/boot`, `file:web.qcow2`."""

VALUES = {
    "lock": ("latest", "keep", "frozen"),
    "format": (
        "text",
        "json",
        "github",
        "gitlab",
        "markdown",
        "dot",
        "mermaid",
        "svg",
        "cdx",
        "spdx",
    ),
    "progress": ("auto", "plain", "json"),
    "provider": ("github", "gitlab"),
    "fast": ("1",),
    "all": ("1",),
    "quiet": ("1",),
    "dry": ("1",),
    "fixed": ("1",),
    "severity": ("low", "medium", "high", "critical"),
    "network": ("1",),
    "firmware": ("bios", "uefi", "uefi-secure"),
    "shell_on_failure": ("1",),
    "test": ("off",),
    "changelog": ("1",),
    "cache_mode": ("pull", "push", "both"),
    "cache_trust": ("any",),
    "verbose": ("1",),
    "only": ("ours", "rivals", "growth"),
}
"""What may be given to a variable, where that is known."""

EXITS = {
    0: "done, or nothing to do",
    1: "refused or failed: one message says what, and what helps; `reproduce`: something differs",
    2: "`why`: something would be redone; `outdated`: something is newer; `audit`: "
    "something is open; else a fault of Strata's "
    "own, with its traceback",
    3: "the command line, or a folder in Strata's place, will not do",
    124: "`boot`: timeout= was over; `shell` ends with the status of what ran in it",
    130: "interrupted; 143 terminated: 128 and the signal's number",
}
"""What a command ends with. Of several specs, the worst: a failure is worse than `why`'s 2."""
