"""Element types of ONNX tensors: names, and how many bytes so many elements take.

Source: onnx.proto, TensorProto.DataType.
"""

from __future__ import annotations

__all__ = ["DTYPES", "STRING", "raw_bytes", "typed_elements"]

STRING = 8
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2", 27: "float6e2m3", 28: "float6e3m2",
}  # fmt: skip
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
# Which typed field holds the elements where raw_data does not.
_TYPED_FIELD = {
    1: "float_data", 7: "int64_data", 8: "string_data", 11: "double_data", 12: "uint64_data", 13: "uint64_data",
    14: "float_data", 15: "double_data",
}  # fmt: skip


def raw_bytes(data_type: int, elements: int) -> int | None:
    """Bytes that `elements` elements take in raw_data; None where the type has no fixed size or is unknown."""
    bits = _BITS.get(data_type)
    return None if bits is None else (elements * bits + 7) // 8


def typed_elements(data_type: int, elements: int) -> tuple[str, int]:
    """Name of the typed field that holds `elements` elements in place of raw_data, and how many entries it has."""
    field = _TYPED_FIELD.get(data_type, "int32_data")
    if data_type in (14, 15):
        return field, 2 * elements
    bits = _BITS.get(data_type, 8)
    return field, (elements * bits + 7) // 8 if bits < 8 else elements
