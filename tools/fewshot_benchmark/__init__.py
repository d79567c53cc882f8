"""Few-shot segmentation by medfm3d and by its peers on the same scans; see docs/benchmark_fewshot.md."""
