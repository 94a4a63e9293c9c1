"""Several repositories of one spec: flat ones, files, priorities, proxies, credentials."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.file_server import Server
from support.repository import Repository
from support.trees import only_root
from support.world import World

pytestmark = pytest.mark.root


def test_repositories_flat_file_and_by_priority(built: World, tmp_path: Path) -> None:
    """A flat one over file:, and one of the same suite name whose priority wins over versions."""
    only_root(built)
    flat = Repository(tmp_path / "flat", flat=True, key=None)
    flat.add(built.deb("only-flat", "1"))
    flat.publish()
    pinned = Repository(tmp_path / "pinned", origin="Pinned", label="Pinned", key=None)
    pinned.add(built.deb("delta", "0.5"), built.deb("gamma", "7"))
    pinned.publish()
    with Server(pinned.root) as server:
        built.edit("base:", f"""\
  - {{name: flat, uri: "file://{flat.root}", suite: ./, trusted: true}}
  - {{name: pinned, uri: "{server.url}", suite: stable, section: main, priority: 1001,
     trusted: true}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, only-flat, delta]")
        assert built.build()["app"] == "built"
    lines = (built.root / "out/web/packages.txt").read_text().splitlines()
    assert {"delta 0.5 all", "gamma 7 all", "only-flat 1 all"} <= set(lines)
    metadata = yaml.safe_load((built.root / "out/web/web.yaml").read_text())
    assert [repo["name"] for repo in metadata["repos"]] == ["main", "flat", "pinned"]
    assert metadata["repos"][2]["priority"] == 1001


def test_equal_release_fields_keep_their_own_priorities(built: World, tmp_path: Path) -> None:
    twin = Repository(tmp_path / "twin")
    twin.add(built.deb("delta", "0.1"), built.deb("beta", "0.1", depends="gamma"))
    twin.publish()
    with Server(twin.root) as server:
        built.edit("base:", f"""\
  - {{name: twin, uri: "{server.url}", suite: stable, section: main, keyring: keys/test.gpg,
     priority: 1001}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, delta, epsilon]")
        built.doit("lock", "spec=web")
    lock = (built.root / "specs/web.lock").read_text()
    assert '"package": "delta", "version": "0.1"' in lock
    assert '"package": "beta", "version": "0.1"' in lock
    assert '"package": "epsilon", "version": "1"' in lock


def test_proxies_credentials_and_direct(built: World, tmp_path: Path) -> None:
    """Repositories are reached through the proxy, direct ones past it; no secret is written."""
    only_root(built)
    other = Repository(tmp_path / "other", origin="Other")
    other.add(built.deb("behind", "1"))
    other.publish()
    with (
        Server(other.root, auth=("someone", "pa55word")) as server,
        Server(built.repository.root) as proxy,
    ):
        port = server.url.rpartition(":")[2]
        built.edit("base:", f"""\
  - {{name: other, uri: "http://someone:pa55word@127.0.0.1:{port}", suite: stable, section: main,
     keyring: keys/test.gpg}}
proxies: {{http: "{proxy.url}", direct: [127.0.0.1]}}
base:""")  # fmt: skip
        built.edit("packages: [beta]", "packages: [beta, behind]")
        built.edit('"${mirror}"', "http://mirror.example.invalid")
        assert built.build()["app"] == "built"
        assert any(path.startswith("http://mirror.example.invalid/")
                   for _method, path, _status in proxy.requests)  # fmt: skip
        assert not any("127.0.0.1" in path for _method, path, _status in proxy.requests)
        assert server.requests
    for path in built.root.rglob("*"):
        if path.is_file() and path.name != "web.yaml" and path.stat().st_size < 1 << 20:
            assert b"pa55word" not in path.read_bytes(), path
    metadata = (built.root / "out/web/web.yaml").read_text()
    assert "pa55word" not in metadata
    assert f"http://***@127.0.0.1:{port}" in metadata
