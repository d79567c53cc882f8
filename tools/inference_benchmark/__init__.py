"""Sliding-window inference of medfm3d and of its peers; see docs/benchmark_inference.md."""
