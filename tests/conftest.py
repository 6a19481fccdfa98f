import os

# Before torch is imported: several test processes must not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Not looked through for doctests: several modules of one name cannot be imported.
collect_ignore_glob = ["*/conftest.py"]
# A script, which needs pandas and polars.
collect_ignore = ["system/random_fits.py"]
