"""Rows take and give tensors; whatever takes or gives sequences and optionals is in `tests/test_sequences.py`."""

from __future__ import annotations

from .harness import Case, normal

ELSEWHERE = set("SequenceConstruct SequenceAt SequenceInsert SequenceErase SequenceMap Optional".split())
ELSEWHERE |= {"ConcatFromSequence", "SplitToSequence"}
CASES = [Case("OptionalGetElement", [normal(3, 4)])]
