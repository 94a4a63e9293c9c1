"""fuel-agent's build-image input as a spec: `doit import file=provision.json spec=foo`.

The format is what fuel-agent's class NailgunBuildImage (fuel_agent/drivers/nailgun.py) reads;
what its `do_build_image` then did is told field by field in docs/migrating.md.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BuildError, SpecFault
from ..session.session import Session
from ..spec.load import load_spec

STRING = {"type": "string", "minLength": 1, "description": "a string that is not empty"}

OPTIONAL = {"type": ["string", "null"], "description": "a string"}

PASSWORD = {**STRING, "type": ["string", "null"]}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": "a list"}


def _mapping(required: str, /, **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "description": "a mapping",
    }


REPO_ORDER = ("name", "uri", "suite", "section", "priority", "meta")

REPO = _mapping(
    "name uri suite", name=STRING, uri=STRING, suite=STRING, section=OPTIONAL, meta={},
    priority={"type": ["integer", "string", "null"], "pattern": "^-?[0-9]{1,6}$",
              "description": "a whole number or null"}, type={"enum": ["deb", None]},
)  # fmt: skip


IMAGE = _mapping("uri format container", uri=STRING, container={"enum": ["gzip", "raw"]},
                 format={"enum": ["ext2", "ext3", "ext4", "xfs"]})  # fmt: skip


PROXIES = _mapping("", protocols=_mapping("", http=OPTIONAL, https=OPTIONAL),
                   direct_repo_addr_list=_list(STRING))  # fmt: skip


SYSTEM = {"pattern": "(?i)debian|ubuntu", "description": "Debian or Ubuntu"}

INPUT = _mapping(
    "repos image_data", output=OPTIONAL, codename=OPTIONAL, packages=_list(STRING),
    root_password=PASSWORD, hashed_root_password=PASSWORD,
    repos={**_list(REPO), "minItems": 1, "description": "a list of at least one repository"},
    image_data={**_mapping("/"), "additionalProperties": IMAGE, "propertyNames": {
        "type": "string", "pattern": "^/", "description": "a mount point"}},
    proxies={**PROXIES, "type": ["object", "null"]},
    os={**SYSTEM, "properties": {"name": SYSTEM}}, profile=SYSTEM,
    bootstrap={"not": {}, "description": "no ramdisk to build, but filesystem images"},
)  # fmt: skip
"""What an input must be, as JSON Schema. fuel-agent reads nothing that is not in it."""


BASE = {"tool": "mmdebstrap", "variant": "important",
        "include": ["ca-certificates", "apt-transport-https"]}  # fmt: skip
"""What fuel-agent's debootstrap installed: it was given these two packages and no variant, and
debootstrap's default is what mmdebstrap calls `important`."""


TRUSTY = """acl anacron bash-completion bridge-utils bsdmainutils build-essential cloud-init curl
    daemonize debconf-utils gdisk grub-pc hpsa-dkms i40e-dkms linux-firmware linux-firmware-nonfree
    linux-headers-generic-lts-trusty linux-image-generic-lts-trusty lvm2 mcollective mdadm
    nailgun-agent nailgun-mcagents network-checker ntp openssh-client openssh-server puppet
    python-amqp ruby-augeas ruby-ipaddress ruby-json ruby-netaddr ruby-openstack ruby-shadow
    ruby-stomp telnet ubuntu-minimal ubuntu-standard uuid-runtime vim virt-what vlan"""
"""What fuel-agent installs when the input has no `packages`, whatever the codename."""


RECONFIGURED = ("puppet", "mcollective", "cloud-init")  # after installation, by do_post_inst

MODELINE = "# yaml-language-server: $schema=spec.schema.json\n"

HINT = "give what `fa_build_image --data_driver nailgun_build_image` got; see docs/migrating.md"


