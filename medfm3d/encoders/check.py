"""The check that any encoder must pass, as scikit-learn's `check_estimator` is for estimators."""

import torch

from medfm3d.encoders.encoder import Encoder


def check_encoder(encoder: Encoder, *, tolerance: float = 1e-5) -> None:
    """Check an encoder against its contract on small random windows.

    It checks: the pyramid's shapes at two windows, one of them with unequal sides; refusal of sides that do not fit;
    that layers hold every weight once; that with nothing hidden `forward_visible` equals `forward`; that hidden voxels
    have no influence on the visible tokens; the same of `forward_masked`, where the encoder has it; that gradients
    reach every weight; that evaluation is deterministic; that a copy of the state gives the same features.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    by_depth = [id(p) for layer in encoder.layers() for p in layer]
    assert sorted(by_depth) == sorted(id(p) for p in encoder.parameters()), "layers must hold every weight, each once"
    was_training = encoder.training
    encoder.eval()
    generator = torch.Generator().manual_seed(0)
    coarsest = max(*encoder.strides, *encoder.patch_size)
    device = next(encoder.parameters()).device

    def window(*units: int) -> torch.Tensor:
        sides = [unit * coarsest for unit in units]
        return torch.randn(2, encoder.in_channels, *sides, generator=generator).to(device)

    assert list(encoder.strides) == sorted(encoder.strides), "strides must be finest first"
    assert len(encoder.strides) == len(encoder.channels), "one number of channels per stride"
    with torch.no_grad():
        for x in (window(2, 2, 2), window(1, 3, 2)):
            _check_pyramid(encoder, x)
        try:
            encoder(window(2, 2, 2)[..., 1:])
        except ValueError:
            pass
        else:
            raise AssertionError("a window that is no multiple of the coarsest stride must be refused")
        x = window(2, 1, 3)
        if encoder.supports_visible:
            _check_visible(encoder, x, generator, tolerance)
        else:
            _check_refusal(encoder, x)
        # The contract lets an encoder refuse it.
        if encoder.supports_visible and type(encoder).forward_masked is not Encoder.forward_masked:
            _check_masked(encoder, x, generator, tolerance)
        assert all(torch.equal(a, b) for a, b in zip(encoder(x), encoder(x), strict=True)), "must be deterministic"
    _check_gradients(encoder, window(2, 2, 2))
    encoder.train(was_training)


def _check_pyramid(encoder: Encoder, x: torch.Tensor) -> None:
    pyramid = encoder(x)
    shapes = [tuple(m.shape) for m in pyramid]
    promised = [
        (x.shape[0], c, *(side // s for side in x.shape[2:]))
        for s, c in zip(encoder.strides, encoder.channels, strict=True)
    ]
    assert shapes == promised, f"pyramid {shapes} is not what strides and channels promise, {promised}"
    assert all(torch.isfinite(m).all() for m in pyramid), "features must be finite"


def _check_visible(encoder: Encoder, x: torch.Tensor, generator: torch.Generator, tolerance: float) -> None:
    units = int(torch.tensor(encoder.unit_grid(x.shape[2:])).prod())
    nothing = torch.zeros(x.shape[0], units, dtype=torch.bool, device=x.device)
    tokens = encoder.forward_visible(x, nothing)
    assert tokens.shape == (x.shape[0], units, encoder.embed_dim), f"all visible: got {tuple(tokens.shape)}"
    # A token of the coarsest map covers one unit, so with nothing hidden both passes must agree there.
    full = encoder(x)[-1].flatten(2).transpose(1, 2)
    if full.shape == tokens.shape:
        assert torch.allclose(full, tokens, atol=tolerance), "with nothing hidden, must equal the ordinary forward"

    hidden = torch.stack([torch.randperm(units, generator=generator) < units // 2 for _ in range(x.shape[0])])
    hidden = hidden.to(x.device)
    before = encoder.forward_visible(x, hidden)
    assert before.shape[1] == units - units // 2, "one token per visible unit"
    after = encoder.forward_visible(torch.where(_voxels(encoder, hidden, x), x + 100.0, x), hidden)
    assert torch.equal(before, after), "hidden voxels must have no influence on the visible tokens"
    uneven = hidden.clone()
    uneven[0] = False
    try:
        encoder.forward_visible(x, uneven)
    except ValueError:
        return
    raise AssertionError("samples that hide different numbers of units must be refused")


def _check_refusal(encoder: Encoder, x: torch.Tensor) -> None:
    units = int(torch.tensor(encoder.unit_grid(x.shape[2:])).prod())
    try:
        encoder.forward_visible(x, torch.zeros(x.shape[0], units, dtype=torch.bool, device=x.device))
    except ValueError as error:
        assert "Encoder" in str(error), "the refusal must name the encoder"
    else:
        raise AssertionError("an encoder that cannot encode visible units alone must refuse to")


def _check_masked(encoder: Encoder, x: torch.Tensor, generator: torch.Generator, tolerance: float) -> None:
    token = torch.randn(encoder.token_dim, generator=generator).to(x.device)
    hidden = torch.zeros(x.shape[0], int(torch.tensor(encoder.unit_grid(x.shape[2:])).prod()), dtype=torch.bool)
    hidden = hidden.to(x.device)
    for same, plain in zip(encoder.forward_masked(x, hidden, token), encoder(x), strict=True):
        assert torch.allclose(same, plain, atol=tolerance), "with nothing hidden, forward_masked must equal forward"
    hidden[0, ::2] = True
    before, after = (
        encoder.forward_masked(torch.where(_voxels(encoder, hidden, x), value, x), hidden, token) for value in (x, 9.0)
    )
    assert all(map(torch.equal, before, after)), "hidden voxels must have no influence behind a mask token"
    other = encoder.forward_masked(x, hidden, token.flip(0))
    assert not torch.allclose(other[-1][0], before[-1][0]), "the mask token must have influence"


def _voxels(encoder: Encoder, mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a (B, 1, D, H, W) mask of the voxels of hidden units."""
    voxels = mask.view(x.shape[0], 1, *encoder.unit_grid(x.shape[2:]))
    for axis, unit in enumerate(encoder.patch_size):
        voxels = voxels.repeat_interleave(unit, dim=axis + 2)
    return voxels


def _check_gradients(encoder: Encoder, x: torch.Tensor) -> None:
    encoder.zero_grad()
    # Random weights on the features: their plain sum has no gradient behind a normalisation.
    sum((m * torch.randn_like(m)).sum() for m in encoder(x)).backward()
    blind = [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    encoder.zero_grad()
    assert not blind, f"no gradient reaches {blind}"
