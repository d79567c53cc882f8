"""How good a mask is, foretold from what the network says of it: features and the model that was calibrated on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

FORMAT = "medfm3d-predicted-dice-1"
SHIPPED = "predicted_dice.json"
PLAIN, AUGMENTED = "plain", "augmented"
# Of all features these two predicted best the Dice of bundles that were left out (hippocampus and head and neck): soft
# Dice orders the masks of one bundle, thinness tells ragged masks, however sure the network is of them. With volume_z,
# the entropy of the mask's surface or of the scan, or the agreement of variants besides, the correlation within a
# bundle did not rise, or fell.
FEATURES = {PLAIN: ("soft_dice", "thinness"), AUGMENTED: ("soft_dice", "thinness")}


@dataclass(frozen=True)
class DiceModel:
    """Logistic regression of Dice on standardised features.

    Attributes:
        features: names, in the order of the other lists.
        centre: what each feature is on average.
        scale: its standard deviation.
        weights: by which standardised features enter the logit of the predicted Dice.
        intercept: that logit where all features are average.
    """

    features: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def predict(self, features: Mapping[str, float]) -> float:
        """Return the predicted Dice, between 0 and 1; 0 for a mask without a voxel."""
        if not features["voxels"]:
            return 0.0
        values = (_table([features], self.features)[0] - self.centre) / self.scale
        return float(expit(values @ np.asarray(self.weights) + self.intercept))


def fit_dice_model(
    rows: Sequence[Mapping[str, float]],
    dice: Sequence[float],
    features: Sequence[str],
    *,
    ridge: float = 1.0,
    case_weights: Sequence[float] | None = None,
) -> DiceModel:
    """Fit the model by penalised quasi-likelihood of fractions (Papke and Wooldridge, J Appl Econometrics 11, 1996).

    Args:
        rows: features of masks that are not empty.
        dice: their true Dice, from 0 to 1; both ends are allowed.
        features: names of those to use.
        ridge: penalty on the squared weights, in units of one mask.
        case_weights: how much each mask counts; all alike by default.

    Raises:
        ValueError: if there are fewer masks than weights to fit.
    """
    table, target = _table(rows, features), np.asarray(dice, dtype=float)
    if len(table) <= len(features) + 1:
        raise ValueError(f"{len(table)} masks are too few to fit {len(features) + 1} numbers")
    counts = np.ones(len(table)) if case_weights is None else np.asarray(case_weights, dtype=float)
    centre = np.average(table, axis=0, weights=counts)
    scale = np.sqrt(np.average((table - centre) ** 2, axis=0, weights=counts))
    scale[scale < 1e-9] = 1.0
    standard = np.column_stack([(table - centre) / scale, np.ones(len(table))])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = standard @ weights
        fit = -(counts * (target * log_expit(scores) + (1 - target) * log_expit(-scores))).sum()
        gradient = standard.T @ (counts * (expit(scores) - target))
        gradient[:-1] += ridge * weights[:-1]
        return fit + ridge / 2 * float(weights[:-1] @ weights[:-1]), gradient

    start = np.append(np.zeros(len(features)), logit(np.clip(np.average(target, weights=counts), 0.01, 0.99)))
    *weights, intercept = minimize(loss, start, jac=True, method="L-BFGS-B").x.tolist()
    return DiceModel(tuple(features), tuple(centre.tolist()), tuple(scale.tolist()), tuple(weights), intercept)


@dataclass(frozen=True)
class PredictedDice:
    """The calibrated models and where they come from.

    Attributes:
        models: for masks of plain inference and of test-time augmentation.
        provenance: cohorts, bundles, command and the correlations that cross-validation reached.
    """

    models: Mapping[str, DiceModel]
    provenance: Mapping[str, Any]

    def predict(self, features: Mapping[str, float]) -> float:
        """Return the predicted Dice of a mask; the model is the one for inference as the features say it was."""
        return self.models[AUGMENTED if "agreement" in features else PLAIN].predict(features)

    def to_json(self) -> dict[str, Any]:
        """Return the models as plain JSON values."""
        models = {name: asdict(model) for name, model in self.models.items()}
        return {"format": FORMAT, "provenance": dict(self.provenance), "models": models}

    @classmethod
    def load(cls, path: str | Path | None = None) -> "PredictedDice":
        """Read models that `tools/calibrate_predicted_dice.py` wrote; those that medfm3d ships by default.

        Raises:
            ValueError: naming the file, if it holds no such models.
        """
        file = resources.files("medfm3d.inference") / SHIPPED if path is None else Path(path)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
            models = {
                name: DiceModel(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})
                for name, fields in content["models"].items()
            }
            return cls(models, content["provenance"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file}: holds no calibration of predicted Dice ({error}); run tools/calibrate_predicted_dice.py"
            ) from error


def _table(rows: Sequence[Mapping[str, float]], features: Sequence[str]) -> np.ndarray:
    """Return features as the model sees them, (rows, features): parts of 1 as logits, z by its size."""
    columns = {
        "soft_dice": lambda value: logit(np.clip(value, 0.01, 0.999)),
        "agreement": lambda value: logit(np.clip(value, 0.01, 0.999)),
        "thinness": lambda value: np.log(np.clip(value, 0.05, 10)),
        "volume_z": lambda value: np.minimum(np.abs(value), 4.0),
    }
    return np.array([[columns.get(name, float)(row[name]) for name in features] for row in rows], dtype=float)
