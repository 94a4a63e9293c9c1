"""`python -m tasks`: what ./doit runs."""

import sys

from .line.main import main

sys.exit(main())
