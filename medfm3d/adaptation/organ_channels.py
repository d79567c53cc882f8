"""Between the ids in label files and the channels of a network."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medfm3d.volumes import plain_tensor


class _LookedUp(MapTransform):
    """Replace each value of an integer map by its entry in a table; values that are not in the table become 0."""

    def __init__(self, keys: KeysCollection, values: Sequence[int], replacements: Sequence[int]) -> None:
        super().__init__(keys)
        self.table = torch.zeros(65536, dtype=torch.int32)
        self.table[list(values)] = torch.tensor(list(replacements), dtype=torch.int32)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return the entries of `keys` with their values replaced; metadata stays."""
        result = dict(data)
        for key in self.key_iterator(result):
            tensor = result[key]
            plain = plain_tensor(tensor)
            mapped = self.table.to(plain.device)[plain.long()]
            result[key] = MetaTensor(mapped).copy_meta_from(tensor) if isinstance(tensor, MetaTensor) else mapped
        return result


class LabelIdsToChannels(_LookedUp):
    """Turn a label map with ids as in the files into network channels; organs that are not asked for are background.

    Args:
        keys: entries to change, (1, D, H, W) each.
        label_ids: id of each channel, background's 0 first.
    """

    def __init__(self, keys: KeysCollection, label_ids: Sequence[int]) -> None:
        super().__init__(keys, label_ids, range(len(label_ids)))


class ChannelsToLabelIds(_LookedUp):
    """Turn a map of network channels into ids as in the label files: the inverse of `LabelIdsToChannels`.

    Args:
        keys: entries to change, (1, D, H, W) each.
        label_ids: id of each channel, background's 0 first.
    """

    def __init__(self, keys: KeysCollection, label_ids: Sequence[int]) -> None:
        super().__init__(keys, range(len(label_ids)), label_ids)
