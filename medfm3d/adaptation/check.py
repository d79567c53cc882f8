"""The check that any adaptation method must pass."""

import copy

import torch

from medfm3d.adaptation.adapter import AdaptableNetwork, Adapter


def check_adapter(method: Adapter, network: AdaptableNetwork, window: torch.Tensor) -> None:
    """Check an adaptation method against its contract by real training steps.

    It checks: the feature adapter keeps shapes; groups hold weights of the network, each once, with positive rates;
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


def _train(module: torch.nn.Module, inputs: torch.Tensor, groups: list[dict], steps: int = 8) -> list[float]:
    optimizer = torch.optim.AdamW(groups)
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