def spec_document(source: Mapping[str, Any], *, origin: str) -> tuple[dict[str, Any], list[str]]:
    """Return the spec's document for fuel-agent's data, and notes on what is no longer the same.

    `origin` names the data in errors. Names, addresses and packages are taken over as they are:
    load_spec has the last word on their form. Raises BuildError for what has no spec.
    """
    _validate(source, origin)
    notes = [
        f"{where}: left out, as fuel-agent did not read it or Strata has no such thing."
        for where in _unknown(source, INPUT)
    ]
    repos = _repos(source, notes)
    document: dict[str, Any] = {
        "arch": "amd64",
        "base": copy.deepcopy(BASE),
        "repos": repos,
        "packages": _packages(source, source.get("codename") or repos[0]["suite"], notes),
        **_password(source, notes),
        "proxies": _proxies(source.get("proxies") or {}, notes),
        "images": {
            mount: {
                "file": _basename(image["uri"]),
                "format": image["format"],
                "container": image["container"],
            }
            for mount, image in sorted(source["image_data"].items())
        },
    }
    stem = _basename(source["image_data"]["/"]["uri"]).partition(".")[0]
    notes.append(
        f"output: {source.get('output') or 'absent'}; images go to out/NAME/, metadata to "
        f"NAME.yaml there, but fuel-agent provisions from {stem}.yaml."
    )
    return {name: value for name, value in document.items() if value}, notes


def _validate(source: Mapping[str, Any], origin: str) -> None:
    from ..spec.schema import load_jsonschema

    load_jsonschema()
    import jsonschema
    from jsonschema.exceptions import best_match

    error = best_match(jsonschema.Draft7Validator(INPUT).iter_errors(source))
    if error is None:
        return
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.path)
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        problem = f"missing field {missing!r}"
        hint = f"found here: {', '.join(map(str, error.instance)) or 'nothing'}; {HINT}"
    else:
        wanted = error.schema.get("description") or ", ".join(filter(None, error.schema["enum"]))
        shown = not error.instance or error.validator in ("enum", "pattern")  # no password
        found = repr(error.instance) if shown else type(error.instance).__name__
        problem, hint = f"expected {wanted}, found {found}", HINT
    raise BuildError(f"{origin}: {where[1:] + ': ' if where else ''}{problem}", hint)


def _unknown(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Where `value` has something that this part of INPUT does not name."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{where}[{number}]")
    elif isinstance(value, dict) and schema:
        for name, item in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            at = f"{where}.{name}" if where else str(name)
            yield from [at] if inner is None else _unknown(item, inner, at)


def _repos(source: Mapping[str, Any], notes: list[str]) -> list[dict[str, Any]]:
    repos: list[dict[str, Any]] = []
    for number, given in enumerate(source["repos"]):
        repo = {name: given.get(name) for name in REPO_ORDER}
        repo["section"] = " ".join((repo["section"] or "").split())
        if repo["priority"] is not None:
            repo["priority"] = int(repo["priority"])
        if not repo["section"] and repo["suite"].startswith("/"):
            repo["suite"] = f".{repo['suite']}"
            notes.append(f"repos[{number}].suite: {given['suite']!r} is now {repo['suite']!r}.")
        repos.append({name: value for name, value in repo.items() if value not in (None, "")})
    first, codename = repos[0], source.get("codename")
    if codename not in (None, first["suite"]):
        wanted = next((repo for repo in repos if repo["suite"] == codename), first)
        repos.sort(key=lambda repo: repo is not wanted)
        place = "stays first, as none has it" if wanted is first else "is first now"
        notes.append(
            f"codename: {first['name']}, the first repository and fuel-agent's base"
            f", has not the suite {codename!r}; {wanted['name']} {place}."
        )
    others = [repo["name"] for repo in repos if repo["uri"] != repos[0]["uri"]]
    notes.append(
        "repos: fuel-agent verified no signature and Strata verifies all; `keyring` is "
        "needed where this host's archive keyrings lack a repository's key, perhaps for "
        f"{', '.join([*others, repos[0]['name']])}."
    )
    return repos


def _packages(source: Mapping[str, Any], release: str, notes: list[str]) -> list[str]:
    # fuel-agent joined them to one command line, so one string could hold several.
    packages = " ".join(source.get("packages", ())).split()
    if "packages" not in source:
        packages = TRUSTY.split() if release == "trusty" else []
        notes.append(
            "packages: absent; the list that fuel-agent takes then is for trusty and is "
            + ("written out." if packages else f"of no use for {release}.")
        )
    if changed := [name for name in RECONFIGURED if name in packages]:
        notes.append(
            f"packages: fuel-agent disabled or configured {', '.join(changed)} after "
            "installation; a layer with a `script` can do that."
        )
    return packages


