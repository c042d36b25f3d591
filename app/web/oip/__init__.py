"""The Open Inference Protocol, version 2, over HTTP: what KServe and Triton's clients speak.

Specification: https://github.com/kserve/open-inference-protocol. Of Triton's extensions there are
``binary_tensor_data``, ``classification``, and of ``model_repository`` the index.
"""
