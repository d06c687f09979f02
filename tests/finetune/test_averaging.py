"""Averages of weights, against sums written out; what BatchNorm's statistics become; and a break in between."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from matpac.errors import MatpacError
from matpac.files.checkpoint import read_tensors, write_tensors
from matpac.finetune.averaging import Averaging, ema_decay, swa_is_due
from matpac.finetune.recipes import AveragingConfig
from matpac.model.vit import Encoder, EncoderConfig

EMA = AveragingConfig("ema", decay=0.9)
SWA = AveragingConfig("swa", start_epoch=3, every_epochs=2)


class Net(nn.Module):
    """Parameters, a fixed table, and BatchNorm with its statistics and its counter."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.register_buffer("table", torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x * self.table))


def network(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def step(net: Net, number: int) -> None:
    """As training does it: weights move, statistics run."""
    generator = torch.Generator().manual_seed(number)
    net(torch.randn(8, 3, generator=generator) * (1 + number))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def run(
    config: AveragingConfig, steps: int, steps_per_epoch: int = 2
) -> tuple[Averaging, list[dict[str, Tensor]]]:
    """The averaging after a run, and the network after each step."""
    net = network()
    averaging = Averaging(net, config)
    states = []
    for number in range(1, steps + 1):
        step(net, number)
        averaging.update(net, number, steps_per_epoch)
        states.append(snapshot(net))
    return averaging, states


def test_the_decay_of_ema_ramps_up() -> None:
    assert [round(ema_decay(n, 0.99), 4) for n in (0, 1, 8, 89, 900, 10**6)] == [
        0.1,
        0.1818,
        0.5,
        0.9091,
        0.99,
        0.99,
    ]
    assert ema_decay(10**6, 0.0) == 0.0


def test_epochs_of_swa() -> None:
    """From epoch 50, every 5 (PaSST)."""
    due = [epoch for epoch in range(131) if swa_is_due(epoch, 50, 5)]
    assert due == list(range(50, 131, 5))
    assert not swa_is_due(0, 1, 1)


@settings(deadline=None, max_examples=15)
@given(steps=st.integers(1, 40), decay=st.sampled_from([0.0, 0.5, 0.9, 0.999]))
def test_ema_is_its_recursion(steps: int, decay: float) -> None:
    averaging, states = run(AveragingConfig("ema", decay=decay), steps)
    assert averaging.updates == steps
    expected = {name: value.double() for name, value in states[0].items()}
    for count, state in enumerate(states[1:], start=1):
        kept = min(decay, (1 + count) / (10 + count))
        expected = {name: kept * expected[name] + (1 - kept) * value for name, value in state.items()}
    found = averaging.network(network(1)).state_dict()
    for name in ("linear.weight", "linear.bias", "norm.running_mean", "norm.running_var"):
        torch.testing.assert_close(found[name], expected[name].float(), rtol=1e-4, atol=1e-5)


def test_swa_is_the_mean_of_the_chosen_epochs() -> None:
    averaging, states = run(SWA, steps=14, steps_per_epoch=2)
    chosen = [states[5], states[9], states[13]]  # the ends of epochs 3, 5 and 7
    assert averaging.updates == 3
    found = averaging.network(network(1)).state_dict()
    for name in ("linear.weight", "linear.bias", "norm.running_mean", "norm.running_var"):
        torch.testing.assert_close(found[name], torch.stack([state[name] for state in chosen]).mean(dim=0))


@pytest.mark.parametrize("config", [EMA, SWA], ids=["ema", "swa"])
def test_counters_are_the_newest_and_tables_stay(config: AveragingConfig) -> None:
    averaging, states = run(config, steps=14)
    found = averaging.network(network(1)).state_dict()
    assert found["norm.num_batches_tracked"].dtype == torch.int64
    assert found["norm.num_batches_tracked"] == states[-1]["norm.num_batches_tracked"] == 14
    assert torch.equal(found["table"], states[0]["table"])


def test_before_the_first_and_without_averaging_it_is_the_network_itself() -> None:
    net = network()
    off = Averaging(net, AveragingConfig())
    off.update(net, 1, 1)
    assert not off.active
    assert off.network(net) is net
    assert off.state_dict() == {}
    off.load_state_dict({})
    averaging, _ = run(SWA, steps=5)
    assert averaging.active
    assert averaging.updates == 0
    assert averaging.network(net) is net


def test_the_average_neither_learns_nor_changes_the_network() -> None:
    net = network()
    averaging = Averaging(net, EMA)
    for number in (1, 2, 3):
        step(net, number)
        before = snapshot(net)
        averaging.update(net, number, 2)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    averaged = averaging.network(net)
    assert averaged is not net
    assert not averaged.training
    assert net.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    shared = {value.data_ptr() for value in net.state_dict().values()}
    assert not shared & {value.data_ptr() for value in averaged.state_dict().values()}


@pytest.mark.parametrize("config", [EMA, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("stop", [1, 7, 10])
def test_a_resumed_average_is_an_unbroken_ones(config: AveragingConfig, stop: int, tmp_path: Path) -> None:
    unbroken, states = run(config, steps=14)
    before, _ = run(config, steps=stop)
    write_tensors(tmp_path / "average.safetensors", before.state_dict(), {})
    net = network()
    resumed = Averaging(net, config)
    resumed.load_state_dict(read_tensors(tmp_path / "average.safetensors")[0])
    assert resumed.updates == before.updates
    for number in range(stop + 1, 15):
        net.load_state_dict(states[number - 1])
        resumed.update(net, number, 2)
    expected = unbroken.state_dict()
    assert expected.keys() == resumed.state_dict().keys()
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_what_does_not_fit_is_refused() -> None:
    averaging, _ = run(EMA, steps=2)
    state = averaging.state_dict()
    for wrong in ({}, {**state, "module.linear.bias": torch.zeros(5)}, {**state, "module.more": torch.zeros(1)}):
        with pytest.raises(
            MatpacError, match=r"do not fit this run \(\d+ tensors, first .*\); go on with the recipe"
        ):
            averaging.load_state_dict(wrong)
    with pytest.raises(MatpacError, match="do not fit this run"):
        Averaging(network(), AveragingConfig()).load_state_dict(state)


def test_an_encoders_fixed_positions_stay_what_they_are() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2, mels=16, frames=32))
    averaging = Averaging(encoder, EMA)
    for number in (1, 2, 3):
        with torch.no_grad():
            encoder.cls_token.add_(1.0)
        averaging.update(encoder, number, 2)
    averaged = averaging.network(encoder)
    assert torch.equal(averaged.positions, encoder.positions)
    assert not torch.equal(averaged.cls_token, encoder.cls_token)
