import numpy as np
import torch

from pnl_sklearn.networks import Standardized


def test_standardized_matches_numpy():
    x = np.random.default_rng(0).normal(5, 3, size=(50, 4)).astype(np.float32)
    shift, scale = torch.tensor(x.mean(axis=0)), torch.tensor(1 / x.std(axis=0))
    z = Standardized(torch.nn.Identity(), shift, scale)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(z, (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4)
