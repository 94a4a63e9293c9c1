"""`debs`: a project's own packages in a layer, by digest in the lock and the key of just that layer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.debs import make_deb
from support.trees import only_root
from support.world import SPEC, World, says

pytestmark = pytest.mark.root


def own(world: World, name: str = "agent", version: str = "1.0", **options: Any) -> Path:
    """A .deb of the project, in debs/ below its root."""
    options.setdefault("files", {f"/usr/share/{name}/version": f"{version}\n"})
    return make_deb(world.root / "debs", name, version, **options)


def records(world: World, layer: str) -> dict[str, dict[str, Any]]:
    """What a layer's lock has, by package."""
    lock = json.loads((world.root / "specs/web.lock").read_text())
    found = next(one["records"] for one in lock["layers"] if one["name"] == layer)
    return {one["package"]: one for one in found}


def content(world: World, layer: str, path: str) -> str:
    """A file of a layer's tarball."""
    key = next(one["key"] for one in world.json()["stages"] if one["name"] == layer)
    tarball = world.root / f"cache/layers/layer-{key}.tar.zst"
    return subprocess.run(["tar", "--zstd", "-xOf", tarball, f"./{path}"], check=True, text=True,
                          capture_output=True).stdout  # fmt: skip


def test_own_packages_with_dependencies_from_the_repository(built: World) -> None:
    """The newer version of a repository's is not taken, nor ours below the layer that gives it."""
    only_root(built)
    built.add(built.deb("agent", "2.0"), built.deb("user", depends="agent"))
    own(built, depends="delta, beta (>= 1)", scripts={"postinst": "id -u > /usr/share/agent/uid"})
    built.edit("  - name: app\n    packages: [beta]\n",
               "  - name: app\n    packages: [beta]\n    debs: [debs/*.deb]\n"
               "  - name: top\n    packages: [user, agent]\n")  # fmt: skip
    text = built.doit("lock", "spec=web").text
    built.build("lock=keep")
    assert built.results() == {"base": "hit", "packages": "hit", "app": "built", "top": "built",
                               "/": "built"}  # fmt: skip
    says(text, "+ agent 1.0 (app, debs/agent_1.0_all.deb)", "+ delta 1 (app, from main)")
    found = records(built, "app")
    assert set(found) == {"agent", "beta", "delta", "gamma"}
    assert found["agent"]["repository"] == "."
    assert found["agent"]["path"] == "debs/agent_1.0_all.deb"
    assert set(records(built, "top")) == {"user"}
    assert content(built, "app", "usr/share/agent/version") == "1.0\n"
    assert content(built, "app", "usr/share/agent/uid") == "0\n"
    assert "agent 1.0 all\n" in (built.root / "out/web/packages.txt").read_text()
    (said,) = built.json()["debs"]
    assert (said["layer"], said["package"], said["path"]) == (
        "app",
        "agent",
        found["agent"]["path"],
    )

    # Nothing to do; other bytes redo just the layer and what stands on it, with all else kept.
    assert set(built.build().values()) == {"hit"}
    built.add(built.deb("beta", "3"))
    own(built, files={"/usr/share/agent/version": "other\n"}, depends="delta, beta (>= 1)")
    frozen = built.doit("build", "spec=web", "lock=frozen", check=False)
    says(frozen.text, "the lock is older than the spec: debs/agent_1.0_all.deb has other bytes")
    why = built.doit("why", "spec=web", check=False).text
    says(why, "older than the spec", "debs/agent_1.0_all.deb has other bytes")
    kept = built.doit("lock", "spec=web", "lock=keep").text
    built.build("lock=frozen")
    says(kept, "agent 1.0: other bytes of the same version")
    assert built.results()["packages"] == "hit"
    assert built.results()["app"] == "built"
    assert records(built, "app")["beta"]["version"] == "1"
    assert content(built, "app", "usr/share/agent/version") == "other\n"

    # Another file of the same digest is the same, and so is none if the cache has it.
    lock = (built.root / "specs/web.lock").read_text()
    (built.root / "debs/agent_1.0_all.deb").rename(built.root / "debs/renamed.deb")
    assert set(built.build("lock=frozen").values()) == {"hit"}
    (built.root / "debs/renamed.deb").rename(built.root / "agent.deb")
    gone = built.doit("build", "spec=web", "lock=frozen").text
    says(gone, "debs/agent_1.0_all.deb: it is gone; what is locked is in the cache")
    assert set(built.results().values()) == {"hit"}
    (built.root / "agent.deb").rename(built.root / "debs/renamed.deb")
    other = built.clone(built.root.parent / "clone", cache="layers/base-*")
    shutil.copytree(built.root / "debs", other.root / "debs")
    assert other.build("lock=frozen")["app"] == "built"
    assert (other.root / "specs/web.lock").read_text() == lock
    assert other.outputs() == built.outputs()


