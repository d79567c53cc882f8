"""One colour per organ, the same in every figure, table and DICOM file."""

from collections.abc import Sequence

# Okabe and Ito's palette, told apart with any colour vision, without its black.
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#f0e442", "#0072b2")


def organ_colours(organs: Sequence[str]) -> dict[str, str]:
    """Return the colour of each organ; from the eighth on they come round again."""
    return {organ: COLOURS[number % len(COLOURS)] for number, organ in enumerate(organs)}
