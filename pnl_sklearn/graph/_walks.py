"""Beliefs about the classes of rows by walks along a graph to labeled rows."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import softmax

from ._visits import visit_densities

# How far walks go (probability, a step, to go on), and how much is made of where they
# lead (powers): what is averaged over.
_GOES_ON = (0.8, 0.9, 0.99)
_POWERS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
# Less weight than this in an average counts for nothing.
_NEGLIGIBLE = 1e-6
# How far those go that tell where boundaries are at first: 100 and 1,000 steps on
# average.
_GOES_FAR = (0.99, 0.999)
# Of its share of the prior a class may lack so much where it is believed in e times as
# much as neighbors tell: priors are seldom exact.
_LEEWAY = 0.1
# Less than any probability that is worth telling from 0.
TINY = 1e-12


class Walks:
    """Beliefs by the labels that walks meet, averaged over lengths and powers.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_rows, n_rows)
    labeled : int array of shape (n_labeled,)
    members : bool array of shape (n_labeled, n_classes)
        Classes of the labeled rows.
    prior : float array of shape (n_classes,) or None
    odds : float
    """

    def __init__(
        self,
        graph: sparse.csr_matrix,
        labeled: np.ndarray,
        members: np.ndarray,
        prior: np.ndarray | None,
        odds: float,
    ):
        self._members, self._prior = members, prior
        visits = {
            p: visit_densities(graph, labeled, p).astype(np.float32)
            for p in {*_GOES_ON, *_GOES_FAR}
        }
        self._far = [visits[p] for p in _GOES_FAR]
        # Each walk that meets a label visits it as often as one that starts there.
        self._meets = [
            (visits[p] / visits[p][labeled].diagonal()).clip(0, 1) for p in _GOES_ON
        ]
        labels, counts = members.argmax(axis=1), members.sum(axis=0)
        judged = counts[labels] > 1
        told = np.arange(judged.sum()), labels[judged]
        fits = []
        for meets in self._meets:
            of_others = meets[labeled]
            np.fill_diagonal(of_others, 0.0)
            shares = of_others @ members / (counts - members).clip(1)
            logs_by_others = np.log(_neutral(shares, counts)[judged] + TINY)
            logs = self._logs(meets, np.ones(len(labels), dtype=bool))
            for power in _POWERS:
                factors = self._factors(power * logs)
                for f, chance in zip(factors, (1.0, odds), strict=False):
                    told_by = softmax(power * logs_by_others + f, axis=1)[told]
                    fits.append(np.log(chance) + np.log(told_by + 1e-9).sum())
        shape = len(_GOES_ON), len(_POWERS), -1
        self._weights = softmax(fits).reshape(shape)

    def beliefs(self, kept: np.ndarray) -> np.ndarray:
        """Class probabilities of all rows by the labels that are kept."""
        beliefs = np.zeros((self._meets[0].shape[0], self._members.shape[1]))
        for meets, by_power in zip(self._meets, self._weights, strict=True):
            logs = self._logs(meets, kept)
            for power, weights in zip(_POWERS, by_power, strict=True):
                if weights.sum() > _NEGLIGIBLE:
                    factors = self._factors(power * logs)
                    for f, weight in zip(factors, weights, strict=True):
                        beliefs += weight * softmax(power * logs + f, axis=1)
        return beliefs / beliefs.sum(axis=1, keepdims=True)

    def nearest(self, kept: np.ndarray) -> Iterator[np.ndarray]:
        """Class that most walks come from, as one-hot rows, for each far length.

        From the labels of each class as many walks set out; whose pay a row most visits
        has it. Source that no walk comes to are of all classes alike.

        Which labels are met depends on how many rows a class has, this hardly. With
        walks without an end, and as many labels of each class, it is what J. Calder, B.
        Cook, M. Thorpe and D. Slepcev take in "Poisson Learning: Graph Based
        Semi-Supervised Learning at Very Low Label Rates", ICML 2020.
        """
        members = self._members & kept[:, None]
        classes = np.eye(members.shape[1])
        for visits in self._far:
            by_class = visits @ members / members.sum(axis=0)
            reached = by_class.max(axis=1, keepdims=True) > 0
            alike = 1 / members.shape[1]
            yield np.where(reached, classes[by_class.argmax(axis=1)], alike)

    def _logs(self, meets: np.ndarray, kept: np.ndarray) -> np.ndarray:
        members = self._members & kept[:, None]
        counts = members.sum(axis=0)
        return np.log(_neutral(meets @ members / counts.clip(1), counts) + TINY)

    def _factors(self, logits: np.ndarray) -> list[np.ndarray]:
        """None, and those by the prior where there is one."""
        none = np.zeros(logits.shape[1])
        if self._prior is None:
            return [none]
        return [none, log_factors(logits, self._prior)]


def _neutral(shares: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Give classes without labels the mean of those with."""
    mean = shares[:, counts > 0].mean(axis=1, keepdims=True)
    return np.where(counts > 0, shares, mean)


def log_factors(
    logits: np.ndarray, prior: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """What to add to logits so that the mean of their softmax is near the prior.

    It minimizes mean(logsumexp(logits + a)) - prior . a, whose slope is this mean less
    the prior, and a little of a squared: the mean of beliefs that are sure changes only
    with factors that overrule them. It starts at zeros, or where it was before.
    """
    ridge = _LEEWAY * prior.clip(0.01 / len(prior))
    start = np.zeros(len(prior)) if start is None else start
    # So that sums over classes run along rows.
    columns = np.ascontiguousarray(logits.T)

    def loss(a: np.ndarray) -> tuple[float, np.ndarray]:
        shifted = columns + a[:, None].astype(columns.dtype)
        top = shifted.max(axis=0)
        exps = np.exp(shifted - top)
        totals = exps.sum(axis=0)
        mean = (exps / totals).mean(axis=1, dtype=float)
        total = (top + np.log(totals)).mean(dtype=float)
        return total - prior @ a + (ridge * a) @ a / 2, mean - prior + ridge * a

    return minimize(loss, start, jac=True, method="L-BFGS-B").x
