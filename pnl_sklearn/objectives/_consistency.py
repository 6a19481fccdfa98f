"""Companions: consistency losses beside the pseudo-negative labels.

A companion is an object with a method ``guide`` that tells a student which predictions
of unlabeled rows to follow, and which rows to learn negatives from; and an attribute
``rampup``, the share of the training in which its weight rises.
"""

from numbers import Real
from typing import ClassVar, NamedTuple, Protocol

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor


class ConsistencyTargets(NamedTuple):
    """What a student's predictions of the unlabeled rows are drawn to.

    Parameters
    ----------
    targets : float Tensor of shape (n_terms, n_rows, n_classes)
        Probabilities to follow.
    weights : float Tensor of shape (n_terms, n_rows)
        How much each row counts in each term.
    learns : bool Tensor of shape (n_rows,)
        Source whose pseudo-negative labels the student learns.
    """

    targets: Tensor
    weights: Tensor
    learns: Tensor


class Predictor(Protocol):
    """What a companion asks of a submodel: probabilities without gradient."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Predict with the weights as they are, in training mode."""

    def ema_probabilities(self, x: Tensor) -> Tensor:
        """Predict with the average of the weights, in evaluation mode."""


class Consistency(Protocol):
    """What has a method `guide` and a ramp-up."""

    rampup: float

    def guide(
        self,
        student: Predictor,
        partner: Predictor,
        weak: Tensor,
        strong: Tensor,
        partner_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return what the student is to follow on a batch of unlabeled rows.

        Parameters
        ----------
        student, partner : Predictor
            The two submodels.
        weak, strong : Tensor of shape (n_rows, ...)
            The views of the rows.
        partner_weak : Tensor of shape (n_rows, n_classes)
            Probabilities of the partner on the weak views.

        Returns
        -------
        guidance : ConsistencyTargets
        """


class MeanTeacher(BaseEstimator):
    """Each submodel is consistent with the average of its own weights.

    The average predicts on the weak view of an unlabeled row, and the student's
    prediction on the strong view is drawn to it by the mean squared difference of
    their probabilities. The negatives still come from the partner.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the consistency after its ramp-up.
    rampup : float, default=0.05
        Share of the training, from 0 to 1, in which the weight rises.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017.
    """

    _parameter_constraints: ClassVar[dict] = {
        "consistency_weight": [Interval(Real, 0, None, closed="left")],
        "rampup": [Interval(Real, 0, 1, closed="both")],
    }
    needs_ema = True

    def __init__(self, consistency_weight=10.0, rampup=0.05):
        self.consistency_weight = consistency_weight
        self.rampup = rampup

    def guide(
        self,
        student: Predictor,
        partner: Predictor,
        weak: Tensor,
        strong: Tensor,
        partner_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return what the student is to follow on a batch of unlabeled rows.

        Inputs and output are those of :meth:`pnl_sklearn.objectives.Consistency.guide`.
        """
        target = student.ema_probabilities(weak)
        everywhere = torch.ones(len(weak), device=weak.device)
        weights = self.consistency_weight * everywhere
        return ConsistencyTargets(target[None], weights[None], everywhere.bool())


class DualStudent(BaseEstimator):
    """Each submodel is consistent with itself, and follows the more stable of the two.

    A row is *stable* for a submodel when its predictions on both views are of the same
    class and one of them is more confident than `threshold`. Where a row is stable for
    the partner and not for the student, or for both but the student's two predictions
    differ more, the student's prediction is drawn to the partner's. Negatives are
    learned from on all other rows.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the consistency of a submodel with itself: the mean squared difference
        of its probabilities on the strong and the weak view.
    stabilization_weight : float, default=100.0
        Weight of the mean squared difference to the partner's probabilities, where it
        is followed.
    threshold : float, default=0.8
        Probability that one of the two predictions has to exceed.
    rampup : float, default=0.05
        Share of the training, from 0 to 1, in which the weights rise.

    References
    ----------
    Z. Ke, D. Wang, Q. Yan, J. Ren and R. Lau, "Dual Student: Breaking the Limits of the
    Teacher in Semi-Supervised Learning", ICCV 2019; weights as in the public script of
    H. Xu et al. (2023).
    """

    _parameter_constraints: ClassVar[dict] = MeanTeacher._parameter_constraints | {
        "stabilization_weight": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
    }
    needs_ema = False

    def __init__(
        self,
        consistency_weight=10.0,
        stabilization_weight=100.0,
        threshold=0.8,
        rampup=0.05,
    ):
        self.consistency_weight = consistency_weight
        self.stabilization_weight = stabilization_weight
        self.threshold = threshold
        self.rampup = rampup

    def guide(
        self,
        student: Predictor,
        partner: Predictor,
        weak: Tensor,
        strong: Tensor,
        partner_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return what the student is to follow on a batch of unlabeled rows.

        Inputs and output are those of :meth:`pnl_sklearn.objectives.Consistency.guide`.
        """
        own = student.probabilities(weak), student.probabilities(strong)
        other = partner_weak, partner.probabilities(strong)
        follows = self.follows(own, other)
        weights = torch.stack(
            [
                torch.full_like(follows, self.consistency_weight, dtype=torch.float32),
                self.stabilization_weight * follows.float(),
            ]
        )
        return ConsistencyTargets(
            torch.stack([own[0], partner_weak]), weights, ~follows
        )

    def follows(
        self, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Tell on which rows a student follows its partner.

        Parameters
        ----------
        own, other : pair of Tensors of shape (n_rows, n_classes)
            Probabilities of the student, and of the partner, on the two views.

        Returns
        -------
        follows : bool Tensor of shape (n_rows,)
        """
        own_stable, other_stable = self._is_stable(*own), self._is_stable(*other)
        differs_more = _distance(*own) > _distance(*other)
        return other_stable & (~own_stable | differs_more)

    def _is_stable(self, first: Tensor, second: Tensor) -> Tensor:
        first_top, second_top = first.max(dim=1), second.max(dim=1)
        confidence = torch.maximum(first_top.values, second_top.values)
        return (first_top.indices == second_top.indices) & (confidence > self.threshold)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distance of the rows' predictions, of shape (n_rows,)."""
    return (first - second).square().sum(dim=1)


CONSISTENCIES: dict[str, type[BaseEstimator]] = {
    "mean_teacher": MeanTeacher,
    "dual_student": DualStudent,
}
