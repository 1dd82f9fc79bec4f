"""`Model`: a loaded, canonical ONNX model. It is never changed after it was made; rewriting makes a new one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import onnx_ir

from . import naming, serial, stores, structure
from .collector import uncollected
from .errors import LayerError, ModelError
from .facts import Facts
from .source import Opened, Source, described, opened

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")
_LOCK = RLock()


class Model:
    """An ONNX model in canonical form (see `onnx_inspect.canonical`).

    Args:
        graph: an onnx_ir model, or what makes such a model when it is needed.

    Attributes:
        source: the file as it was: path, digest, producer, opset.
        notes: what was changed at load that a user should know.
        batch_relaxed: the file fixed the batch; the canonical graph takes any.
        facts: what is known without the graph.
    """

    def __init__(
        self,
        graph: onnx_ir.Model | Callable[[], Model],
        source: Source,
        notes: Iterable[str] = (),
        history: tuple[str, ...] = (),
        *,
        batch_relaxed: bool = False,
        loaded: serial.Loaded | None = None,
        facts: Facts | None = None,
    ) -> None:
        self.source = source
        self.notes = tuple(notes)
        self.batch_relaxed = batch_relaxed
        self.facts = Facts() if facts is None else facts
        self._memo: dict[Any, Any] = {}
        self._recipe = graph if callable(graph) else None
        if not callable(graph):
            if loaded is None:
                loaded = {id(v.const_value): (n, v.const_value) for n, v in graph.graph.initializers.items()}
            self._built = graph, history, loaded

    @classmethod
    def load(cls, source: str | Path | bytes | onnx.ModelProto) -> Model:
        """Load a model from a path, from bytes or from a ModelProto.

        External data stays on disk until it is needed.

        Raises:
            ModelError: the file is missing, is not ONNX, is truncated, or needs data that is not there.
            UnsupportedError: its operators cannot be brought to opset 21.
        """
        file = opened(source)
        facts = stores.facts(file)
        if "source" not in facts:
            return cls._read(file, facts)
        notes, relaxed = facts.get("notes", tuple[str, ...]), facts.get("relaxed", bool)
        origin = replace(facts.get("source", lambda: described(file)[1]), path=file.path)
        again = file.again()
        return cls(lambda: cls._read(again(), Facts()), origin, notes, batch_relaxed=relaxed, facts=facts)

    @classmethod
    def _read(cls, file: Opened, facts: Facts) -> Model:
        from . import canonical, mapped

        lean, weights = mapped.taken_out(file) or (b"", None)
        proto, origin = described(file, lean, weights.path.name if weights is not None else "")
        beside = origin.path if weights is None else weights.path
        folder = beside.parent if beside is not None else None
        try:
            with uncollected():
                graph, notes, relaxed = canonical.canonicalise(proto, folder)
        except ModelError:
            raise
        except Exception as error:  # onnx_ir and onnx raise many kinds for graphs that contradict themselves
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
            raise ModelError(f"'{origin.name}' cannot be interpreted as an ONNX graph: {reason}") from error
        if weights is not None:
            mapped.keep(graph.graph, weights)
        if not origin.data_files:  # whose own changes nothing would tell
            for key, value in {"source": replace(origin, path=None), "notes": tuple(notes), "relaxed": relaxed}.items():
                facts.get(key, lambda value=value: value)  # type: ignore[misc]
        return cls(graph, origin, notes, batch_relaxed=relaxed, facts=Facts() if origin.data_files else facts)

    # Its graph, which may be there only when somebody asks for it.

    def _graph(self) -> tuple[onnx_ir.Model, tuple[str, ...], serial.Loaded]:
        if self._recipe is not None:
            with _LOCK:  # threads get one and the same graph
                if self._recipe is not None:
                    self._built = self._recipe()._graph()
                    self._recipe = None
        return self._built

    @property
    def ir(self) -> onnx_ir.Model:
        """The graph, as an onnx_ir model. Treat it as read-only."""
        return self._graph()[0]

    @property
    def history(self) -> tuple[str, ...]:
        """The steps of rewriting that made it."""
        return self._graph()[1]

    def clone(self) -> Model:
        """A copy whose graph may be changed; weights are shared."""
        return self._with(self.ir.clone(), self.history)

    def derived(self, *step: str | None) -> Model:
        """This model, with a step of rewriting written into its history."""
        return self._with(self.ir, (*self.history, " ".join(s or "" for s in step)))

    def _with(self, graph: onnx_ir.Model, history: tuple[str, ...]) -> Model:
        relaxed, loaded = self.batch_relaxed, self._graph()[2]
        return Model(graph, self.source, self.notes, history, batch_relaxed=relaxed, loaded=loaded)

    # What follows from it.

    def memo(self, key: Any, build: Callable[[], T]) -> T:
        """Something that follows from this model, built once and kept as long as the model."""
        if key not in self._memo:
            with uncollected():
                self._memo[key] = build()
        found: T = self._memo[key]
        return found

    def fact(self, key: Hashable, build: Callable[[], T]) -> T:
        """Something that follows from the graph alone, built once and kept on disk, too, where that is possible."""
        return self.facts.get(key, build)

    def rewritten(self, key: Hashable, build: Callable[[], Model]) -> Model:
        """A rewritten form of this model, built once; where facts about it are known, not before it is needed."""

        def known() -> Model:
            facts = self.facts.under(key)
            if facts:
                return Model(build, self.source, self.notes, batch_relaxed=self.batch_relaxed, facts=facts)
            made = build()
            if made is not self:
                made.facts = facts
            return made

        return self.memo(("rewritten", key), known)

    # What is in it.

    @property
    def inputs(self) -> list[structure.Spec]:
        """The inputs that need a value."""
        return self.fact("inputs", lambda: [self.spec(v) for v in self.ir.graph.inputs])

    @property
    def outputs(self) -> list[structure.Spec]:
        """The outputs."""
        return self.fact("outputs", lambda: [self.spec(v) for v in self.ir.graph.outputs])

    @property
    def metadata(self) -> dict[str, str]:
        """metadata_props of the file."""
        return self.fact("metadata", lambda: dict(self.ir.metadata_props))

    @cached_property
    def opset(self) -> int:
        """The standard opset of the canonical graph."""
        from . import canonical

        return canonical.require_opset(self.ir)

    @cached_property
    def values(self) -> dict[str, onnx_ir.Value]:
        """All tensors of the graph by name: inputs, weights, and outputs of nodes."""
        graph = self.ir.graph
        found = {v.name or "": v for v in [*graph.inputs, *graph.initializers.values()]}
        found.update({v.name: v for n in graph for v in n.outputs if v.name})
        return found

    def value(self, name: str) -> onnx_ir.Value:
        """A tensor by its exact name or by a layer's readable one.

        Raises:
            LayerError: there is none; says which are near.
        """
        if name in self.values:
            return self.values[name]
        return self.values[self.layer(name).tensor]

    @cached_property
    def varying(self) -> set[onnx_ir.Value]:
        """All tensors that depend on an input."""
        return structure.varying(self.ir.graph)

    @cached_property
    def layouts(self) -> dict[onnx_ir.Value, str]:
        """What the axes of a tensor mean, "NCHW" or "NHWC" for maps, where the graph tells."""
        from . import layouts

        return layouts.of(self.ir.graph)

    def layout(self, tensor: str) -> str | None:
        """A letter for each axis of a tensor, by its exact name; None where the graph does not tell, and for no tensor.

        See `layouts`.
        """
        return self.fact(
            ("layout", tensor), lambda: self.layouts.get(self.values[tensor]) if tensor in self.values else None
        )

    def spec(self, value: onnx_ir.Value) -> structure.Spec:
        """Name, shape, type and layout of a tensor."""
        return structure.spec(value, self.layouts.get(value))

    @cached_property
    def layers(self) -> list[naming.Layer]:
        """Every float tensor that depends on an input, in the order of computation, with its readable name."""
        return naming.layers(self.ir.graph, self.layouts)

    def layer(self, name: str) -> naming.Layer:
        """One layer by readable name, exact tensor name or glob.

        Raises:
            LayerError: none, or several, are meant.
        """
        found = self.find_layers(name)
        if len(found) > 1:
            names = ", ".join(f"'{f.name}'" for f in found[:5])
            raise LayerError(
                f"'{name}' means {len(found)} layers ({names}{', ...' if len(found) > 5 else ''}): name one."
            )
        return found[0]

    def find_layers(self, pattern: str) -> list[naming.Layer]:
        """All layers that a name or glob means, in order.

        Raises:
            LayerError: none; says which are near.
        """
        return naming.find(self.layers, pattern)

    @property
    def digest(self) -> str:
        """Identifies this graph with its weights: equal digests compute the same function."""
        return self.fact("digest", self._digest)

    def _digest(self) -> str:
        graph, _, loaded = self._graph()
        return serial.digest(graph, self.source.identity, loaded)

    # Out again.

    def to_proto(self) -> onnx.ModelProto:
        """The model as a ModelProto; external weights are named, not included."""
        return serial.to_proto(self.ir)

    def to_bytes(self) -> bytes:
        """The model as one message, weights included.

        Raises:
            ModelError: it is larger than the 2 GB that ONNX allows; `save` writes external data instead.
        """
        if self.nbytes > serial.LIMIT:
            raise ModelError(
                f"'{self.source.name}' has {self.nbytes:,} bytes of weights, more than ONNX puts in one file: save it."
            )
        return serial.to_bytes(self.ir)

    def to_message(self) -> tuple[bytes, Path | None]:
        """The model for onnxruntime, and the folder of the weights that it does not include; None if it has all."""
        data, folder = serial.message(self.ir)
        return data, self.source.path.parent.resolve() if self.external and self.source.path is not None else folder

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return self.fact("nbytes", self._nbytes)

    def _nbytes(self) -> int:
        return sum(v.const_value.nbytes for v in self.ir.graph.initializers.values() if v.const_value is not None)

    @property
    def external(self) -> bool:
        """True if weights lie in files of their own."""
        return self.fact("external", self._external)

    def _external(self) -> bool:
        return any(isinstance(v.const_value, onnx_ir.ExternalTensor) for v in self.ir.graph.initializers.values())

    def save(self, path: str | Path) -> Path:
        """Write the model; weights beyond 2 GB go to `<path>.data` beside it. Returns the path.

        Raises:
            OutputError: it cannot be written; nothing is left behind.
        """
        path = Path(path)
        serial.save(self.ir, path, self.nbytes)
        return path

    def __repr__(self) -> str:
        steps = f", {'; '.join(self.history)}" if self.history else ""
        return f"Model('{self.source.name}', {len(self.ir.graph)} nodes{steps})"


def load(source: str | Path | bytes | Any) -> Model:
    """Load a model from a path, bytes or a ModelProto: see `Model.load`."""
    return Model.load(source)
