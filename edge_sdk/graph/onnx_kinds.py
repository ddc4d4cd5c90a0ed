"""The kind of each ONNX op, and of those that ONNX Runtime adds: standard ops and ai.onnx.ml in full."""

from __future__ import annotations

import functools

__all__ = ["kind_of"]

_KINDS = {
    "conv": (
        "CausalConvWithState Conv ConvInteger DeformConv QLinearConv com.microsoft.FusedConv "
        "com.microsoft.NhwcConv com.microsoft.NhwcFusedConv com.microsoft.QLinearConv "
        "com.microsoft.nchwc.Conv com.ms.internal.nhwc.Conv com.ms.internal.nhwc.FusedConv "
        "com.ms.internal.nhwc.QLinearConv"
    ),
    "conv_transpose": (
        "ConvTranspose com.microsoft.ConvTransposeWithDynamicPads com.microsoft.QLinearConvTranspose "
        "com.ms.internal.nhwc.ConvTranspose com.ms.internal.nhwc.QLinearConvTranspose"
    ),
    "gemm": (
        "Gemm ai.onnx.ml.LinearClassifier ai.onnx.ml.LinearRegressor com.microsoft.FusedGemm "
        "com.microsoft.MatMulBnb4 com.microsoft.MatMulFpQ4 com.microsoft.MatMulNBits com.microsoft.QGemm"
    ),
    "matmul": (
        "Einsum MatMul MatMulInteger QLinearMatMul com.microsoft.DynamicQuantizeMatMul "
        "com.microsoft.FusedMatMul com.microsoft.FusedMatMulActivation com.microsoft.GemmFloat8 "
        "com.microsoft.MatMulInteger16 com.microsoft.MatMulIntegerToFloat com.microsoft.SparseToDenseMatMul "
        "com.microsoft.TransposeMatMul"
    ),
    "elementwise": (
        "Abs Acos Acosh Add And Asin Asinh Atan Atanh Bernoulli BitCast BitShift BitwiseAnd BitwiseNot "
        "BitwiseOr BitwiseXor Cast CastLike Ceil Cos Cosh CumProd CumSum Div Dropout Equal Erf Exp Floor "
        "Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow "
        "Reciprocal RotaryEmbedding Round Sign Sin Sinh Sqrt Sub Sum Tan Trilu Where Xor ai.onnx.ml.Binarizer "
        "ai.onnx.ml.Imputer ai.onnx.ml.Scaler ai.onnx.preview.training.Adagrad ai.onnx.preview.training.Adam "
        "ai.onnx.preview.training.Momentum com.microsoft.BiasAdd com.microsoft.BiasDropout "
        "com.microsoft.BitmaskBiasDropout com.microsoft.BitmaskDropout com.microsoft.QLinearAdd "
        "com.microsoft.QLinearMul com.microsoft.QLinearWhere com.microsoft.RotaryEmbedding "
        "com.microsoft.Trilu"
    ),
    "activation": (
        "Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Shrink Sigmoid Softplus "
        "Softsign SwiGLU Swish Tanh ThresholdedRelu com.microsoft.BiasGelu com.microsoft.BiasSplitGelu "
        "com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QLinearLeakyRelu "
        "com.microsoft.QLinearSigmoid com.microsoft.QuickGelu"
    ),
    "softmax": (
        "Hardmax LogSoftmax NegativeLogLikelihoodLoss Softmax SoftmaxCrossEntropyLoss "
        "com.microsoft.BiasSoftmax com.microsoft.QLinearSoftmax"
    ),
    "normalization": (
        "BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization LpNormalization "
        "MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization ai.onnx.ml.Normalizer "
        "com.microsoft.EmbedLayerNormalization com.microsoft.GroupNorm "
        "com.microsoft.SimplifiedLayerNormalization com.microsoft.SkipGroupNorm "
        "com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization"
    ),
    "pool": (
        "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool MaxUnpool "
        "RoiAlign com.microsoft.MaxpoolWithMask com.microsoft.NhwcMaxPool com.microsoft.QLinearAveragePool "
        "com.microsoft.QLinearGlobalAveragePool com.microsoft.nchwc.AveragePool "
        "com.microsoft.nchwc.GlobalAveragePool com.microsoft.nchwc.GlobalMaxPool com.microsoft.nchwc.MaxPool "
        "com.ms.internal.nhwc.AveragePool com.ms.internal.nhwc.GlobalAveragePool com.ms.internal.nhwc.MaxPool"
    ),
    "reduce": (
        "ArgMax ArgMin Det ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
        "ReduceProd ReduceSum ReduceSumSquare com.microsoft.QLinearReduceMean com.microsoft.ReduceSumInteger"
    ),
    "reshape": (
        "Constant Flatten Identity Optional OptionalGetElement OptionalHasElement Reshape SequenceAt "
        "SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Size Squeeze "
        "Unsqueeze ai.onnx.ml.ZipMap"
    ),
    "transpose": (
        "DepthToSpace ReverseSequence SpaceToDepth Transpose com.microsoft.nchwc.ReorderInput "
        "com.microsoft.nchwc.ReorderOutput"
    ),
    "concat": "Concat ConcatFromSequence StringConcat ai.onnx.ml.FeatureVectorizer com.microsoft.QLinearConcat",
    "slice": "CenterCropPad Compress Slice Split SplitToSequence",
    "gather": (
        "ArrayFeatureExtractor Gather GatherElements GatherND OneHot Scatter ScatterElements ScatterND "
        "TensorScatter ai.onnx.ml.ArrayFeatureExtractor ai.onnx.ml.OneHotEncoder com.microsoft.EmbedLayerNorm "
        "com.microsoft.GatherBlockQuantized com.microsoft.GatherND"
    ),
    "resize": (
        "AffineGrid Col2Im Expand GridSample Resize Tile Upsample com.microsoft.GridSample "
        "com.microsoft.QLinearResize com.microsoft.nchwc.Upsample com.ms.internal.nhwc.Resize"
    ),
    "pad": "Pad com.microsoft.Pad",
    "quantize": "DynamicQuantizeLinear QuantizeLinear com.microsoft.QuantizeLinear",
    "dequantize": "DequantizeLinear com.microsoft.DequantizeBFP com.microsoft.DequantizeLinear",
    "recurrent": "GRU LSTM RNN com.microsoft.AttnLSTM com.microsoft.DynamicQuantizeLSTM",
    "attention": (
        "Attention LinearAttention ai.onnx.preview.FlexAttention com.microsoft.Attention "
        "com.microsoft.DecoderAttention com.microsoft.DecoderMaskedMultiHeadAttention "
        "com.microsoft.DecoderMaskedSelfAttention com.microsoft.GroupQueryAttention "
        "com.microsoft.LongformerAttention com.microsoft.MultiHeadAttention com.microsoft.PackedAttention "
        "com.microsoft.PackedMultiHeadAttention com.microsoft.QAttention com.microsoft.QOrderedAttention "
        "com.microsoft.SparseAttention"
    ),
    "control": "If Loop Scan SequenceMap",
    "other": (
        "BlackmanWindow ConstantOfShape EyeLike HammingWindow HannWindow Multinomial NonMaxSuppression "
        "NonZero RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range RegexFullMatch "
        "StringNormalizer StringSplit TfIdfVectorizer TopK Unique ai.onnx.ml.CastMap "
        "ai.onnx.ml.CategoryMapper ai.onnx.ml.DictVectorizer ai.onnx.ml.LabelEncoder com.microsoft.Range "
        "com.microsoft.Tokenizer com.microsoft.Unique"
    ),
}
"""Kinds of ops by type. Those that make products need a rule in `onnx_rules.RULES`; the others take none. An op that is
not here has products that do not follow from shapes (DFT, trees), or is nobody's standard."""


@functools.cache
def _by_type() -> dict[str, str]:
    return {op: kind for kind, ops in _KINDS.items() for op in ops.split()}


def kind_of(op_type: str) -> tuple[str, bool]:
    """The kind of an op, and whether what it costs is known but for products. An unknown op is of kind "other"."""
    kind = _by_type().get(op_type)
    return (kind, True) if kind is not None else ("other", False)