def relocked(world: World, **fields: Any) -> str:
    """What `doit lock` says, with these fields in the layer `app`; "" but for a refusal."""
    spec = yaml.safe_load(SPEC)
    spec["repos"][0]["priority"] = 32767
    spec["layers"] = [{"name": "app", "debs": ["debs/*.deb"], **fields}]
    world.write("web.yaml", yaml.safe_dump(spec))
    done = world.doit("lock", "spec=web", check=False)
    assert "Traceback" not in done.text
    return done.err if done.code else ""


def test_own_packages_are_above_all_repositories(world: World) -> None:
    # An older one in place of what a layer below has; recommends of it as the spec says.
    own(world, "alpha", "0.5", depends="delta")
    assert relocked(world) == ""
    assert records(world, "packages")["alpha"]["version"] == "1"
    assert records(world, "app")["alpha"]["version"] == "0.5"
    # The same version as below, with other bytes, is none to dpkg.
    (world.root / "debs/alpha_0.5_all.deb").unlink()
    own(world, "alpha", "1", depends="delta")
    says(relocked(world), "layers.app: debs/alpha_1_all.deb is alpha 1, which a layer below has from "
         "repository main with other bytes", "give it another version")  # fmt: skip
    (world.root / "debs/alpha_1_all.deb").unlink()
    # One that a repository has, too, of the same control and size: these very bytes are taken.
    mine = own(world, "epsilon", "1", files={"/usr/share/epsilon/version": "2\n"})
    assert mine.stat().st_size == (world.debs / "epsilon_1_all.deb").stat().st_size
    assert relocked(world) == ""
    assert records(world, "app")["epsilon"]["repository"] == "."
    # The scan of scripts reads own packages, whatever they are called.
    mine.unlink()
    own(world, "tzdata", "9", scripts={"postinst": "hostname > /usr/share/tz"})
    spec = yaml.safe_load(SPEC)
    del spec["layers"][0]["script"], spec["layers"][0]["files"]
    spec |= {"hostname": "web", "debs": ["debs/*.deb"]}
    world.write("web.yaml", yaml.safe_dump(spec))
    world.doit("lock", "spec=web")
    lock = json.loads((world.root / "specs/web.lock").read_text())
    assert lock["layers"][0]["reads"] == {"hostname": ["tzdata"]}
    assert {one["package"]: one["repository"] for one in lock["layers"][0]["records"]} == {
        "alpha": "main", "tzdata": "."}  # fmt: skip
    assert lock["layers"][0]["manual"] == ["alpha", "tzdata"]


def test_what_cannot_be_locked_is_told(world: World) -> None:
    world.add(world.deb("agent", "2.0"))
    own(world, depends="nowhere (>= 2)")
    says(relocked(world), "layers.app", "agent", "nowhere")
    own(world)
    says(relocked(world, packages=["agent=2.0"]), "debs/agent_1.0_all.deb is agent 1.0, and apt would "
         "take agent 2.0 in its place", "remove what asks for another version of agent")  # fmt: skip
    says(relocked(world, packages=["agent-"]), "agent is asked for, and refused by `agent-`")
    own(world, version="1.1")
    says(relocked(world), "are both agent")
    assert not (world.root / "specs/web.lock").exists()
    for path in (world.root / "debs").iterdir():
        path.unlink()
    says(relocked(world), "debs/*.deb matches no file")
    says(world.doit("check", "spec=web", check=False).err, "debs/*.deb matches no file")
