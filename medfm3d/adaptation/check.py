"""The check that any adaptation method must pass."""

import copy

import torch

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter
from medfm3d.adaptation.insertion import insert_into, inserted_parameters
from medfm3d.adaptation.muon import MuonAdamW
from medfm3d.encoders import Encoder


def check_adapter(method: Adapter, network: AdaptableNetwork, window: torch.Tensor) -> None:
    """Check an adaptation method against its contract by real training steps.

    It checks: what was inserted into the encoder is trained and, where the method says so, nothing of the encoder's own
    is; the feature adapter keeps shapes; groups hold weights of the network, each once, with positive rates;
    after `freeze` exactly those weights receive gradients; steps change all trained weights and no other; a method
    that caches features leaves the features as they were; the loss falls.

    Args:
        method: the method.
        network: a segmenter constructed with that method.
        window: (B, C, D, H, W) input.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    with torch.no_grad():
        features = network.features(window)
        adapted = network.adapter(features)
    assert adapted.shape == features.shape, f"{method.name}: the feature adapter must keep the shape"

    groups = method.parameter_groups(network)
    trained = [p for group in groups for p in group["params"]]
    ids = {id(p) for p in trained}
    own = {id(p) for p in network.parameters()}
    assert trained and len(ids) == len(trained) and ids <= own, f"{method.name}: groups must hold weights, each once"
    assert all(group["lr"] > 0 for group in groups), f"{method.name}: learning rates must be positive"

    inserted = {id(p) for p in inserted_parameters(network)}
    assert inserted <= ids, f"{method.name}: what is inserted must be trained"
    if method.keeps_encoder:
        encoder = {id(p) for p in network.encoder.parameters()}
        assert not (ids & encoder) - inserted, f"{method.name}: must not train the encoder's own weights"
    refined = {id(p) for p in method.refined_parameters(network)}
    assert refined and refined <= own, f"{method.name}: refined weights must be some of the network's"

    method.freeze(network)
    flowing = {id(p) for p in network.parameters() if p.requires_grad}
    assert flowing == ids, f"{method.name}: after freeze exactly the trained weights must take gradients"
    before = copy.deepcopy(list(network.parameters()))
    module = method.trained_module(network)
    inputs = features if method.caches_features else window
    losses = _train(module, inputs, groups)
    assert losses[-1] < losses[0], f"{method.name}: the loss must fall, went {losses[0]:.4f} -> {losses[-1]:.4f}"
    for old, p in zip(before, network.parameters(), strict=True):
        changed = not torch.equal(old, p)
        assert changed == (id(p) in ids), f"{method.name}: exactly the trained weights must change"
    if method.caches_features:
        with torch.no_grad():
            assert torch.equal(network.features(window), features), f"{method.name}: cached features must stay valid"


def check_insertion(method: Adapter, encoder: Encoder, window: torch.Tensor, *, tolerance: float = 1e-5) -> None:
    """Check what a method inserts into an encoder against its contract.

    It checks: the encoder's own tensors are all there, under names that are told and with their values; where the
    method says so, the features are as before, also after other weights were loaded under these names; a second
    encoder with the same insertion takes the state dict, and a deep copy computes the same by its own weights.

    Args:
        method: the method.
        encoder: a plain encoder; it is not changed.
        window: (B, C, D, H, W) input.
        tolerance: of features that shall be equal.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    plain = copy.deepcopy(encoder).eval()
    changed = copy.deepcopy(plain)
    names = insert_into(changed, method)
    state, changed_state = plain.state_dict(), changed.state_dict()
    assert names.keys() == state.keys() and set(names.values()) <= changed_state.keys(), f"{method.name}: lost tensors"
    assert all(torch.equal(state[a], changed_state[b]) for a, b in names.items()), f"{method.name}: changed weights"

    def same(one: Encoder, other: Encoder) -> bool:
        with torch.no_grad():
            return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(one(window), other(window), strict=True))

    if method.starts_as_identity:
        assert same(plain, changed), f"{method.name}: must start as the encoder was"
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator) * (p.std(correction=0) + 0.1))
    changed.load_state_dict(changed_state | {names[key]: value for key, value in plain.state_dict().items()})
    method.encoder_loaded(changed)
    if method.starts_as_identity:
        assert same(plain, changed), f"{method.name}: must start as the encoder whose weights were loaded"

    again = copy.deepcopy(encoder).eval()
    insert_into(again, method)
    again.load_state_dict(changed.state_dict())
    copied = copy.deepcopy(changed)
    assert same(changed, again), f"{method.name}: the state dict must hold all that the features depend on"
    with torch.no_grad():
        for p in changed.parameters():
            p.zero_()
    assert same(copied, again), f"{method.name}: a deep copy must not share weights"


def _train(module: torch.nn.Module, inputs: torch.Tensor, groups: list[dict], steps: int = 8) -> list[float]:
    optimizer = MuonAdamW(groups)
    with torch.no_grad():
        # A target that features can explain: which voxels the untrained network ranks high.
        logits = module(inputs)
        target = (logits[:, 1] > logits[:, 1].median()).long()
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(module(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
