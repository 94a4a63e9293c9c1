"""Bills of materials, looked at by the validators of those who made their formats."""

from __future__ import annotations

import json
import subprocess
import sys

CHILD = """\
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
cyclonedx, spdx = json.load(sys.stdin)
found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx)
faults = [] if found is None else [str(found)]
faults += map(str, validate_full_spdx_document(JsonLikeDictParser().parse(json.loads(spdx))))
print(json.dumps(faults))
"""


def faults(cyclonedx: str, spdx: str) -> list[str]:
    """What is wrong with a bill in the two forms: CycloneDX 1.6, and SPDX 2.3 as JSON.

    By a process of its own: to load these validators takes half a second, and two more where a package brought
    the grammars by which addresses are checked. Of several that do tests, each would load them to collect.
    """
    done = subprocess.run([sys.executable, "-c", CHILD], input=json.dumps([cyclonedx, spdx]),
                          check=True, capture_output=True, text=True)  # fmt: skip
    found: list[str] = json.loads(done.stdout)
    return found
