"""What importing the package takes: little beside torch, skorch and scikit-learn."""

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


def test_importing_imports_nothing_large():
    command = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert "pnl_sklearn.estimator" in modules
    assert {name.split(".")[0] for name in modules} <= {"pnl_sklearn", "sklearn"}
    # Two thirds as long to import as the package itself, and not used by every fit.
    assert not {"sklearn.decomposition", "sklearn.neighbors"} & set(modules)
