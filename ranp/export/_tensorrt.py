"""What NVIDIA's published tables say of an ONNX graph that TensorRT is to run: what is refused, and what needs care.

The one place where these limits stand. They are those of onnx-tensorrt's docs/operators.md for TensorRT 10.15
(operators, types, attributes) and of NVIDIA's pages on operators (volumes) and on dynamic shapes. Nothing here runs
TensorRT, and what the tables leave out is not known: which kernels are fast, what memory they take, other versions.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

VERSION = "10.15"
SOURCE = f"onnx-tensorrt, docs/operators.md for TensorRT {VERSION}"
OPSETS = range(9, 25)
_MOST = 2**31 - 1  # elements of what a deconvolution or a grid sample reads or writes
_MOST_K = 3839

_FLOATS, _INTEGERS = ("FLOAT", "FLOAT16", "BFLOAT16"), ("INT32", "INT64")
_UNSUPPORTED = """
    AffineGrid Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im Compress
    ConcatFromSequence ConvInteger DFT Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool MaxUnpool
    MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement QLinearConv
    QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TfIdfVectorizer Unique
"""
_TYPES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("BOOL",), "And Not Or Xor"),
    (("FLOAT",), "STFT"),
    (
        ("FLOAT", "FLOAT16"),
        "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    ),
    (
        _FLOATS,
        "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh "
        "CumSum Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool "
        "GroupNormalization HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM "
        "LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization "
        "PRelu ParametricSoftplus QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform "
        "RandomUniformLike Reciprocal Resize RotaryEmbedding Round ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax "
        "Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample",
    ),
    ((*_FLOATS, "INT32"), "TensorScatter"),
    (
        (*_FLOATS, *_INTEGERS),
        "Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Min Mod Mul "
        "Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK",
    ),
    ((*_FLOATS, *_INTEGERS, "INT8"), "Gelu"),
    ((*_FLOATS, *_INTEGERS, "FLOAT8E4M3FN"), "Mean"),
    ((*_FLOATS, "INT8", "FLOAT8E4M3FN"), "Attention"),
    (
        (*_FLOATS, *_INTEGERS, "BOOL"),
        "Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape ReverseSequence "
        "Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ),
    ((*_FLOATS, *_INTEGERS, "UINT8", "BOOL"), "Cast CastLike"),
    ((), "Constant ConstantOfShape DequantizeLinear"),  # of no tensor of values
)
"""Types of an operator's first input, and the operators that take them."""

_REFUSED = frozenset(_UNSUPPORTED.split())
_TAKEN = {op: types for types, ops in _TYPES for op in ops.split()}


@dataclass(frozen=True)
class Note:
    """One limit that a node meets.

    Args:
        op: the operator, or "input" and "output" of the graph.
        node: its name.
        refused: whether the tables say that it is not taken, rather than that it needs care.
        limit: in words.
    """

    op: str
    node: str
    refused: bool
    limit: str


def notes(model: Any) -> list[Note]:
    """Return the limits that an ONNX model of onnx_ir meets, what is refused first; none where the tables know none."""
    opset = model.opset_imports.get("", 0)
    found = [] if opset in OPSETS else [Note("graph", "opset", True, f"opset {opset}; taken are 9 to {OPSETS[-1]}")]
    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        found += [Note(kind, str(value.name), False, text) for value in values for text in _of_a_value(value, kind)]
    for graph in (model.graph, *model.functions.values()):
        for node in graph.all_nodes():
            found += [Note(node.op_type, str(node.name), refused, text) for refused, text in _of_a_node(node)]
    return sorted(found, key=lambda note: not note.refused)


def summary(model: Any) -> dict[str, Any]:
    """Return the limits in plain values, with where they are from and how many nodes were looked at."""
    found = notes(model)
    return {
        "source": SOURCE,
        "version": VERSION,
        "opset": model.opset_imports.get("", 0),
        "nodes": sum(1 for graph in (model.graph, *model.functions.values()) for _ in graph.all_nodes()),
        "refused": sum(note.refused for note in found),
        "notes": [vars(note) for note in found],
    }


def _of_a_value(value: Any, kind: str) -> Iterator[str]:
    free = [str(size) for size in value.shape or () if not isinstance(size, int)]
    if free and kind == "input":
        yield f"{', '.join(free)} free: an optimization profile has to say the least, usual and largest size"
    if value.dtype is not None and value.dtype.name == "INT64":
        yield "INT64: the program binds 64-bit whole numbers, since TensorRT 9"


def _of_a_node(node: Any) -> Iterator[tuple[bool, str]]:
    """Yield whether what a node meets refuses it, and what that is."""
    op = node.op_type
    if node.domain not in ("", "ai.onnx"):
        yield True, f"{node.domain} is none of ONNX's own operators: it takes a plugin"
        return
    if op in _REFUSED:
        yield True, "the operator is not supported"
        return
    if op not in _TAKEN:
        yield False, "the table does not have the operator"
        return
    types = [value.dtype.name for value in node.inputs if value is not None and value.dtype is not None]
    if types and types[0] == "DOUBLE":
        yield False, "DOUBLE is cast to FLOAT, and clamped to its range"
    elif types and _TAKEN[op] and types[0] not in _TAKEN[op]:
        yield True, f"{types[0]}; taken are {', '.join(_TAKEN[op])}"
    for rule in _RULES.get(op, ()):
        yield from rule(node)


