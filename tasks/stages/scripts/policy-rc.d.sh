#!/bin/sh
# Strata's, while it builds
exit 101
