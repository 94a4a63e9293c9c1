"""The order of a fleet's stages, how long so many workers take, and what crosses the wire."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from tasks.errors import BuildError
from tasks.fleet.cluster import asked_workers, spoken
from tasks.fleet.parcel import Parcel
from tasks.fleet.schedule import Schedule, schedule, simulated
from tasks.plan.lockfile import Lock
from tasks.plan.stage import Plan, Product, Stage


def stage(kind: str, key: str, parent: Stage | None = None) -> Stage:
    inputs = {"parent": parent.key} if parent else {}
    return Stage(kind=kind, name=key, key=key, inputs=inputs, suffix=".tar.zst")


def plan(base: str, layers: str, image: str) -> Plan:
    """A plan whose keys are words: those that are the same are one stage."""
    below = stage("base", base)
    tree = [below]
    for one in layers.split():
        tree.append(stage("layer", one, tree[-1]))
    on = tuple(one.task for one in tree)
    images = (replace(stage("image", image, tree[-1]), on=on),)
    lock = Lock(inputs="", arch="amd64", repos=(), base=(), layers=())
    products = tuple(Product(name="x.img", stage=one) for one in images)
    return Plan(lock=lock, base=below, layers=tuple(tree[1:]), tops=images, products=products)


PLANS = {
    "web": plan("debian", "common web", "web"),
    "db": plan("debian", "common db", "db"),
    "old": plan("older", "", "old"),
}


def made(plans: dict[str, Plan], *there: str) -> tuple[Schedule, list[list[str]]]:
    """The stages to be made, of which those that are ready at once stand together."""
    todo = schedule(plans, lambda stages: {one.entry for one in stages} & set(there))
    waves = []
    ready = todo.ready()
    while ready:
        waves.append([node.stage.entry for node in ready])
        ready = [one for node in ready for one in todo.done(node.stage.entry)]
    assert todo.over
    return todo, waves


def test_each_key_is_made_once_the_longest_way_first() -> None:
    todo, waves = made(PLANS)
    assert waves == [
        ["base-debian", "base-older"],
        ["layer-common", "image-old"],
        ["layer-db", "layer-web"],
        ["image-db", "image-web"],
    ]
    assert todo.nodes["layer-common"].specs == ["web", "db"]
    assert todo.nodes["base-debian"].height == 3


def test_below_an_image_that_is_there_nothing_is_made() -> None:
    assert made(PLANS, "image-web", "image-db")[1] == [["base-older"], ["image-old"]]
    assert made(PLANS, "image-web", "image-db", "image-old")[1] == []


def test_a_tree_of_which_one_is_lacking_is_made_whole() -> None:
    """The image is filled from all of them."""
    waves = made({"web": PLANS["web"]}, "layer-common", "layer-web")[1]
    assert waves == [["base-debian"], ["image-web"]]


def test_what_fails_takes_what_stands_on_it_and_no_more() -> None:
    todo = schedule(PLANS, lambda _stages: [])
    todo.ready()
    todo.done("base-debian")
    assert todo.failed("layer-common") == {"web", "db"}
    assert todo.left == 2
    assert [node.stage.entry for node in todo.done("base-older")] == ["image-old"]
    assert todo.done("image-old") == []
    assert todo.over
    assert todo.lost == {"layer-common", "layer-web", "layer-db", "image-web", "image-db"}


@pytest.mark.parametrize(("workers", "seconds"), [(1, 9), (2, 5), (8, 4)])
def test_so_many_workers_take_so_long(workers: int, seconds: int) -> None:
    todo = schedule(PLANS, lambda _stages: [])
    took = dict.fromkeys(todo.nodes, 1.0) | {"base-older": 2.0}
    assert simulated(todo, took, workers) == seconds


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("tls://10.0.0.1:8786", "tls://10.0.0.1:8786"),
        ("127.0.0.1:8786", "tcp://127.0.0.1:8786"),
        ("tcp://[::1]:8786", "tcp://[::1]:8786"),
        ("tcp://localhost:8786", "tcp://localhost:8786"),
    ],
)
def test_who_may_be_spoken_to(address: str, what: str) -> None:
    assert spoken(address) == what


@pytest.mark.parametrize(
    "address",
    ["tcp://10.0.0.1:8786", "10.0.0.1:8786", "tcp://127.0.0.1.example.org:8786", "tcp://0.0.0.0:8786",
     "ws://127.0.0.1:8786", "tls://", "tls://h", "tls://h:port", "tls://u:p@h:1", "tcp://[::1:8786", ""],
)  # fmt: skip
def test_who_may_not(address: str) -> None:
    with pytest.raises(BuildError, match=r"without TLS|expected tls://"):
        spoken(address)


@pytest.mark.parametrize("text", ["0", "-1", "x", "١", "100000", "1.5", "1001"])
def test_what_is_no_number_of_workers(text: str) -> None:
    with pytest.raises(BuildError, match="expected a number"):
        asked_workers({"workers": text})


def test_a_parcel_shows_nothing_of_what_is_in_it() -> None:
    parcel = pickle.loads(pickle.dumps(Parcel("hunter22")))
    assert parcel.text == "hunter22"
    assert "hunter22" not in f"{parcel} {parcel!r} {[parcel]}"
