"""GitHub Actions: the workflow, and the outputs of its job `plan`."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from .pipeline import Pipeline
from .stages import Entry, Stages, waves
from .template import Template


def workflow(facts: Pipeline) -> str:
    """The text of .github/workflows/strata.yml."""
    template = Template("github")
    values = {
        **facts.common(),
        "strata": f"sudo -E {facts.program}",
        "history": "with: {fetch-depth: 0}  # `version: git` counts from the last tag"
        if facts.whole_history
        else "",
    }
    values["checkout"] = template.fill("checkout", values)

    def setup(keyrings: str) -> str:
        part = "strata" if not facts.checkout else "keyrings" if keyrings else ""
        text = template.fill(part, {**values, "keyrings": keyrings}) if part else ""
        return text.replace("recommends  ", "recommends ")

    values |= {
        "setup": setup(" ".join(facts.keyrings) if facts.keyrings_always else ""),
        "lock_setup": setup(" ".join(facts.keyrings)),
    }
    jobs = _shared(facts, template, values) if facts.remote else _staged(facts, template, values)
    return template.fill("head", values) + jobs.lstrip("\n") + template.fill("lock", values)


def _shared(facts: Pipeline, template: Template, values: dict[str, str]) -> str:
    values |= {
        "needs": "build",
        "matrix": json.dumps(facts.specs),
        "artifact": "images",
        "folder": "${{ matrix.spec }}/",
    }
    return template.fill("shared", values) + template.fill("attest", values)


def _staged(facts: Pipeline, template: Template, values: dict[str, str]) -> str:
    def each(part: str, count: int, **more: str) -> str:
        return "".join(
            template.fill(part, {"k": str(n), "n": str(n), "condition": "", **more})
            for n in range(count)
        )

    def several(part: str, count: int, condition: str) -> str:
        """A step for each, of which a spec may have fewer, but for the first."""
        return "".join(
            template.fill(part, {"n": str(n), "condition": condition.format(n) if n else ""})
            for n in range(count)
        )

    values |= {
        "outputs": each("output", facts.levels),
        "levels": str(facts.levels),
        "images": str(facts.images),
        "adopt": template.fill("adopt", values),
        "matrix": '"${{ fromJSON(needs.plan.outputs.specs) }}"',
        "artifact": "${{ matrix.spec }}",
        "folder": "",
    }
    names = ["plan", *(f"wave{level}" for level in range(facts.levels))]
    text = template.fill("plan", values)
    for level in range(facts.levels):
        mine = {"k": str(level), "needs": ", ".join(names[: level + 1]),
                "below": each("below", level)}  # fmt: skip
        text += template.fill("wave", {**values, **mine})
    values |= {
        "needs": ", ".join(names),
        "restore_images": several("restore_image", facts.images, "if: matrix.image{}"),
        "restore_tree": several("restore_tree", facts.levels, " && matrix.key{}"),
        "save_images": each("save_image", facts.images),
    }
    text += template.fill("build", values)
    return text + template.fill("attest", {**values, "needs": "plan, build"})


def outputs(specs: Sequence[Stages], have: Collection[str]) -> str:
    """`name=value` lines for $GITHUB_OUTPUT: the matrices of each wave and of the images."""
    found: dict[str, object] = {
        "specs": [one.spec for one in specs],
        "levels": max(len(one.tree) for one in specs),
        "images": max(len(one.images) for one in specs),
    }
    for level, wave in enumerate(waves(specs, have)):
        found[f"wave{level}"] = [
            {
                "title": one.title,
                "task": one.stage.task,
                "spec": one.specs[0],
                "key": one.stage.entry,
                "path": "\n".join(one.stage.files),
                **_numbered("key", "path", one.below),
            }
            for one in wave
        ]
    found["build"] = [
        {
            "spec": one.spec,
            "entries": one.entries,
            "images": " ".join(file for image in one.images for file in image.files),
            **{
                name: value
                for n, image in enumerate(one.images)
                for name, value in (
                    (f"image{n}", image.entry),
                    (f"image{n}_path", "\n".join(image.files)),
                )
            },
            **_numbered("key", "path", one.tree),
        }
        for one in specs
    ]
    return "".join(
        f"{name}={json.dumps(value, separators=(',', ':'))}\n" for name, value in found.items()
    )


def _numbered(key: str, path: str, entries: Sequence[Entry]) -> dict[str, str]:
    return {
        name: value
        for n, entry in enumerate(entries)
        for name, value in ((f"{key}{n}", entry.entry), (f"{path}{n}", "\n".join(entry.files)))
    }
