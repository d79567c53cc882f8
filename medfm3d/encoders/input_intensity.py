"""Intensities on the scale that imported weights were trained on."""

from dataclasses import asdict, dataclass

from torch import Tensor, nn

from medfm3d.encoders.encoder import Encoder


@dataclass(frozen=True)
class InputIntensity:
    """From the scale of `medfm3d.volumes.IntensityNormalized` to another: y = clamp(scale * x + shift, low, high).

    Attributes:
        scale: factor.
        shift: summand.
        low: least value.
        high: largest value.
    """

    scale: float = 1.0
    shift: float = 0.0
    low: float = float("-inf")
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.low < self.high:
            raise ValueError(f"input intensity: the scale must be positive and low below high, got {self}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return intensities on the other scale."""
        return (x * self.scale + self.shift).clamp(self.low, self.high)

    def to_json(self) -> dict[str, float]:
        """Return the numbers that are not the defaults, as plain JSON values."""
        defaults = asdict(InputIntensity())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}


class RescaledEncoder(Encoder):
    """An encoder behind a fixed change of scale, so that preprocessing need not know where its weights come from.

    Args:
        encoder: the encoder.
        intensity: the change of scale.
    """

    def __init__(self, encoder: Encoder, intensity: InputIntensity) -> None:
        super().__init__()
        self.encoder = encoder
        self.intensity = intensity
        for name in ("in_channels", "strides", "channels", "patch_size", "embed_dim", "token_dim"):
            setattr(self, name, getattr(encoder, name))
        self.supports_visible = encoder.supports_visible

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the encoder's pyramid; see `Encoder.forward`."""
        return self.encoder(self.intensity(x))

    def forward_visible(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the encoder's visible tokens; see `Encoder.forward_visible`."""
        return self.encoder.forward_visible(self.intensity(x), mask)

    def visible_pyramid(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the encoder's maps of visible units; see `Encoder.visible_pyramid`."""
        return self.encoder.visible_pyramid(self.intensity(x), mask)

    def forward_masked(self, x: Tensor, mask: Tensor, token: Tensor) -> list[Tensor]:
        """Return the encoder's maps with mask tokens; see `Encoder.forward_masked`."""
        return self.encoder.forward_masked(self.intensity(x), mask, token)

    def transformer_blocks(self) -> list[nn.Module]:
        """Return the encoder's blocks; see `Encoder.transformer_blocks`."""
        return self.encoder.transformer_blocks()

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the encoder's layers; see `Encoder.layers`."""
        return self.encoder.layers()

    def insert_prompts(self, count: int, *, deep: bool) -> None:
        """Put prompts into the encoder; see `Encoder.insert_prompts`."""
        self.encoder.insert_prompts(count, deep=deep)
