"""Strata's graph, for doit.

    specs/foo.yaml ─→ lock ─→ base ─→ layer:… ─→ image:… ─→ build
                       │                                    out/foo/
                  specs/foo.lock

A stage is up to date when the cache holds its key. Between stages stands `setup`, not `task_dep`:
what an image was made from is wanted only if the image must be made. The stages are known once
the lock is, so their creators run after it.
"""

from __future__ import annotations

import gc

# A twentieth of a build with nothing to do would be spent on looking for garbage while it loads.
gc.set_threshold(50_000)

from tasks.beside import (  # noqa: E402, F401 - doit looks for task_* here
    task_audit,
    task_bench,
    task_boot,
    task_check,
    task_ci,
    task_diff,
    task_doctor,
    task_fleet,
    task_graph,
    task_import,
    task_keygen,
    task_keys,
    task_outdated,
    task_provenance,
    task_prune,
    task_pull,
    task_push,
    task_push_oci,
    task_report,
    task_reproduce,
    task_sbom,
    task_shell,
    task_show,
    task_sizes,
    task_test,
    task_verify,
    task_why,
)
from tasks.graph import (  # noqa: E402, F401 - doit looks for task_* here
    task_base,
    task_bios,
    task_blob,
    task_boot_test,
    task_build,
    task_disk,
    task_esp,
    task_export,
    task_file,
    task_filesystem,
    task_image,
    task_layer,
    task_lock,
    task_verity,
)
from tasks.session.start import start  # noqa: E402

DOIT_CONFIG = start()
