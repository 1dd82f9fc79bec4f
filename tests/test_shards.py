import os
import random
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onnx_inspect.errors import OutputError
from onnx_inspect.photos import tables
from onnx_inspect.photos.shards import Shards

PLAN = {"model": "abc", "layer": "conv1", "flag": 1, "preprocessing": {"mean": [0.5, 0.25], "layout": "NCHW"}}
SCHEMA = pa.schema({"path": pa.string(), "vector": pa.list_(pa.float32(), 4)})


def table(start, stop):
    rows = [{"path": f"{i}.png", "vector": np.random.default_rng(i).random(4, np.float32)} for i in range(start, stop)]
    return pa.Table.from_pylist(rows, SCHEMA)


def fill(shards):
    for shard, start, stop in shards.missing():
        shards.write(shard, table(start, stop))


def test_pieces_come_back_in_order_and_nothing_is_left(tmp_path):
    with Shards(tmp_path / "new" / "parts", PLAN, 25, 10) as shards:
        assert list(shards.missing()) == [(0, 0, 10), (1, 10, 20), (2, 20, 25)]
        shards.write(2, table(20, 25))
        shards.write(0, table(0, 10))
        assert list(shards.missing()) == [(1, 10, 20)]
        with pytest.raises(OutputError, match=r"Part 1 in .* is missing or damaged: run the command again"):
            list(shards.tables())
        fill(shards)
        assert not list(shards.missing()) and pa.concat_tables(shards.tables()) == table(0, 25)
        shards.done()
    assert list((tmp_path / "new").iterdir()) == []


