"""The errors of onnx_inspect. Every message is a sentence: what was wrong, where, and what to do.

    InspectError
    ├── ModelError            the file is not a model that can be inspected
    │   └── UnsupportedError  a valid model, but something in it is beyond this tool
    │       └── MissingRule   an operator without a gradient rule
    ├── LayerError            no such layer or tensor
    ├── TargetError           no such class, output or element, or it does not depend on the layer
    │   └── AbsentError       a good target, but not on this photo
    ├── PhotoError            a photo that cannot be read or does not fit the model
    ├── InputError            feeds missing, or of the wrong shape or type
    ├── DeviceError           the device asked for cannot run
    ├── ResultError           NaN or nothing at all where a result should be
    └── OutputError           a result could not be written

The command line turns any of them into one line on stderr and exit code 2.
"""

from __future__ import annotations


class InspectError(Exception):
    """Base of all errors that onnx_inspect raises on purpose."""


class ModelError(InspectError):
    """The file is not a model that can be inspected."""


class UnsupportedError(ModelError):
    """The model is valid, but something in it is beyond this tool; the message names node and op."""


class MissingRule(UnsupportedError):
    """An operator on the path from the target to the wanted tensor has no gradient rule."""


class LayerError(InspectError):
    """No such layer or tensor in the model."""


class TargetError(InspectError):
    """No such class, output or element, or the target does not depend on the wanted tensor."""


class AbsentError(TargetError):
    """What is to be explained is not on this photo: a class that is predicted nowhere, a box that is not there."""


class PhotoError(InspectError):
    """A photo cannot be read or does not fit the model."""


class InputError(InspectError):
    """Feeds are missing, or have the wrong shape or type."""


class DeviceError(InspectError):
    """The device asked for cannot run on this machine."""


class ResultError(InspectError):
    """The result is not a number, or nothing at all."""


class OutputError(InspectError):
    """A result could not be written."""
