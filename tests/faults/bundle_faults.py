"""Bundles that are damaged or do not know what is asked of them; each makes `medfm3d segment` end at once."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from fault import faults_of


def file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], list[str]]:
    """A bundle in which a file has other bytes."""

    def make(bundle: Path) -> list[str]:
        content = change((bundle / name).read_bytes())
        (bundle / name).unlink()  # it may be a link to that of another bundle
        (bundle / name).write_bytes(content)
        return []

    return make


def without(name: str) -> Callable[[Path], list[str]]:
    return lambda bundle: (bundle / name).unlink() or []


def weights(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
    """A bundle whose weights are others."""

    def make(bundle: Path) -> list[str]:
        path = bundle / "models" / "model.pt"
        state = torch.load(path, weights_only=True)
        changed = change(state)
        path.unlink()
        torch.save(state if changed is None else changed, path)
        return []

    return make


def config(**values: object) -> Callable[[Path], list[str]]:
    """A bundle whose inference config has other values; those that are None are left out."""

    def change(content: bytes) -> bytes:
        changed = {**json.loads(content), **values}
        return json.dumps({name: value for name, value in changed.items() if value is not None}).encode()

    return file("configs/inference.json", change)


def card(change: Callable[[dict], object]) -> Callable[[Path], list[str]]:
    def changed(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return json.dumps(value).encode()

    return file("models/segmenter.json", changed)


def option(*words: str) -> Callable[[Path], list[str]]:
    """A sound bundle of which too much is asked."""
    return lambda bundle: list(words)


def first(state: dict) -> str:
    return next(name for name, value in state.items() if value.is_floating_point())


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


class Malicious:
    """What would run a command, were it unpickled."""

    def __reduce__(self) -> tuple:
        return exec, ("open('/tmp/medfm3d_was_here', 'w')",)


BUNDLES = faults_of(
    ("bundle without weights", "models/model.pt is missing; make one by medfm3d adapt", without("models/model.pt")),
    ("weights cut short", "models/model.pt: holds no weights of this bundle's network", file("models/model.pt", half)),
    (
        "weights of another network",
        "models/model.pt: holds no weights of this bundle's network",
        weights(lambda state: {f"other.{name}": value for name, value in state.items()}),
    ),
    (
        "weights of another size",
        "models/model.pt: holds no weights of this bundle's network",
        weights(lambda state: state.update({first(state): torch.zeros(3)})),
    ),
    (
        "weights that are not finite",
        "models/model.pt: holds weights that are NaN or infinite",
        weights(lambda state: state.update({first(state): state[first(state)] * torch.nan})),
    ),
    (
        "code instead of weights",
        "models/model.pt: holds no weights of this bundle's network",
        file("models/model.pt", lambda _: pickle.dumps(Malicious())),
    ),
    ("bundle without a card", "models/segmenter.json is missing", without("models/segmenter.json")),
    ("card that is no JSON", "models/segmenter.json: is not valid JSON", file("models/segmenter.json", half)),
    ("card of another format", "has an unknown format 'v9'; update medfm3d", card(lambda c: c.update(format="v9"))),
    ("config that is no JSON", "configs/inference.json: is not valid JSON", file("configs/inference.json", half)),
    ("metadata that are no JSON", "configs/metadata.json: is not valid JSON", file("configs/metadata.json", half)),
    (
        "config of an unknown class",
        "configs/inference.json: cannot be set up",
        config(inferer={"_target_": "medfm3d.inference.NoSuchInferer"}),
    ),
    ("config without an inferer", "configs/inference.json: lacks", config(inferer=None)),
    ("bundle without priors", "models/priors.json: no such file", without("models/priors.json")),
    ("priors that are no JSON", "models/priors.json: holds no usable priors", file("models/priors.json", half)),
    ("unknown prior", "has no prior nonsense, only", option("--logit-priors", "nonsense")),
    ("GPU that is not there", "is not there: this machine has", option("--device", "cuda:99")),
    ("unknown device", "unknown device 'abacus': choose auto, cpu, cuda or cuda:N", option("--device", "abacus")),
    ("shard beyond the last", "expected I/N with I from 1 to N", option("--shard", "3/2")),
)
