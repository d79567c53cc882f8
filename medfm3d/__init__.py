"""Few-shot 3D medical image segmentation on self-supervised encoders, packaged as MONAI bundles."""

__version__ = "0.1.0"
