"""What the dodo.py of a project of one's own imports: `from strata.dodo import *`.

Importing it begins a run, as doit's reading of any dodo.py does: nothing else imports it.
"""

from .beside import *  # noqa: F403 - its task creators are what doit looks for, too
from .graph import *  # noqa: F403 - its task creators are what doit looks for
from .session.start import start

DOIT_CONFIG = start()
