"""What the axes of tensors mean, read from the graph: a letter for each, as in NCHW."""

from __future__ import annotations

import onnx_ir as ir

from .structure import rank, size

# Operators whose first input and output are maps with channels on axis 1.
_CHANNELS_FIRST = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "LRN BatchNormalization InstanceNormalization DepthToSpace SpaceToDepth".split()
)
# Operators that mix axes or drop some: what an axis meant before says nothing about it afterwards.
_MIXING = frozenset(
    "Reshape Flatten Squeeze Unsqueeze MatMul Gemm Gather GatherND GatherElements Shape Size ConstantOfShape Einsum "
    "ArgMax ArgMin NonZero OneHot TopK Expand Tile Loop If Scan ScatterND LSTM GRU RNN NonMaxSuppression".split()
)


def of(graph: ir.Graph) -> dict[ir.Value, str]:
    """A letter per axis for every tensor where the graph tells: from convolutions and pools outwards, both ways."""
    known: dict[ir.Value, str] = {}
    for node in graph:
        if node.op_type in _CHANNELS_FIRST:
            for value in (node.inputs[0], node.outputs[0]):
                letters = {3: "NCW", 4: "NCHW", 5: "NCDHW"}.get(rank(value) or 0)
                if value is not None and letters:
                    known[value] = letters
    nodes, before = list(graph), -1
    while len(known) != before:
        before = len(known)
        for node in nodes:
            _spread(node, known)
        for node in reversed(nodes):
            _spread(node, known)
    return known


def _spread(node: ir.Node, known: dict[ir.Value, str]) -> None:
    if not node.inputs or node.inputs[0] is None:
        return
    x, y = node.inputs[0], node.outputs[0]
    if node.op_type == "Transpose":
        perm = list(node.attributes.get_ints("perm", ())) or list(range(rank(x) or 0))[::-1]
        if x in known and y not in known and len(perm) == len(known[x]):
            known[y] = "".join(known[x][p] for p in perm)
        elif y in known and x not in known and len(perm) == len(known[y]):
            known[x] = "".join(known[y][perm.index(i)] for i in range(len(perm)))
    elif node.op_type == "Reshape":
        # (N, H, W, 1) -> (N, 1, H, W) moves the one channel without a Transpose.
        if known.get(y) == "NCHW" and x not in known and rank(x) == 4 and size(x, 3) == 1 == size(y, 1):
            known[x] = "NCHW" if size(x, 1) == 1 and size(x, 2) == size(y, 2) else "NHWC"
    elif node.op_type in ("Unsqueeze", "Squeeze"):
        more, less = (y, x) if node.op_type == "Unsqueeze" else (x, y)
        left = _without(known.get(more, ""), _axes(node))
        if left and less not in known and rank(less) == len(left):
            known[less] = left
    elif node.op_type not in _MIXING:
        family = [v for v in [*node.inputs, *node.outputs] if v is not None and not v.is_initializer()]
        letters = next((known[v] for v in family if v in known), None)
        for value in family if letters else ():
            if value not in known and rank(value) == len(letters or ""):
                known[value] = letters or ""


def _axes(node: ir.Node) -> list[int]:
    """The axes that a Squeeze or Unsqueeze is about, where they are written down."""
    given = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return given.numpy().ravel().tolist() if given is not None else list(node.attributes.get_ints("axes", ()))


def _without(letters: str, axes: list[int]) -> str:
    """The letters of a signal: without the axis of a lone channel, (N, 1, W), or of a height, (N, C, 1, W)."""
    gone = {axis % len(letters) for axis in axes} if letters else set[int]()
    left = "".join(letter for i, letter in enumerate(letters) if i not in gone)
    return {"NW": "NW", "NCW": "NCW", "NCH": "NCW", "NWC": "NWC", "NHC": "NWC"}.get(left, "") if gone else ""
