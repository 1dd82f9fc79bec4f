"""`Bound`: runs on a card, whose memory keeps what several runs need; and kernels recorded once for fixed shapes.

Not run on a card yet. The tests bind to the memory of the CPU, which goes the same way through onnxruntime.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from .providers import CUDA, GRAPHS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Provider = tuple[str, dict[str, Any]]
_SHARE = 4  # of a card's memory, what stays on it may take one part in so many
_KINDS = "fiub"  # numbers and truth values of NumPy itself: what is bound by address


class Card:
    """The memory of a device, and what stays there: copies of arrays, as long as these live.

    Args:
        kind: "cuda", or "cpu" for tests.
        number: of the card.
        room: bytes that may stay; what is more goes to the card with every run.
    """

    def __init__(self, kind: str, number: int, room: int) -> None:
        self.kind, self.number, self.room = kind, number, room
        self._held: dict[int, tuple[ort.OrtValue, Any]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, array: NDArray[Any]) -> NDArray[Any]:
        """The values as an array that nobody writes to, a copy of which lies on the card as long as it lives."""
        if self.find(array) is not None:
            return array
        if array.dtype.kind not in _KINDS or not 0 < array.nbytes <= self.room - self._taken():
            return array
        own = _own(np.array(array, order="C"))
        # Of a copy, since on the CPU a value holds the array that it was made of.
        return self._put(own, ort.OrtValue.ortvalue_from_numpy(own.copy(), self.kind, self.number), None)

    def keep(self, value: ort.OrtValue, session: ort.InferenceSession) -> NDArray[Any]:
        """What a run left on the card, as an array; it stays there as long as the array lives."""
        host = _fetched(value)
        if host.dtype.kind not in _KINDS or not 0 < host.nbytes <= self.room - self._taken():
            return host
        return self._put(_own(host), value, session)  # which owns the arena that the value lies in

    def find(self, array: NDArray[Any]) -> int | None:
        """The address on the card of an array that is held, or of a part of one; None if it is not there."""
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        there = self._held.get(id(owner))
        if there is None or owner.flags.writeable or not array.flags.c_contiguous:
            return None
        address: int = there[0].data_ptr()
        return address + array.ctypes.data - owner.ctypes.data

    def _put(self, own: NDArray[Any], value: ort.OrtValue, session: Any) -> NDArray[Any]:
        self._held[id(own)] = value, session
        weakref.finalize(own, self._held.pop, id(own), None)
        return own

    def _taken(self) -> int:
        return sum(value.tensor_size_in_bytes() for value, _ in list(self._held.values()))


def _fetched(value: ort.OrtValue) -> NDArray[Any]:
    """The values, in memory of their own: what lies on the CPU already is no copy."""
    array: NDArray[Any] = value.numpy()
    return array if array.base is None else array.copy()


def _own(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


@cache
def card(number: int) -> Card:
    """The card of a number: one for all engines of the process."""
    from . import memory

    return Card("cuda", number, memory.of_card(number) // _SHARE)


def held(array: NDArray[Any], provider: Provider) -> NDArray[Any]:
    """The values, for runs that get this very array, or parts of it: on a card they lie there from now on."""
    return card(provider[1]["device_id"]).hold(array) if provider[0] == CUDA else array


def opened(model: bytes | str, options: ort.SessionOptions, providers: Sequence[Provider]) -> ort.InferenceSession:
    """A session that never goes over to the CPU by itself; one that records no kernels where it cannot."""
    try:
        return ort.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    except Exception:
        plain = [(name, {k: v for k, v in how.items() if k != GRAPHS}) for name, how in providers]
        if plain == list(providers):
            raise
        return ort.InferenceSession(model, options, providers=plain, enable_fallback=0)


def bound(compiled: ort.InferenceSession, provider: Provider) -> Bound | None:
    """How a session runs on a provider's card; None if that has none."""
    if provider[0] != CUDA:
        return None
    recorded = compiled.get_provider_options()[CUDA].get(GRAPHS) == "1"
    return (Recorded if recorded else Bound)(compiled, card(provider[1]["device_id"]))


