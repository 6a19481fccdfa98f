"""Consistency regularization: Mean Teacher, Dual Student."""

from numbers import Real
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from torch import Tensor


class ConsistencyTargets(NamedTuple):
    """Targets of the consistency loss on a batch of unlabeled samples.

    The loss is :func:`~pnl_sklearn.objectives.consistency_loss`.

    Parameters
    ----------
    probabilities : float Tensor of shape (n_terms, n_samples, n_classes)
        Target probabilities of each term of the loss.
    weights : float Tensor of shape (n_terms, n_samples)
        Weight of each sample in each term.
    use_negatives : bool Tensor of shape (n_samples,)
        True for samples whose pseudo-negative labels are learned, too.
    """

    probabilities: Tensor
    weights: Tensor
    use_negatives: Tensor


class Predictor(Protocol):
    """Interface of a submodel in a consistency loss. No gradients are computed."""

    def probabilities(self, x: Tensor) -> Tensor:
        """Predict with the current weights, in training mode.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, in the units of X.

        Returns
        -------
        probabilities : float32 Tensor of shape (n_samples, n_classes)
            Class probabilities.
        """

    def ema_probabilities(self, x: Tensor) -> Tensor:
        """Predict with the EMA of the weights, in evaluation mode.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, in the units of X.

        Returns
        -------
        probabilities : float32 Tensor of shape (n_samples, n_classes)
            Class probabilities.
        """


@runtime_checkable
class Consistency(Protocol):
    """Interface of a consistency regularization.

    The loss is :func:`~pnl_sklearn.objectives.consistency_loss` of the targets and of
    the student's predictions on the strong view.

    A class may declare ``capturable = True`` if it does the same operations on every
    batch. A training step with it can then be captured as a CUDA graph.

    Attributes
    ----------
    rampup : float
        Fraction of the training, from 0 to 1, in which the weight of the loss
        increases.
    needs_ema : bool
        Whether ``ema_probabilities`` of the submodels is called.
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

        Parameters
        ----------
        student, teacher : Predictor
            The two submodels.
        weak, strong : float32 Tensor of shape (n_samples, ...)
            Weak and strong view of the batch.
        teacher_weak : float32 Tensor of shape (n_samples, n_classes)
            Probabilities of the teacher on the weak view, without the graph posterior.

        Returns
        -------
        targets : ConsistencyTargets
            Target probabilities and weights.
        """


class MeanTeacher(BaseEstimator):
    """Consistency of each student with the EMA of its own weights.

    The EMA predicts on the weak view of the unlabeled samples, the student on the
    strong view. The loss is the mean squared difference between their probabilities.
    Pseudo-negative labels are those of the teacher, as without this loss.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the loss after its ramp-up.
    rampup : float, default=0.05
        Fraction of the training, from 0 to 1, in which the weight increases.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017.

    Examples
    --------
    >>> from pnl_sklearn import MeanTeacher, PNLClassifier
    >>> PNLClassifier(consistency=MeanTeacher(consistency_weight=5.0))
    PNLClassifier(consistency=MeanTeacher(consistency_weight=5.0))
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

        Parameters and return value are those of
        :meth:`pnl_sklearn.objectives.Consistency.targets`.
        """
        probabilities = student.ema_probabilities(weak)
        ones = torch.ones(len(weak), device=weak.device)
        weights = self.consistency_weight * ones
        return ConsistencyTargets(probabilities[None], weights[None], ones.bool())


class DualStudent(BaseEstimator):
    """Consistency of each student with itself, and with a more stable teacher.

    The *consistency term* is the mean squared difference between the student's
    probabilities on the strong and on the weak view.

    A sample is *stable* for a submodel if its predictions on both views are of the same
    class, and if one of their probabilities is larger than `threshold`. The teacher is
    *more stable* on a sample in two cases: if the sample is stable for the teacher
    only, or if it is stable for both and the teacher's predictions on the two views
    differ less. On these samples, the *stabilization term* is the mean squared
    difference between the student's and the teacher's probabilities. Pseudo-negative
    labels are learned on all other samples.

    Parameters
    ----------
    consistency_weight : float, default=10.0
        Weight of the consistency term after the ramp-up.
    stabilization_weight : float, default=100.0
        Weight of the stabilization term after the ramp-up.
    threshold : float, default=0.8
        Threshold of the probabilities of stable samples, from 0 to 1.
    rampup : float, default=0.05
        Fraction of the training, from 0 to 1, in which the weights increase.

    References
    ----------
    Z. Ke, D. Wang, Q. Yan, J. Ren and R. Lau, "Dual Student: Breaking the Limits of the
    Teacher in Semi-Supervised Learning", ICCV 2019. The default weights are those of
    the public script of H. Xu et al., Knowledge-Based Systems 260, 2023.

    Examples
    --------
    >>> from pnl_sklearn import DualStudent, PNLClassifier
    >>> PNLClassifier(consistency=DualStudent(threshold=0.9))
    PNLClassifier(consistency=DualStudent(threshold=0.9))
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

        Parameters and return value are those of
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
        """Return on which samples the student is regularized towards the teacher.

        Parameters
        ----------
        own, other : pair of Tensors of shape (n_samples, n_classes)
            Probabilities on both views, of the student (`own`) and of the teacher
            (`other`).

        Returns
        -------
        follows : bool Tensor of shape (n_samples,)
            True for samples on which the teacher is more stable.
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
