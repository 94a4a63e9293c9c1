"""`python -m tasks`: what ./doit runs."""

from .line.main import strata

strata()
