"""Consistency losses beside the pseudo-negative labels: Mean Teacher, Dual Student."""

from numbers import Real
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor


class ConsistencyTargets(NamedTuple):
    """Targets of a student's predictions on unlabeled samples.

    Parameters
    ----------
    probabilities : float Tensor of shape (n_terms, n_samples, n_classes)
        Target probabilities of each term of the loss.
    weights : float Tensor of shape (n_terms, n_samples)
        Weight of each sample in each term.
    use_negatives : bool Tensor of shape (n_samples,)
        Samples whose pseudo-negative labels the student learns.
    """

    probabilities: Tensor
    weights: Tensor
    use_negatives: Tensor


class Predictor(Protocol):
    """What a consistency loss may ask of a submodel; nothing has a gradient."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Predict with the current weights, in training mode."""

    def ema_probabilities(self, x: Tensor) -> Tensor:
        """Predict with the EMA of the weights, in evaluation mode."""


@runtime_checkable
class Consistency(Protocol):
    """Consistency regularization of the student.

    Attributes
    ----------
    rampup : float
        Fraction of the training, from 0 to 1, in which the weight rises to its value.
    needs_ema : bool
        Whether it needs the EMA of the weights.
    """

    rampup: float
    needs_ema: bool

    def targets(
        self,
        student: Predictor,
        teacher: Predictor,
        weak: Tensor,
        strong: Tensor,
        teacher_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return the targets of the student on a batch of unlabeled samples.

        The loss is the mean squared difference between the targets and the student's
        probabilities on the strong view.

        Parameters
        ----------
        student, teacher : Predictor
            The two submodels.
        weak, strong : Tensor of shape (n_samples, ...)
            The views of the samples.
        teacher_weak : Tensor of shape (n_samples, n_classes)
            Probabilities of the teacher on the weak view.

        Returns
        -------
        targets : ConsistencyTargets
        """


class MeanTeacher(BaseEstimator):
    """Consistency of each submodel with the EMA of its own weights.

    The EMA predicts on the weak view of an unlabeled sample. The loss is the mean
    squared difference between its probabilities and those of the student on the strong
    view. Pseudo-negative labels still come from the teacher.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the loss after its ramp-up.
    rampup : float, default=0.05
        Fraction of the training, from 0 to 1, in which the weight rises.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017.
    """

    _parameter_constraints: ClassVar[dict] = {
        "consistency_weight": [Interval(Real, 0, None, closed="left")],
        "rampup": [Interval(Real, 0, 1, closed="both")],
    }
    needs_ema: bool = True
    capturable: ClassVar[bool] = True

    def __init__(self, consistency_weight=10.0, rampup=0.05):
        self.consistency_weight = consistency_weight
        self.rampup = rampup

    def targets(
        self,
        student: Predictor,
        teacher: Predictor,
        weak: Tensor,
        strong: Tensor,
        teacher_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return the targets of the student on a batch of unlabeled samples.

        Inputs and output are those of
        :meth:`pnl_sklearn.objectives.Consistency.targets`.
        """
        probabilities = student.ema_probabilities(weak)
        ones = torch.ones(len(weak), device=weak.device)
        weights = self.consistency_weight * ones
        return ConsistencyTargets(probabilities[None], weights[None], ones.bool())


class DualStudent(BaseEstimator):
    """Consistency of each submodel with itself, and with the more stable one.

    A sample is *stable* for a submodel if its predictions on both views are of the same
    class and one of them is more confident than `threshold`. The student is
    regularized towards the teacher on samples that are stable for the teacher and not
    for the student, or stable for both but with the larger difference between the two
    views for the student. It learns pseudo-negative labels of all other samples.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the mean squared difference between a submodel's probabilities on the
        strong and on the weak view.
    stabilization_weight : float, default=100.0
        Weight of the mean squared difference to the teacher's probabilities, on the
        samples named above.
    threshold : float, default=0.8
        Probability that one of the two predictions has to exceed.
    rampup : float, default=0.05
        Fraction of the training, from 0 to 1, in which the weights rise.

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
    needs_ema: bool = False
    capturable: ClassVar[bool] = True

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

    def targets(
        self,
        student: Predictor,
        teacher: Predictor,
        weak: Tensor,
        strong: Tensor,
        teacher_weak: Tensor,
    ) -> ConsistencyTargets:
        """Return the targets of the student on a batch of unlabeled samples.

        Inputs and output are those of
        :meth:`pnl_sklearn.objectives.Consistency.targets`.
        """
        own = student.probabilities(weak), student.probabilities(strong)
        other = teacher_weak, teacher.probabilities(strong)
        follows = self.follows(own, other)
        weights = torch.stack(
            [
                torch.full_like(follows, self.consistency_weight, dtype=torch.float32),
                self.stabilization_weight * follows.float(),
            ]
        )
        probabilities = torch.stack([own[0], teacher_weak])
        return ConsistencyTargets(probabilities, weights, ~follows)

    def follows(
        self, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Tell on which samples a student is regularized towards its teacher.

        Parameters
        ----------
        own, other : pair of Tensors of shape (n_samples, n_classes)
            Probabilities of the student, and of the teacher, on the two views.

        Returns
        -------
        follows : bool Tensor of shape (n_samples,)
        """
        own_stable, other_stable = self._is_stable(*own), self._is_stable(*other)
        differs_more = _squared_distance(*own) > _squared_distance(*other)
        return other_stable & (~own_stable | differs_more)

    def _is_stable(self, first: Tensor, second: Tensor) -> Tensor:
        first_top, second_top = first.max(dim=1), second.max(dim=1)
        confidence = torch.maximum(first_top.values, second_top.values)
        return (first_top.indices == second_top.indices) & (confidence > self.threshold)


def _squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distance of two predictions, of shape (n_samples,)."""
    return (first - second).square().sum(dim=1)


CONSISTENCIES: dict[str, type[BaseEstimator]] = {
    "mean_teacher": MeanTeacher,
    "dual_student": DualStudent,
}