def test_work_goes_on_where_it_was(tmp_path):
    with Shards(tmp_path / "parts", PLAN, 30, 10) as shards:
        shards.write(0, table(0, 10))
    (tmp_path / "parts" / ".0123456789abcdef.parquet").write_text("half a shard")
    (tmp_path / "parts" / "mine.txt").write_text("something else")
    with Shards(tmp_path / "parts", dict(reversed(PLAN.items())), 30, 10) as shards:
        assert list(shards.missing()) == [(1, 10, 20), (2, 20, 30)]
        fill(shards)
        shards.done()
    assert [p.name for p in (tmp_path / "parts").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("plan, count, says", [
    (PLAN | {"layer": "conv2"}, 30, 'layer was "conv1" and is "conv2" now'),
    (PLAN | {"preprocessing": {"mean": [0.5, 0.5], "layout": "NCHW"}}, 30, r"preprocessing.mean was \[0.5, 0.25\] and is \[0.5, 0.5\] now"),
    (PLAN | {"flag": True}, 30, "flag was 1 and is true now"),
    (PLAN | {"seed": 3}, 30, "seed was null and is 3 now"),
    ({"model": "abc", "layer": True}, 30, 'layer was "conv1" and is true now'),
    (PLAN, 31, "count was 30 and is 31 now"),
    (PLAN | {"model": "x" * 99}, 30, "model was \"abc\" and is \"x{56}... now"),
])  # fmt: skip
def test_another_plan_is_refused(tmp_path, plan, count, says):
    with Shards(tmp_path, PLAN, 30, 10) as shards:
        shards.write(0, table(0, 10))
    with pytest.raises(OutputError) as caught:  # which keeps alive what was made
        Shards(tmp_path, plan, count, 10)
    assert re.search(
        rf"unfinished work of another kind: {says}\. Give the same options again .*, name another place with -o, or",
        str(caught.value),
    )
    with Shards(tmp_path, PLAN, 30, 10) as shards:
        assert len(list(shards.missing())) == 2


def test_shards_without_a_plan_are_nobodys(tmp_path):
    with Shards(tmp_path, PLAN, 30, 10) as shards:
        shards.write(0, table(0, 10))
    (tmp_path / "plan.json").unlink()
    with Shards(tmp_path, PLAN | {"layer": "conv2"}, 30, 10) as shards:
        assert len(list(shards.missing())) == 3
    (tmp_path / "plan.json").write_text('{"model": ')
    with pytest.raises(OutputError, match=r"plan\.json is damaged: remove the folder"):
        Shards(tmp_path, PLAN, 30, 10)


def test_a_damaged_shard_is_missing(tmp_path):
    with Shards(tmp_path, PLAN, 6, 3) as shards:
        fill(shards)
        path = next(tmp_path.glob("00000001.*"))
        good = path.read_bytes()
        step = max(1, len(good) // 150)
        for k in range(0, len(good), step):
            for bad in (good[:k], good[:k] + b"\0" * (len(good) - k), good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :]):
                path.write_bytes(bad)
                assert list(shards.missing()) == [(1, 3, 6)]
        with pytest.raises(OutputError, match="Part 1"):
            list(shards.tables())
        fill(shards)
        assert path.read_bytes() == good and len(list(tmp_path.glob("*.parquet"))) == 2
        shards.write(1, table(0, 3))  # another table takes the place of the first
        assert len(list(tmp_path.glob("00000001.*"))) == 1


def test_one_process_at_a_time(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom onnx_inspect.photos.shards import Shards\n"
        f"shards = Shards(Path(sys.argv[1]), {PLAN!r}, 30, 10)\nprint('in', flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        try:
            with pytest.raises(OutputError, match=r"Another process is working in .*: wait for it, or name another"):
                Shards(tmp_path, PLAN, 30, 10)
        finally:
            other.kill()
    with Shards(tmp_path, PLAN, 30, 10), pytest.raises(OutputError, match="Another process"):
        Shards(tmp_path, PLAN, 30, 10)
    with pytest.raises(OutputError, match="another kind"):
        Shards(tmp_path, {}, 30, 10)
    Shards(tmp_path, PLAN, 30, 10).close()


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
def test_a_lock_that_its_owner_removed_is_none(tmp_path, monkeypatch):
    """The owner is done between the other's opening of the lock file and locking it."""
    from onnx_inspect.photos import shards

    first, real = Shards(tmp_path / "parts", PLAN, 0), shards._lock
    calls = []

    def late(file):
        if not calls:
            first.done()
        calls.append(file)
        return real(file)

    monkeypatch.setattr(shards, "_lock", late)
    with Shards(tmp_path / "parts", PLAN, 0), pytest.raises(OutputError, match="Another process"):
        Shards(tmp_path / "parts", PLAN, 0)
    assert len(calls) == 3


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot work in .*file: "):
        Shards(tmp_path / "file", PLAN, 30)
    with pytest.raises(OutputError, match="Cannot write"):
        tables.write(tmp_path / "file" / "x.parquet", SCHEMA, [table(0, 3)])


def test_one_file_of_many_tables(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        tables.write(tmp_path / name, SCHEMA, (table(k, k + 5) for k in range(0, 20, 5)))
        time.sleep(0.01)
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert found.read() == table(0, 20) and found.metadata.num_row_groups == 4
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    tables.write(tmp_path / "a.parquet", SCHEMA, [table(0, 0)])
    assert pq.read_table(tmp_path / "a.parquet") == table(0, 0)
    with pytest.raises(ValueError):
        tables.write(tmp_path / "b.parquet", SCHEMA, [table(0, 3), pa.table({"path": [1]})])
    assert pq.read_table(tmp_path / "b.parquet") == table(0, 20) and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("sizes", [[], [3], [0, 5, 1, 0], [1] * 12])
def test_vectors_are_an_array_of_numpy(tmp_path, sizes):
    whole = np.random.default_rng(0).random((sum(sizes), 7))
    blocks = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    assert tables.write_vectors(tmp_path / "vectors.npy", 7, blocks) == len(whole)
    found = np.load(tmp_path / "vectors.npy", mmap_mode="r" if len(whole) else None)
    assert found.dtype == np.float32 and found.shape == (len(whole), 7) and found.flags.c_contiguous
    np.testing.assert_array_equal(found, whole.astype(np.float32))


def test_vectors_are_whole_or_none(tmp_path):
    path = tmp_path / "vectors.npy"
    tables.write_vectors(path, 2, [np.ones((3, 2), np.float16, order="F")])
    for bad in ([np.ones((3, 2)), np.ones((3, 3))], [np.ones(2)], (1 / 0 for _ in "a")):
        with pytest.raises((ValueError, ZeroDivisionError)):
            tables.write_vectors(path, 2, bad)
    assert np.load(path).tolist() == [[1, 1]] * 3 and list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_number(tmp_path):
    tables.write_vectors(tmp_path / "warm.npy", 1000, [])
    tracemalloc.start()
    tables.write_vectors(tmp_path / "vectors.npy", 1000, (np.full((100, 1000), k, np.float32) for k in range(50)))
    assert tracemalloc.get_traced_memory()[1] < 2.5 * 100 * 1000 * 4
    tracemalloc.stop()
    assert np.load(tmp_path / "vectors.npy", mmap_mode="r")[::100, 0].tolist() == list(range(50))


WORK = """
import sys, time
from pathlib import Path
import numpy as np
from onnx_inspect.photos import tables
from onnx_inspect.photos.shards import Shards
from onnx_inspect.photos.stream import ordered
from tests.test_shards import PLAN, SCHEMA, table

out = Path(sys.argv[1])

def merged():
    for found in shards.tables():
        print("merging", flush=True)
        time.sleep(0.002)
        yield found

with Shards(out / "parts", PLAN, 400, 10) as shards:
    todo = list(shards.missing())
    print("todo", len(todo), flush=True)
    for (shard, _, _), found in zip(todo, ordered(todo, lambda t: time.sleep(0.002) or table(*t[1:]), 2)):
        shards.write(shard, found)
        print("shard", shard, flush=True)
    tables.write(out / "out.parquet", SCHEMA, merged())
    tables.write_vectors(out / "out.npy", 4, (np.stack(t["vector"].to_numpy()) for t in merged()))
    shards.done()
"""


def start(folder):
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )


def test_killed_work_ends_with_the_same_bytes(tmp_path):
    chance, todo = random.Random(0), []
    for lines in (chance.randrange(3, 20), chance.randrange(3, 15), 80):
        process = start(tmp_path / "killed")
        todo.append(int(process.stdout.readline().split()[1]))
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(chance.random() * 0.01)
        process.kill()
        process.communicate()
        assert process.returncode != 0 and not (tmp_path / "killed" / "out.npy").exists()
    for name in ("killed", "undisturbed"):
        process = start(tmp_path / name)
        todo.append(int(process.communicate(timeout=60)[0].split()[1]))
        assert process.returncode == 0
    assert todo[0] == 40 > todo[1] > todo[2] > todo[3] == 0 and todo[4] == 40
    for name in ("out.parquet", "out.npy"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    leftovers = {p.name for p in (tmp_path / "killed").iterdir()} - {"out.parquet", "out.npy"}
    assert all(name.startswith(".") for name in leftovers)
