"""Probes of frozen encoders on organ voxels: what tools/probe_features.py is made of."""