Rule = Callable[[Any], Iterator[tuple[bool, str]]]


def _attribute(node: Any, name: str, default: Any) -> Any:
    held = node.attributes.get(name)
    return default if held is None else held.value


def _input(node: Any, at: int) -> Any:
    """Return an input, or None where it is left out."""
    return node.inputs[at] if at < len(node.inputs) else None


def _rank(node: Any) -> int | None:
    shape = node.inputs[0].shape
    return None if shape is None else len(shape)


def _numbers(value: Any) -> list[float] | None:
    """Return what a constant holds, or None where it is computed."""
    if value is None:
        return None
    held = value.const_value
    if held is None and value.producer() is not None and value.producer().op_type == "Constant":
        attribute = value.producer().attributes.get("value")
        held = None if attribute is None else attribute.value
    return None if held is None else [float(number) for number in held.numpy().reshape(-1)]


def _of_rank(*ranks: int, what: str) -> Rule:
    def rule(node: Any) -> Iterator[tuple[bool, str]]:
        if (rank := _rank(node)) is not None and rank not in ranks:
            yield True, f"an input of {rank} axes; taken are {what}"

    return rule


def _among(name: str, default: str | int, *taken: str | int) -> Rule:
    def rule(node: Any) -> Iterator[tuple[bool, str]]:
        if (value := _attribute(node, name, default)) not in taken:
            yield True, f"{name} {value}; taken: {', '.join(map(str, taken))}"

    return rule


def _nearest(node: Any) -> Iterator[tuple[bool, str]]:
    if _attribute(node, "mode", "nearest") == "nearest":
        taken = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
        yield from _among("nearest_mode", "round_prefer_floor", *taken)(node)


def _axes_of_scales(node: Any) -> Iterator[tuple[bool, str]]:
    axes, rank = _attribute(node, "axes", None), _rank(node)
    if axes is not None and _input(node, 2) is not None and list(axes) != list(range(rank or 0)):
        yield True, "scales of some axes; they have to be of all, in order"


def _undilated(node: Any) -> Iterator[tuple[bool, str]]:
    if any(step != 1 for step in _attribute(node, "dilations", ())):
        yield True, f"dilations {list(_attribute(node, 'dilations', ()))}; they have to be 1"


def _one_output(what: str) -> Rule:
    def rule(node: Any) -> Iterator[tuple[bool, str]]:
        more = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
        if more:
            yield True, f"{what} is not given"

    return rule


def _constant(at: int, name: str) -> Rule:
    def rule(node: Any) -> Iterator[tuple[bool, str]]:
        if _input(node, at) is not None and _numbers(_input(node, at)) is None:
            yield True, f"{name} is computed; it has to be a constant"

    return rule


def _top(node: Any) -> Iterator[tuple[bool, str]]:
    count = _numbers(_input(node, 1))
    if count is not None and count[0] > _MOST_K:
        yield True, f"K of {count[0]:.0f}; the most is {_MOST_K}"
    if not _attribute(node, "sorted", 1):
        yield True, "sorted 0; it has to be 1"


def _volume(node: Any) -> Iterator[tuple[bool, str]]:
    for value in (node.inputs[0], *node.outputs):
        sizes = list(value.shape or ())
        if sizes and all(isinstance(size, int) for size in sizes) and math.prod(sizes) > _MOST:
            yield True, f"{math.prod(sizes):,} elements; the most are 2^31 - 1"


def _always(text: str) -> Rule:
    def rule(_node: Any) -> Iterator[tuple[bool, str]]:
        yield False, text

    return rule


_MODES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
_SEED = _always("the seed is ignored")
_RULES: dict[str, tuple[Rule, ...]] = {
    "AveragePool": (_of_rank(4, 5, what="images and volumes"), _undilated),
    "ConvTranspose": (_volume,),
    "CumSum": (_constant(1, "axis"),),
    "DeformConv": (_of_rank(3, 4, what="sequences and images"),),
    "GridSample": (_of_rank(4, what="images"), _volume),
    "LayerNormalization": (_one_output("what comes after the first output"),),
    "Loop": (_always("the shapes that it carries on have to stay, and the length of what it scans is fixed"),),
    "LpPool": (_undilated,),
    "MaxPool": (_of_rank(4, 5, what="images and volumes"), _undilated, _one_output("Indices")),
    "NonZero": (_always("the size of its result depends on the data"),),
    "OneHot": (_constant(1, "depth"),),
    "RandomNormal": (_SEED,),
    "RandomNormalLike": (_SEED,),
    "RandomUniform": (_SEED,),
    "RandomUniformLike": (_SEED,),
    "Resize": (
        _among("mode", "nearest", "nearest", "linear"),
        _among("coordinate_transformation_mode", "half_pixel", *_MODES),
        _among("keep_aspect_ratio_policy", "stretch", "stretch"),
        _among("antialias", 0, 0),
        _nearest,
        _axes_of_scales,
    ),
    "ScatterND": (_among("reduction", "none", "none"),),
    "Squeeze": (_constant(1, "axes"),),
    "TopK": (_top,),
    "Unsqueeze": (_constant(1, "axes"),),
    **{op: (_constant(1, "axes"),) for op in _TAKEN if op.startswith("Reduce")},
}