class Bound:
    """A session whose inputs may lie on a card already, and whose outputs may stay there."""

    def __init__(self, compiled: ort.InferenceSession, card: Card) -> None:
        self.compiled, self.card = compiled, card
        kinds = [value.type for value in (*compiled.get_inputs(), *compiled.get_outputs())]
        self.plain = any(not kind.startswith("tensor(") or "string" in kind for kind in kinds)

    def run(
        self,
        outputs: Sequence[str],
        feeds: Mapping[str, NDArray[Any]],
        stay: Collection[str] = (),
        how: ort.RunOptions | None = None,
    ) -> list[NDArray[Any]]:
        """The values of outputs; those of `stay` can be given to later runs without a way back to the card."""
        found = {name: self.card.find(value) for name, value in feeds.items()}
        if self.plain or not (stay or any(found.values())):
            return self.compiled.run(list(outputs), dict(feeds), how)  # type: ignore[no-any-return]
        binding = self.compiled.io_binding()
        for name, value in feeds.items():
            if (address := found[name]) is None:
                binding.bind_cpu_input(name, np.asarray(value, order="C"))
            else:
                binding.bind_input(name, self.card.kind, self.card.number, value.dtype.type, value.shape, address)
        for name in outputs:
            binding.bind_output(name, *((self.card.kind, self.card.number) if name in stay else ()))
        self._through(binding, how)
        values = dict(zip(outputs, binding.get_outputs(), strict=True))
        return [self.card.keep(v, self.compiled) if name in stay else v.numpy() for name, v in values.items()]

    def _through(self, binding: ort.IOBinding, how: ort.RunOptions | None = None) -> None:
        """Run; copies are made on a stream of their own, so each side waits for the other."""
        binding.synchronize_inputs()
        self.compiled.run_with_iobinding(binding, how)
        binding.synchronize_outputs()


class Recorded(Bound):
    """A session whose kernels are recorded (a CUDA graph) for the first shapes that come twice running, and replayed.

    A recording reads and writes where it did the first time: inputs and outputs have places of their own, which are
    filled before a replay and read behind it. Other shapes run as usual.
    """

    def __init__(self, compiled: ort.InferenceSession, card: Card) -> None:
        super().__init__(compiled, card)
        # An input that is wanted on the CPU is copied there when it is bound, and would stay what it was.
        self.plain |= any(info.name == "Cpu" for info in compiled.get_input_memory_infos())
        self._lock = Lock()
        self._last: tuple[Any, ...] = ()
        self._places: tuple[dict[str, ort.OrtValue], list[ort.OrtValue], ort.IOBinding] | None = None
        self._once = ort.RunOptions()
        self._once.add_run_config_entry("gpu_graph_id", "-1")  # which records nothing

    def run(
        self,
        outputs: Sequence[str],
        feeds: Mapping[str, NDArray[Any]],
        stay: Collection[str] = (),
        how: ort.RunOptions | None = None,
    ) -> list[NDArray[Any]]:
        """As `Bound.run`; what stays of a replay is put on the card anew, as the next one writes to the same place."""
        shapes = (*outputs, *sorted((name, v.shape, v.dtype.str) for name, v in feeds.items()))
        with self._lock:
            if self._places is not None and shapes == self._last:
                inputs, results, binding = self._places
                for name, value in feeds.items():
                    inputs[name].update_inplace(np.asarray(value, order="C"))
                self._through(binding)
                found = [_fetched(value) for value in results]
            else:
                found = super().run(outputs, feeds, (), self._once)
                if self._places is None and not self.plain:
                    if shapes == self._last:
                        self._places = self._laid_out(outputs, feeds, found)
                    self._last = shapes
        return [self.card.hold(v) if name in stay else v for name, v in zip(outputs, found, strict=True)]

    def _laid_out(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]], found: Sequence[NDArray[Any]]
    ) -> tuple[dict[str, ort.OrtValue], list[ort.OrtValue], ort.IOBinding]:
        """Places for inputs and outputs of these shapes, and their binding."""
        at = (self.card.kind, self.card.number)
        inputs = {k: ort.OrtValue.ortvalue_from_numpy(np.array(v, order="C"), *at) for k, v in feeds.items()}
        results = [ort.OrtValue.ortvalue_from_shape_and_type(v.shape, v.dtype.type, *at) for v in found]
        binding = self.compiled.io_binding()
        for name, place in inputs.items():
            binding.bind_ortvalue_input(name, place)
        for name, place in zip(outputs, results, strict=True):
            binding.bind_ortvalue_output(name, place)
        return inputs, results, binding
