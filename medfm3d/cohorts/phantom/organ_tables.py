"""What the phantom knows of real patients: organ masses, vessel diameters and CT numbers, each with its source.

Sources:
    [ICRP89] ICRP Publication 89, Basic anatomical and physiological data for use in radiological protection: reference
        values. Ann. ICRP 32 (3-4), 2002. Masses of the reference adult man and woman.
    [Lee13] Lee SH, et al. Measurement of the aortic diameter in the asymptomatic Korean population. J Korean Soc Radiol
        69, 105-112 (2013). doi:10.3348/jksr.2013.69.2.105.
    [PMCT19] Hounsfield unit values of liver pathologies in unenhanced post-mortem computed tomography. Int J Legal Med
        133, 1861-1867 (2019). doi:10.1007/s00414-019-02016-1.

Everything marked "assumed" is an assumption of this project: common radiological experience rounded to a range, with no
publication behind the very number.
"""

from enum import IntEnum
from typing import Literal

PHANTOM_ORGANS: dict[str, int] = {
    "liver": 1,
    "spleen": 2,
    "right_kidney": 3,
    "left_kidney": 4,
    "stomach": 5,
    "pancreas": 6,
    "aorta": 7,
    "vertebrae": 8,
    "bladder": 9,
}

SOFT_TISSUE_DENSITY_G_PER_ML = 1.05  # assumed for all organs; soft tissues of ICRU Report 46 lie near it

# Reference man, reference woman, in grams.
REFERENCE_MASS_G: dict[str, tuple[float, float]] = {
    "liver": (1800, 1400),  # [ICRP89]
    "spleen": (150, 130),  # [ICRP89]
    "right_kidney": (155, 137.5),  # [ICRP89] 310 and 275 g for the pair, halved
    "left_kidney": (155, 137.5),  # [ICRP89]
    "stomach": (150 + 250, 140 + 230),  # [ICRP89] wall and contents
    "pancreas": (140, 120),  # [ICRP89]
    "bladder": (50 + 180, 40 + 180),  # [ICRP89] wall; assumed: 180 g of urine in a patient on the scanner's table
}

VOLUME_SPREAD: dict[str, float] = dict.fromkeys(REFERENCE_MASS_G, 0.12) | {"stomach": 0.2, "bladder": 0.25}  # assumed

AORTA_DIAMETER_MM = {"coeliac": 21.0, "suprarenal": 19.4, "bifurcation": 15.8}  # [Lee13]
AORTA_SPREAD = 0.1  # assumed; [Lee13] gives standard deviations of 15 to 19 % over all ages and both sexes


def reference_volume_ml(organ: str, sex: Literal["male", "female"] | None = None) -> float:
    """Volume of an organ of the reference man, woman, or the mean of both, in millilitres.

    Raises:
        KeyError: for an organ without a reference mass (the aorta and the vertebrae have lengths that the scan cuts).
    """
    male, female = REFERENCE_MASS_G[organ]
    mass_g = {"male": male, "female": female, None: (male + female) / 2}[sex]
    return mass_g / SOFT_TISSUE_DENSITY_G_PER_ML


class Tissue(IntEnum):
    """What a voxel of the phantom is made of: finer than the labels, which leave out what is not asked for."""

    OUTSIDE = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    VISCERAL_FAT = 4
    LUNG = 5
    HEART = 6
    OTHER_BONE = 7
    DISC = 8
    SPINAL_CANAL = 9
    CAVAL_VEIN = 10
    BOWEL = 11
    BOWEL_GAS = 12
    LIVER = 13
    SPLEEN = 14
    RIGHT_CORTEX = 15
    RIGHT_MEDULLA = 16
    LEFT_CORTEX = 17
    LEFT_MEDULLA = 18
    STOMACH_WALL = 19
    STOMACH_CONTENTS = 20
    STOMACH_GAS = 21
    PANCREAS = 22
    AORTA = 23
    CORTICAL_BONE = 24
    TRABECULAR_BONE = 25
    BLADDER_WALL = 26
    URINE = 27


ORGAN_TISSUES: dict[str, tuple[Tissue, ...]] = {
    "liver": (Tissue.LIVER,),
    "spleen": (Tissue.SPLEEN,),
    "right_kidney": (Tissue.RIGHT_CORTEX, Tissue.RIGHT_MEDULLA),
    "left_kidney": (Tissue.LEFT_CORTEX, Tissue.LEFT_MEDULLA),
    "stomach": (Tissue.STOMACH_WALL, Tissue.STOMACH_CONTENTS, Tissue.STOMACH_GAS),
    "pancreas": (Tissue.PANCREAS,),
    "aorta": (Tissue.AORTA,),
    "vertebrae": (Tissue.CORTICAL_BONE, Tissue.TRABECULAR_BONE),
    "bladder": (Tissue.BLADDER_WALL, Tissue.URINE),
}

ContrastPhase = Literal["none", "arterial", "portal_venous"]
CONTRAST_PHASES: tuple[ContrastPhase, ...] = ("none", "arterial", "portal_venous")

Range = tuple[float, float]


def _all_phases(low: float, high: float) -> tuple[Range, Range, Range]:
    return (low, high), (low, high), (low, high)


# CT number in HU from which a case draws its mean: unenhanced, arterial, portal venous. Assumed but for air (-1000) and
# water (0), which define the scale, and the unenhanced liver, [PMCT19]: 58 +- 9 HU.
TISSUE_HU: dict[Tissue, tuple[Range, Range, Range]] = {
    Tissue.OUTSIDE: _all_phases(-1000, -1000),
    Tissue.SKIN: _all_phases(10, 40),
    Tissue.FAT: _all_phases(-112, -95),
    Tissue.MUSCLE: ((45, 55), (48, 60), (52, 68)),
    Tissue.VISCERAL_FAT: _all_phases(-108, -85),
    Tissue.LUNG: _all_phases(-860, -760),
    Tissue.HEART: ((38, 46), (130, 240), (110, 150)),
    Tissue.OTHER_BONE: _all_phases(260, 480),
    Tissue.DISC: _all_phases(70, 100),
    Tissue.SPINAL_CANAL: _all_phases(20, 40),
    Tissue.CAVAL_VEIN: ((38, 46), (50, 110), (120, 165)),
    Tissue.BOWEL: ((20, 45), (30, 75), (40, 95)),
    Tissue.BOWEL_GAS: _all_phases(-900, -700),
    Tissue.LIVER: ((49, 67), (58, 75), (95, 115)),
    Tissue.SPLEEN: ((43, 54), (105, 135), (108, 130)),
    Tissue.RIGHT_CORTEX: ((29, 37), (150, 195), (175, 205)),
    Tissue.RIGHT_MEDULLA: ((27, 35), (60, 90), (160, 195)),
    Tissue.LEFT_CORTEX: ((29, 37), (150, 195), (175, 205)),
    Tissue.LEFT_MEDULLA: ((27, 35), (60, 90), (160, 195)),
    Tissue.STOMACH_WALL: ((35, 45), (60, 95), (70, 105)),
    Tissue.STOMACH_CONTENTS: _all_phases(5, 45),
    Tissue.STOMACH_GAS: _all_phases(-900, -800),
    Tissue.PANCREAS: ((35, 48), (85, 120), (75, 105)),
    Tissue.AORTA: ((38, 46), (270, 370), (140, 175)),
    Tissue.CORTICAL_BONE: _all_phases(400, 700),
    Tissue.TRABECULAR_BONE: _all_phases(140, 260),
    Tissue.BLADDER_WALL: ((32, 42), (45, 65), (50, 75)),
    Tissue.URINE: _all_phases(0, 14),
}
