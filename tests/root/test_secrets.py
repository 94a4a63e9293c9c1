"""Secrets of a spec: on no screen, in no file, argument or environment."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from support.file_server import Fault, Server
from support.world import World

USER, PASSWORD, PROXY, ROOT = "us3rname", "pa55w%6Frd", "pr0xyw0rd", "r00t correct horse"


ANSWER = "s3cret answer"


SECRETS = [PASSWORD, "pa55word", PROXY, ROOT, ANSWER]


class Watch:
    """Looks at the arguments and environments of all processes while the block runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.seen: set[str] = set()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        own = {str(os.getpid())}
        while not self.done.wait(0.003):
            for path in Path("/proc").glob("[0-9]*"):
                if path.name in own:
                    continue
                try:
                    words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
                except OSError:
                    continue
                text = words.decode(errors="replace").replace("\0", " ")
                self.seen.add(text.split(" ", 1)[0].rpartition("/")[2])
                self.found |= {text[:300] for secret in SECRETS if secret in text}

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def clean(world: World, text: str, *more: str) -> None:
    """Neither the screen nor any file but the spec has a secret."""
    secrets = [*SECRETS, *more]
    assert [secret for secret in secrets if secret in text] == [], text
    folders = [world.root / name for name in ("cache", "out", ".doit", "specs")]
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.name != "web.yaml" and path.stat().st_size < 8 << 20:
            content = path.read_bytes()
            assert [secret for secret in secrets if secret.encode() in content] == [], path


@pytest.mark.root
def test_no_secret_leaves_the_spec(built: World) -> None:
    """Passwords of repositories, proxies and root: after success and each kind of failure."""
    script = "env; ps -ef 2> /dev/null; cat /proc/*/environ /proc/*/cmdline 2> /dev/null | tr '\\0' '\\n'; exit 1"
    leak = "#!/bin/sh\ncat /dev/.strata/in/shadow /etc/shadow\necho; exit 1\n"
    built.add(built.deb("beta", "2", depends="gamma", files={"/usr/sbin/locale-gen": leak}),
              built.deb("zeta", "1", scripts={"postinst": script}))  # fmt: skip
    with (
        Server(built.repository.root, auth=(USER, "pa55word")) as server,
        Server(built.repository.root) as proxy,
    ):
        port, proxy_port = (one.url.rpartition(":")[2] for one in (server, proxy))
        built.edit('"${mirror}"', f'"http://{USER}:{PASSWORD}@127.0.0.1:{port}"')
        built.edit("packages: [alpha]", f"root_password: {ROOT}\nproxies: {{http: 'http://me:{PROXY}@127.0.0.1:"
                   f"{proxy_port}', direct: [127.0.0.1]}}\npackages: [alpha]")  # fmt: skip
        built.edit(
            "packages: [beta]", f"debconf: [beta beta/pw password {ANSWER}]\n    packages: [beta]"
        )
        text = (built.root / "specs/web.yaml").read_text()
        mirror = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"

        def run(
            name: str, *, code: int = 1, part: str = "", words: tuple[str, ...] = ("build",)
        ) -> str:
            build = built.doit(*words, "spec=web", check=False)
            assert build.code == code, (name, build.text)
            assert "Traceback" not in build.text
            assert part in build.text, (name, build.text)
            clean(built, build.text)
            return build.text

        with Watch() as watch:
            run("success", code=0)
            for word in ("keys", "why", "list"):
                assert run(word, code=0, words=(word,))
            now = (built.root / "specs/web.yaml").read_text()
            built.write("web.yaml", now.replace(ANSWER, ANSWER + "!"))
            run("another answer", code=2, part="debconf: without beta beta/pw", words=("why",))
            built.write("web.yaml", now)
            assert server.requests
            built.edit("packages: [beta]", "packages: [beta, zeta]")
            run("a script that prints its environment", part="layer app failed")
            built.write(
                "web.yaml",
                text.replace("packages: [alpha]", "locale: de_DE.UTF-8\npackages: [alpha]"),
            )
            run("a program that sees the hash", part="layer settings failed")
            log = (built.root / "out/web/log/layer-settings.log").read_text()
            assert "***" in log
            assert not re.search(r"\$6\$[^$ ]+\$.", log), log
            built.write("web.yaml", text.replace(f"{USER}:", "other:"))
            run("401", part="it refuses access")
            built.write("web.yaml", text.replace(", direct: [127.0.0.1]", "")
                        .replace(f"127.0.0.1:{proxy_port}", "127.0.0.1:9"))  # fmt: skip
            run("a dead proxy", part="repos.main (http://***@127.0.0.1:")
            built.write("web.yaml", text.replace("packages: [beta]", "packages: [beta, epsilon]"))
            server.faults["epsilon_1_all.deb"] = Fault(body=b"other")
            run("another hash", part="not what is locked")
        assert watch.found == set()
        assert {"apt-get", "unshare", "tar", "apt-helper"} <= watch.seen
        # A mirror of the environment is in doit's own, and must not go on to what it starts.
        built.write("web.yaml", re.sub(r'uri: "[^"]*"', 'uri: "${mirror}"', text))
        with Watch() as watch:
            build = built.doit("layer:app", "spec=web", check=False, STRATA_MIRROR=mirror)
        assert build.code == 0, build.text
        clean(built, build.text)
        assert {
            text for text in watch.found if "doit" not in text.partition("STRATA_MIRROR")[0]
        } == set()
    for name in ("cache/index", ".doit"):
        assert (built.root / name).exists()


@pytest.mark.root
def test_no_secret_of_a_variable_leaves_the_spec(built: World) -> None:
    """A password by var.pw= is one as if it stood in the spec: in no log, record, argv or output."""
    with Server(built.repository.root, auth=(USER, "pa55word")) as server:
        port = server.url.rpartition(":")[2]
        built.edit('"${mirror}"', f'"http://{USER}:${{mirror_pw}}@127.0.0.1:{port}"')
        built.edit("packages: [alpha]", "vars: {pw: none, mirror_pw: none, answer: none}\n"
                   "root_password: ${pw}\npackages: [alpha]")  # fmt: skip
        built.edit(
            "packages: [beta]", "debconf: ['beta beta/pw password ${answer}']\n    packages: [beta]"
        )
        given = [f"var.pw={ROOT}", f"var.mirror_pw={PASSWORD}", f"var.answer={ANSWER}"]
        with Watch() as watch:
            for words, code in ((["build"], 0), (["show"], 0), (["why"], 0), (["keys"], 0), (["list"], 0),
                                (["check"], 0), (["build", "var.po=x"], 1), (["check", "variant=x"], 1)):  # fmt: skip
                build = built.doit(*words, "spec=web", *given, check=False)
                assert build.code == code, (words, build.text)
                clean(built, build.text)
                if words == ["show"]:
                    assert build.out.count("***") == 3, build.out
        assert server.requests
        assert watch.found == set()
        assert "unshare" in watch.seen
        # Another one is another image.
        given[0] = f"var.pw={ROOT}!"
        build = built.doit("why", "spec=web", *given, check=False)
        assert build.code == 2
        clean(built, build.text)
