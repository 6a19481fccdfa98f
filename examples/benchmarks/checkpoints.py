"""Runs that end in time and go on in a later call."""

import math
import os
import time
from dataclasses import dataclass, field
from typing import Any

import joblib
from skorch.callbacks import Callback

from pnl_sklearn import PNLClassifier


class Deadline(Callback):
    """Ends a fit at the end of the epoch in which the time is up.

    Parameters
    ----------
    at : float
        When that is, by `time.time`.
    """

    def __init__(self, at=math.inf):
        self.at = at

    def on_epoch_end(self, net, **kwargs):
        """Interrupt, as skorch's EarlyStopping does."""
        if time.time() >= self.at:
            raise KeyboardInterrupt


@dataclass
class Checkpoint:
    """What a run has got to.

    Parameters
    ----------
    identity : object
        What has to be the same for a later call to go on.
    errors : dict
        setting -> error, of those that are done.
    seconds : float
        What the run took so far.
    calls : list of dict
        Circumstances of the calls so far.
    estimator : PNLClassifier or None
        That of the next setting, if time was up in its fit.
    """

    identity: Any
    errors: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    calls: list[dict] = field(default_factory=list)
    estimator: PNLClassifier | None = None

    def fit(self, estimator, X, y, deadline):
        """Fit an estimator, or go on with the one that was interrupted; return it.

        Where time is up first, it is kept, and the return value is None. This is for
        PNLClassifier itself; all others end when they end.
        """
        if type(estimator) is not PNLClassifier or (
            self.estimator is None and deadline == math.inf
        ):
            return estimator.fit(X, y)
        if self.estimator is None:
            self.estimator = estimator.set_params(callbacks=[Deadline(deadline)])
        else:
            for net in self.estimator.submodels_:
                net.set_params(callbacks__Deadline__at=deadline)
        self.estimator.set_params(warm_start="resume").fit(X, y)
        if self.estimator.n_iter_ < self.estimator.max_epochs:
            return None
        estimator, self.estimator = self.estimator, None
        return estimator


def read_checkpoint(path, identity):
    """Return the checkpoint of a file, or a new one if there is none of this run."""
    if path is None or not path.exists():
        return Checkpoint(identity)
    found = joblib.load(path)
    if found.identity != identity:
        print(f"{path} is of other parameters or versions: not used", flush=True)
        return Checkpoint(identity)
    return found


def write_checkpoint(checkpoint, path):
    """Write a file that is whole at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    joblib.dump(checkpoint, unfinished)
    os.replace(unfinished, path)
