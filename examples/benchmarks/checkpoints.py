"""Checkpoints: runs that stop at a deadline and are resumed by a later call."""

import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

import joblib
from skorch.callbacks import Callback

from pnl_sklearn import PNLClassifier


class Deadline(Callback):
    """Ends a fit at the end of the first epoch after a deadline.

    Parameters
    ----------
    at : float
        The deadline, as `time.time` returns it.
    """

    def __init__(self, at=math.inf):
        self.at = at

    def on_epoch_end(self, net, **kwargs):
        """Interrupt, as skorch's EarlyStopping does."""
        if time.time() >= self.at:
            raise KeyboardInterrupt


@dataclass
class Checkpoint:
    """State needed to resume an interrupted run.

    Parameters
    ----------
    identity : object
        Parameters and versions; a run with others is not resumed.
    errors : dict
        setting -> error, of the settings that are done.
    seconds : float
        Seconds of the run so far.
    calls : list of dict
        Circumstances of the calls so far.
    estimator : PNLClassifier or None
        Estimator of the next setting, if its fit was interrupted.
    """

    identity: Any
    errors: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    calls: list[dict] = field(default_factory=list)
    estimator: PNLClassifier | None = None

    def fit(self, estimator, X, y, deadline):
        """Fit an estimator, or resume the one that was interrupted; return it.

        Return None if the deadline came first; the estimator is then kept. Only fits of
        PNLClassifier itself are interrupted.
        """
        if type(estimator) is not PNLClassifier or (
            self.estimator is None and deadline == math.inf
        ):
            return estimator.fit(X, y)
        self.estimator = self.estimator or estimator
        stop = [Deadline(deadline)]
        self.estimator.set_params(callbacks=stop, warm_start="resume").fit(X, y)
        if self.estimator.n_iter_ < self.estimator.max_epochs:
            return None
        estimator, self.estimator = self.estimator, None
        return estimator


def read_checkpoint(path, identity):
    """Return the checkpoint in a file, or a new one if it has none of this run."""
    if path is None or not path.exists():
        return Checkpoint(identity)
    found = joblib.load(path)
    if found.identity != identity:
        print(f"{path} has other parameters or versions: not used", flush=True)
        return Checkpoint(identity)
    return found


def write_checkpoint(checkpoint, path):
    """Write the file; it is complete at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    joblib.dump(checkpoint, unfinished)
    os.replace(unfinished, path)
