"""Features on their way to heads: standardised as scikit-learn does, padding ignored, bad ones named."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from matpac.probe.inputs import Inputs, Scaler


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_scaler_is_scikit_learns_of_the_training_tokens(dtype, tokens, layers):
    random = np.random.default_rng(0)
    values = random.normal(size=(50, layers, tokens, 6)) * 10.0 ** np.arange(-2, 4) + 5
    values[..., 2] = 0.1  # constant: divided by 1, whatever float rounding makes of its deviation
    lengths = random.integers(1, tokens + 1, 50)
    behind = np.arange(tokens) >= lengths[:, None]
    values = np.where(behind[:, None, :, None], np.nan, values).astype(dtype)
    inputs = Inputs(values, lengths, bytes_at_once=7 * 4 * layers * tokens * 6)  # blocks of seven clips
    train, index = np.arange(10, 40), [3, 12, 49]
    scaler = inputs.fit(torch.from_numpy(train))
    assert (scaler.scale[:, 2] == 1.0).all()
    batch = inputs.batch(torch.tensor([index]), Scaler(scaler.mean[None], scaler.scale[None]))
    for layer in range(layers):
        exact = [values[row, layer, : lengths[row]].astype(np.float64) for row in range(50)]
        oracle = StandardScaler().fit(np.concatenate([exact[row] for row in train]))
        for place, row in enumerate(index):
            found = batch.values[0, layer, place]
            wanted = np.asarray(oracle.transform(exact[row]))
            np.testing.assert_allclose(found[: lengths[row]], wanted, rtol=1e-4, atol=1e-4)
            assert (found[lengths[row] :] == 0).all()
            present = np.arange(len(found)) < lengths[row]
            assert batch.present is None or batch.present[0, place].tolist() == present.tolist()


@pytest.mark.parametrize(
    ("values", "lengths", "named"),
    [
        (np.zeros((3, 1, 4), np.float32), None, r"\[3, 1, 4\]"),
        (np.zeros((3, 1, 0, 4), np.float32), None, r"\[3, 1, 0, 4\]"),
        (np.zeros((3, 1, 2, 4)), None, "float64"),
        (np.zeros((3, 1, 2, 4), np.float32), np.zeros(3, int), "from 1 to 2"),
        (np.zeros((3, 1, 2, 4), np.float32), np.ones(2, int), r"\[2\]"),
        (
            np.array([0, 0, np.nan, 0, 0, np.inf], np.float32).reshape(3, 2, 1, 1),
            None,
            "2 of 3 .* clip 1, layer 0",
        ),
    ],
)
def test_bad_features_are_named(values, lengths, named):
    with pytest.raises(ValueError, match=named):
        Inputs(values, lengths)
