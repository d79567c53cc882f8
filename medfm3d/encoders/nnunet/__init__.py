"""The way of a pretrained encoder into nnU-Net."""

from medfm3d.encoders.nnunet.export import NnUNetExport, export_for_nnunet

__all__ = ["NnUNetExport", "export_for_nnunet"]
