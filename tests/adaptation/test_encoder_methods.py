"""What methods insert into the encoder survives whatever happens to a network, and can be taken out again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from ignite.handlers import EMAHandler
from torch import nn

from medfm3d.adaptation import ADAPTERS, Adapter, EMAWeights, check_insertion, create_adapter, insert_into
from medfm3d.encoders import Encoder, WeightsError, create_encoder, load_weights, save_encoder, save_weights
from medfm3d.segmentation import Segmenter, load_pretrained

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4, "out_layers": (0, 1)}
INSERTING = ("prompt-tuning", "adaptformer", "lora", "dora")
Build = Callable[..., Segmenter]


def tiny_encoder(**arguments: object) -> Encoder:
    torch.manual_seed(0)
    return create_encoder("vit_tiny", **{**TINY, **arguments})


class ConvEncoder(Encoder):
    """An encoder without transformer blocks."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.in_channels, self.embed_dim, self.patch_size = 1, 4, (8, 8, 8)
        self.strides, self.channels = (8,), (4,)
        self.conv = nn.Conv3d(1, 4, 8, stride=8, bias=bias)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(x)]

    def forward_visible(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("encoder", [{}, {"absolute_window": (16, 16, 16), "register_tokens": 0}], ids=["rope", "abs"])
def test_every_insertion_keeps_the_contract(name: str, encoder: dict) -> None:
    check_insertion(create_adapter(name), tiny_encoder(**encoder), torch.randn(1, 1, 16, 24, 16))


def test_the_check_finds_insertions_that_break_their_word() -> None:
    class Scales(Adapter):
        name = "scales"

        def parameter_groups(self, network: object) -> list:
            return []

        def insert(self, encoder: Encoder) -> None:
            mlp = encoder.eva.blocks[0].mlp
            encoder.eva.blocks[0].mlp = nn.Sequential(mlp, nn.Linear(48, 48))

    class Replaces(Scales):
        def insert(self, encoder: Encoder) -> None:
            encoder.eva.norm = nn.LayerNorm(48)

    class ForgetsToLoad(type(create_adapter("dora"))):
        def encoder_loaded(self, encoder: Encoder) -> None:
            pass

    x = torch.randn(1, 1, 16, 16, 16)
    with pytest.raises(AssertionError, match="as the encoder was"):
        check_insertion(Scales(), tiny_encoder(), x)
    with pytest.raises(ValueError, match="replaces weights"):
        check_insertion(Replaces(), tiny_encoder(), x)
    with pytest.raises(AssertionError, match="weights were loaded"):
        check_insertion(ForgetsToLoad(), tiny_encoder(), x)


@pytest.mark.parametrize("name", INSERTING)
def test_trained_insertions_survive_a_file_and_a_trace(
    name: str, tiny_segmenter: Build, perturb: Callable, tmp_path: Path
) -> None:
    trained = perturb(tiny_segmenter(name))
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    built = tiny_segmenter(name, seed=5)
    built.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        logits = trained(x)
        assert torch.equal(built(x), logits)
        traced = torch.jit.trace(trained, x, check_trace=False)
        torch.jit.save(traced, str(tmp_path / "model.ts"))
        torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.ts"))(x), logits, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(tiny_segmenter("decoder")(x), logits, atol=1e-2)


@pytest.mark.parametrize("name", INSERTING)
def test_pretrained_weights_load_strictly_under_an_insertion(
    name: str, tiny_segmenter: Build, perturb: Callable, tmp_path: Path
) -> None:
    pretrained = perturb(tiny_encoder()).eval()
    file = save_encoder(pretrained, tmp_path / "encoder.safetensors", name="vit_tiny", arguments=TINY)
    segmenter = load_pretrained(tiny_segmenter(name, seed=3), file)
    state = segmenter.encoder.state_dict()
    for key, value in pretrained.state_dict().items():
        assert torch.equal(state[segmenter.encoder_names[key]], value), key
    if segmenter.method.starts_as_identity:
        x = torch.randn(1, 1, 16, 16, 16)
        for ours, theirs in zip(segmenter.encoder(x), pretrained(x), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    trained = {name for name, p in segmenter.named_parameters() if p.requires_grad and name.startswith("encoder.")}
    own = {f"encoder.{place}" for place in segmenter.encoder_names.values()}
    assert trained and not trained & own

    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eva = nn.ModuleDict({"norm": nn.LayerNorm(48)})

    cut = save_weights(Partial(), tmp_path / "cut.safetensors", architecture="vit_tiny")
    with pytest.raises(WeightsError, match="down_projection"):
        load_weights(segmenter.encoder, cut, names=segmenter.encoder_names)


@pytest.mark.parametrize(("name", "arguments"), [("lora", {"rank": 2}), ("lora", {"parts": ["attn"]}), ("dora", {})])
def test_low_rank_methods_merge_into_a_plain_encoder(
    name: str, arguments: dict, tiny_segmenter: Build, perturb: Callable
) -> None:
    trained = perturb(tiny_segmenter(name, **arguments))
    plain = trained.merged()
    assert plain.encoder.state_dict().keys() == tiny_encoder().state_dict().keys()
    other = tiny_segmenter("decoder")
    other.load_state_dict(plain.state_dict())
    x = torch.randn(1, 1, 16, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(other(x), trained(x), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(trained(x), tiny_segmenter("decoder")(x), atol=1e-2)
    assert any("lora_A" in key for key in trained.state_dict())  # the segmenter itself is left as it was
    with pytest.raises(ValueError, match="prompt-tuning has nothing that could be merged"):
        tiny_segmenter("prompt-tuning").merged()


def test_low_rank_layers_are_those_that_were_asked_for(tiny_segmenter: Build) -> None:
    def wrapped(**arguments: object) -> set[str]:
        keys = tiny_segmenter("lora", **arguments).encoder.state_dict()
        return {key.split(".lora_A")[0].split(".", 3)[3] for key in keys if "lora_A" in key}

    attention = {f"attn.{layer}" for layer in ("q_proj", "k_proj", "v_proj", "proj")}
    mlp = {f"mlp.{layer}" for layer in ("fc1_g", "fc1_x", "fc2")}
    assert wrapped() == attention | mlp
    assert wrapped(parts=["attn"]) == attention and wrapped(parts="mlp") == mlp
    assert wrapped(parts="attn+mlp") == wrapped()
    with pytest.raises(ValueError, match="parts must be of attn, mlp"):
        create_adapter("lora", parts="attention")
    layer = tiny_segmenter("lora", rank=3, alpha=6).encoder.eva.blocks[0].attn.q_proj
    assert layer.lora_A["default"].weight.shape == (3, 48) and layer.scaling["default"] == 2


@pytest.mark.parametrize("deep", [True, False])
def test_prompts_are_attended_to_and_leave_no_trace_in_shape(deep: bool) -> None:
    encoder, plain = tiny_encoder().eval(), tiny_encoder().eval()
    encoder.insert_prompts(5, deep=deep)
    assert encoder.prompts.shape == (2 if deep else 1, 5, 48)
    x = torch.randn(1, 1, 16, 16, 16)
    lengths: list[int] = []
    encoder.eva.blocks[1].register_forward_hook(lambda block, inputs, output: lengths.append(output.shape[1]))
    with torch.no_grad():
        before, ours = plain(x), encoder(x)
        assert [m.shape for m in ours] == [m.shape for m in before] and not torch.allclose(ours[1], before[1])
        assert lengths == [4 + 5 + 8]
        encoder.prompts[-1] += torch.randn(5, 48)
        again = encoder(x)
    # What stands in front of the last block reaches the last map, and the first map only where it is the first, too.
    assert not torch.allclose(again[1], ours[1]) and torch.equal(again[0], ours[0]) == deep
    with pytest.raises(ValueError, match="already"):
        encoder.insert_prompts(5, deep=deep)


def test_the_average_of_weights_is_that_of_ignite_and_holds_what_was_inserted(tiny_segmenter: Build) -> None:
    network = tiny_segmenter("dora")
    network.method.freeze(network)
    drawn = torch.Generator().manual_seed(0)

    def step(engine: Engine, batch: int) -> None:
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn(p.shape, generator=drawn) if p.requires_grad else 1.0)

    engine = Engine(step)
    peer = EMAHandler(network, momentum=0.01, momentum_warmup=0.2, warmup_iters=100)
    peer.attach(engine)
    EMAWeights(network, momentum=0.01, warmup_iters=100).attach(engine)
    engine.run(range(150))
    averages = dict(peer.ema_model.named_parameters())
    before = dict(tiny_segmenter("dora").named_parameters())
    assert averages.keys() == before.keys()
    for name, p in network.named_parameters():
        expected = averages[name] if p.requires_grad else before[name] + 150.0
        torch.testing.assert_close(p, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*INSERTING, "last-blocks", "bias", "full"])
def test_methods_refuse_encoders_that_they_do_not_apply_to(name: str) -> None:
    with pytest.raises(ValueError, match=r"ConvEncoder.*(choose|set)"):
        method = create_adapter(name)
        encoder = ConvEncoder()
        insert_into(encoder, method)
        method.encoder_groups(type("Network", (), {"encoder": encoder, "encoder_names": {}}))
    insert_into(ConvEncoder(bias=True), create_adapter("bias"))


def test_layers_behind_learn_faster(tiny_segmenter: Build) -> None:
    network = tiny_segmenter("full", encoder_learning_rate=1e-3, decay_per_layer=0.5)
    *encoder, behind = network.method.parameter_groups(network)
    assert [group["lr"] for group in encoder] == [0.25e-3, 0.5e-3, 1e-3] and behind["lr"] == 3e-3
    first = {id(p) for p in encoder[0]["params"]}
    assert id(network.encoder.register_tokens) in first and id(network.encoder.down_projection.proj.weight) in first
    assert id(network.encoder.eva.norm.weight) in {id(p) for p in encoder[-1]["params"]}
    last = tiny_segmenter("last-blocks", blocks=1)
    (group, _) = last.method.parameter_groups(last)
    assert {id(p) for p in group["params"]} == {id(p) for p in last.encoder.layers()[-1]}
    for wrong in ({"blocks": 0}, {"blocks": 3}):
        with pytest.raises(ValueError, match="block"):
            tiny_segmenter("last-blocks", **wrong)
    with pytest.raises(ValueError, match="decay_per_layer"):
        broken = tiny_segmenter("full", decay_per_layer=1.5)
        broken.method.parameter_groups(broken)


def test_biases_and_norms_are_all_that_bias_tuning_moves(tiny_segmenter: Build) -> None:
    network = tiny_segmenter("bias")
    network.method.freeze(network)
    moved = {name for name, p in network.encoder.named_parameters() if p.requires_grad}
    assert moved == {name for name, _ in network.encoder.named_parameters() if "norm" in name or name.endswith("bias")}
    assert sum(network.encoder.get_parameter(name).numel() for name in moved) < 0.1 * network.encoder.parameter_count()


@pytest.mark.parametrize("name", [*INSERTING, "last-blocks", "bias", "full"])
def test_the_decoder_may_stay_as_it_was_pretrained(name: str, tiny_segmenter: Build, tmp_path: Path) -> None:
    network = tiny_segmenter(name, train_decoder=False)
    with pytest.raises(WeightsError, match=name):
        load_pretrained(network, None)
    file = save_weights(network.decoder, tmp_path / "decoder.safetensors", architecture="light_decoder")
    load_pretrained(network, None, file)
    assert not any(p.requires_grad for p in network.decoder.parameters())
    assert all(p.requires_grad for p in network.classifier.parameters())
