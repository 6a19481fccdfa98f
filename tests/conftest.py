import os

# Before torch is imported: several test processes must not fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
