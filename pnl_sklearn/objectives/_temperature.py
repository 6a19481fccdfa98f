"""Temperature scaling towards an expected accuracy."""

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from torch import Tensor

from ..utils._distributed import SINGLE_PROCESS, Processes


class TeacherTemperature:
    """Temperature that keeps the mean confidence of the teachers at a target.

    Probabilities p become p^(1/T), normalized [1]_. The confidence of a sample is its
    largest probability. The mean confidence of calibrated predictions is their
    accuracy. So log T increases while the mean confidence is above the expected
    accuracy, and decreases while it is below (stochastic approximation [2]_). T is at
    least 1, since predictions are not made more confident, and at most 20 = e^3.

    Parameters
    ----------
    target : float or None
        Expected accuracy. None leaves predictions unchanged.
    device : str
    processes : Processes, default=SINGLE_PROCESS
        Processes over which confidences are averaged.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern
       Neural Networks", ICML 2017.
    .. [2] H. Robbins and S. Monro, "A Stochastic Approximation Method", Annals of
       Mathematical Statistics 22, 1951.
    """

    step_size = 0.1

    def __init__(
        self,
        target: float | None,
        device: str,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.target = target
        self.processes = processes
        self.log_temperature = torch.zeros((), device=device)

    def __call__(self, predictions: list[Tensor]) -> list[Tensor]:
        """Scale the predictions of each teacher, and update the temperature.

        Parameters
        ----------
        predictions : list of Tensor of shape (n_samples, n_classes)
            Probabilities of the same samples.
        """
        if self.target is None or not len(predictions[0]):
            return predictions
        inverse = (-self.log_temperature).exp()
        scaled = [
            (inverse * p.clamp_min(1e-9).log()).softmax(dim=1) for p in predictions
        ]
        confidence = torch.stack([p.amax(dim=1).mean() for p in scaled]).mean()
        excess = self.processes.mean(confidence) - self.target
        self.log_temperature.add_(self.step_size * excess).clamp_(0.0, 3.0)
        return scaled

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        return {"log_temperature": self.log_temperature.to("cpu", copy=True)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load a state."""
        self.log_temperature.copy_(state["log_temperature"])


def fit_temperature(log_probabilities: np.ndarray, confidence: float) -> float:
    """Return the temperature with which the mean confidence is a given one.

    Parameters
    ----------
    log_probabilities : float array of shape (n_samples, n_classes)
    confidence : float
        Expected accuracy.

    Returns
    -------
    temperature : float
        From 1 to 100. It is 1 if the mean confidence is not above `confidence`.
    """

    def excess(log_temperature: float) -> float:
        scaled = log_probabilities / np.exp(log_temperature)
        largest = softmax(scaled, axis=1).max(axis=1)
        return float(largest.mean()) - confidence

    low, high = 0.0, np.log(100)
    if excess(low) <= 0:
        return 1.0
    if excess(high) >= 0:
        return 100.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-4)))
