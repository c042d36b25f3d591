"""The Open Inference Protocol, version 2, over HTTP: the protocol of KServe's and Triton's clients.

Specification: https://github.com/kserve/open-inference-protocol. Triton's extensions ``binary_tensor_data`` and
``classification`` are supported, and the index of ``model_repository``.
"""
