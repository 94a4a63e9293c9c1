"""Many machines: the stages of all specs as tasks of Dask, each made once, by whichever is free."""