def _password(source: Mapping[str, Any], notes: list[str]) -> dict[str, str]:
    """Return one of the two; the hash wins, as in fuel-agent's objects.User."""
    given = [name for name in ("hashed_root_password", "root_password") if source.get(name)]
    if not given:
        notes.append(
            "root_password: absent; fuel-agent then set one that everybody knows, here "
            "root stays locked: add `hashed_root_password` to log in."
        )
    if given[1:]:
        notes.append("root_password: left out, because hashed_root_password is used.")
    return {name: source[name] for name in given[:1]}


def _proxies(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    protocols = given.get("protocols", {})
    proxies: dict[str, Any] = {}
    for name in ("http", "https"):
        if address := protocols.get(name):
            proxies[name] = address if "://" in address else f"http://{address}"
            if proxies[name] != address:
                notes.append(f"proxies.protocols.{name}: `http://` was put in front.")
    if direct := given.get("direct_repo_addr_list"):
        proxies["direct"] = list(dict.fromkeys(direct))
    return proxies


def _basename(uri: str) -> str:
    return re.sub(r"^[A-Za-z]+://[^/?#]*|[?#].*", "", uri).rpartition("/")[2]


def import_spec(file: Path, target: Path, *, schema: Path) -> list[str]:
    """Write the spec `target` from fuel-agent's input, JSON or YAML, and return the notes.

    It appears whole or not at all, never replaces a spec, and has mode 0600 if it holds a secret.
    Raises BuildError for a file that cannot be read or imported, and for a target that exists.
    """
    import yaml

    document, notes = spec_document(_read(file), origin=str(file))
    shown = "".join(c if c.isprintable() else "?" for c in str(file))
    origin = f"# Imported from {shown}, input of fuel-agent; see docs/migrating.md.\n"
    body = yaml.safe_dump(document, sort_keys=False, width=1000)
    try:
        # The draft's name does not end in .yaml: left behind by kill -9, it is no spec.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.") as draft:
            draft.write((MODELINE + origin + body).encode())
            draft.flush()
            os.fsync(draft.fileno())
            try:
                secret = bool(load_spec(Path(draft.name), schema=schema).secrets)
            except BuildError as error:
                # The draft's lines are nobody's.
                told = (
                    f"{draft.name}: {error.what}" if isinstance(error, SpecFault) else error.message
                )
                told = told.replace(draft.name, str(target))
                raise BuildError(f"{file}: makes no valid spec: {told}", error.hint) from error
            os.fchmod(draft.fileno(), 0o600 if secret else 0o644)
            os.link(draft.name, target)  # like a rename, but it fails if the target exists
    except FileExistsError:
        raise BuildError(f"{target}: this spec exists", "choose another spec=NAME") from None
    except OSError as error:
        raise BuildError(f"{target}: cannot be written: {error.strerror}") from error
    if secret:
        notes.append(f"{target}: holds a password, so its mode is 0600: commit it with care.")
    return notes


def import_input(session: Session) -> None:
    """`doit import`: fuel-agent's input, named by `file=`, → specs/NAME.yaml."""
    given = session.variables.get("file", "")
    if not given or not session.name:
        raise BuildError("two variables are needed", "doit import file=provision.json spec=NAME")
    if "/" in session.name or session.name[:1] in ".-" or not session.name.isprintable():
        raise BuildError(
            f"spec={session.name!r}: expected a name for a file in specs/",
            "no slash in it, no dot or hyphen first",
        )
    # ./doit changes to the project's folder; the file is meant from where the user stands.
    file = Path(os.environ.get("STRATA_FROM", "."), given)
    target = session.specs / f"{session.name}.yaml"
    notes = import_spec(file, target, schema=session.specs / "spec.schema.json")
    for note in notes:
        session.screen.line(f"note: {note}")
    session.screen.line(f"wrote {os.path.relpath(target, session.root)}")


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:  # YAML's reader would do for both, but for tabs
        raw = file.read_bytes()
        source = json.loads(raw) if file.suffix == ".json" else yaml.safe_load(raw)
    except OSError as error:
        raise BuildError(f"{file}: cannot be read: {error.strerror}", HINT) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        form, told = "JSON" if file.suffix == ".json" else "YAML", " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError):  # its text quotes the line, maybe a password
            line = error.problem_mark.line + 1 if error.problem_mark else "unknown"
            told = f"{error.problem}, line {line}"
        raise BuildError(f"{file}: not {form}: {told}", HINT) from error
    if not isinstance(source, dict):
        raise BuildError(f"{file}: expected a mapping with `repos` and `image_data`", HINT)
    return source
