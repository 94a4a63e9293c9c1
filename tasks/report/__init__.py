"""The report: what `commands/report` found, laid out as one HTML page that needs nothing else."""
