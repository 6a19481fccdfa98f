"""Importing the package loads little beside torch, skorch and scikit-learn."""

import json
import subprocess
import sys

_SCRIPT = """
import json, sys
import skorch, sklearn, torch
before = set(sys.modules)
import pnl_sklearn
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_import_loads_no_further_packages():
    command = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert "pnl_sklearn.estimator" in modules
    assert {name.split(".")[0] for name in modules} <= {"pnl_sklearn", "sklearn"}
    # They take two thirds as long as the package, and not every fit uses them.
    assert not {"sklearn.decomposition", "sklearn.neighbors"} & set(modules)
