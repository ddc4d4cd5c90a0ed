"""Families of networks shaped like well-known ones, as ONNX with made-up weights; `benchmarks/zoo.py` lists them."""
