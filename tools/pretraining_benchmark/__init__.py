"""Masked pretraining by medfm3d and its peers, measured side by side."""
