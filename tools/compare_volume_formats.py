"""Room, writing, and reading of one window, for the formats in which prepared volumes could be kept.

Blosc2 frames at an offset in a shard (what `medfm3d data shard` writes, and other settings), the memory-mapped tensor
of the cache, and, where they are installed, Zarr 3 with sharding (`pip install zarr`) and LMDB as MONAI uses it
(`pip install lmdb`). A tar shard, as WebDataset reads it, stands for formats that give a volume whole. Times are CPU
times of this process, which other programs change least; files are dropped from memory before windows are read cold.
"""

import argparse
import importlib.util
import io
import pickle
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import blosc2
import numpy as np
import torch
from benchmark_data_loading import bytes_read, forget

from medfm3d.pretraining import PretrainingCohort

Reader = Callable[[tuple[slice, ...]], np.ndarray]
ZSTD, LZ4, SHUFFLE, BITSHUFFLE = blosc2.Codec.ZSTD, blosc2.Codec.LZ4, blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE
BLOSC2 = (
    ("zstd 1, 64/32 (medfm3d)", ZSTD, 1, SHUFFLE, 64, 32),
    ("zstd 5, 64/32", ZSTD, 5, SHUFFLE, 64, 32),
    ("zstd 1, 128/64", ZSTD, 1, SHUFFLE, 128, 64),
    ("lz4 5 bits, 64/32", LZ4, 5, BITSHUFFLE, 64, 32),
)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="a scan, several hundred voxels along each axis")
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = {"image": str(arguments.scan)}
    for transform in PretrainingCohort(arguments.scan).preprocessing():
        data = transform(data)
    volume = data["image"][0].numpy()
    print(f"{volume.shape}, {volume.nbytes / 1e6:.1f} MB as float16; windows of {arguments.window}^3\n")
    print("| format | of float16 | writing, CPU s | MB read for a window, cold | CPU ms a window | files |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, write in formats(volume).items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            read = write(Path(folder))
            written_s = time.process_time() - started
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            cold, spent_s = measure(read, volume, files, arguments)
            size = sum(file.stat().st_size for file in files) / volume.nbytes
            print(f"| {name} | {size:.2f} | {written_s:.2f} | {cold / 1e6:.1f} | {1e3 * spent_s:.1f} | {len(files)} |")


def measure(
    read: Reader, volume: np.ndarray, files: Sequence[Path], arguments: argparse.Namespace
) -> tuple[float, float]:
    """Return the bytes read for a window that is not in memory, and the CPU seconds for one that is."""
    rng = np.random.default_rng(arguments.seed)
    places = [
        [int(rng.integers(side - arguments.window + 1)) for side in volume.shape] for _ in range(arguments.windows)
    ]
    slices = [tuple(slice(start, start + arguments.window) for start in place) for place in places]
    counter = Path("/proc/self/io")
    taken = 0
    for window in slices:
        for file in files:
            forget(file)
        before = bytes_read(counter)
        assert np.array_equal(read(window), volume[window])
        taken += bytes_read(counter) - before
    started = time.process_time()
    for window in slices:
        read(window).astype(np.float32)
    return taken / len(slices), (time.process_time() - started) / len(slices)


def formats(volume: np.ndarray) -> dict[str, Callable[[Path], Reader]]:
    """Return, by name, functions that write the volume to a folder and return what reads a window from there."""
    found: dict[str, Callable[[Path], Reader]] = {"tensor, memory-mapped": lambda folder: tensor_file(volume, folder)}
    for name, *settings in BLOSC2:
        found[f"Blosc2 {name}"] = lambda folder, settings=settings: blosc2_shard(volume, folder, *settings)
    if importlib.util.find_spec("zarr"):
        found["Zarr 3, sharded, zstd 1, 32"] = lambda folder: zarr_array(volume, folder)
    if importlib.util.find_spec("lmdb"):
        found["LMDB, pickled"] = lambda folder: lmdb_entry(volume, folder)
    found["tar of zstd volumes"] = lambda folder: tar_shard(volume, folder)
    return found


def tensor_file(volume: np.ndarray, folder: Path) -> Reader:
    """Write what the cache holds."""
    torch.save({"image": torch.from_numpy(volume)}, folder / "a.pt")
    return lambda window: torch.load(folder / "a.pt", weights_only=True, mmap=True)["image"][window].numpy()


def blosc2_shard(volume: np.ndarray, folder: Path, codec, level: int, filter_, chunk: int, block: int) -> Reader:
    """Write a shard of one volume."""
    packing = {"codec": codec, "clevel": level, "filters": [filter_], "nthreads": 1}
    frame = blosc2.asarray(volume, chunks=(chunk,) * 3, blocks=(block,) * 3, cparams=packing).to_cframe()
    file = folder / "a.b2"
    file.write_bytes(bytes(64) + frame)
    return lambda window: blosc2.open(str(file), mode="r", offset=64, dparams={"nthreads": 1})[window]


def zarr_array(volume: np.ndarray, folder: Path) -> Reader:
    """Write an array of one shard."""
    import zarr
    from zarr.codecs import BloscCodec

    shard = tuple(-(-side // 32) * 32 for side in volume.shape)
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
    array = zarr.create_array(
        folder / "a.zarr", shape=volume.shape, dtype="float16", chunks=(32,) * 3, shards=shard, compressors=codec
    )
    array[:] = volume
    return lambda window: zarr.open_array(folder / "a.zarr", mode="r")[window]


def lmdb_entry(volume: np.ndarray, folder: Path) -> Reader:
    """Write a database of one value."""
    import lmdb

    with lmdb.open(str(folder), map_size=4 * volume.nbytes) as database, database.begin(write=True) as transaction:
        transaction.put(b"a", pickle.dumps({"image": volume}, protocol=pickle.HIGHEST_PROTOCOL))

    def read(window: tuple[slice, ...]) -> np.ndarray:
        # Opened for each window, so that its memory map does not keep the file in memory.
        with lmdb.open(str(folder), readonly=True, lock=False) as database, database.begin() as transaction:
            return pickle.loads(transaction.get(b"a"))["image"][window]

    return read


def tar_shard(volume: np.ndarray, folder: Path) -> Reader:
    """Write a tar file of one compressed volume."""
    packing = {"codec": ZSTD, "clevel": 1, "filters": [SHUFFLE], "nthreads": 1}
    frame = blosc2.asarray(volume, cparams=packing).to_cframe()
    member = tarfile.TarInfo("a.b2")
    member.size = len(frame)
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.addfile(member, io.BytesIO(frame))

    def read(window: tuple[slice, ...]) -> np.ndarray:
        with tarfile.open(folder / "a.tar") as archive:
            return blosc2.ndarray_from_cframe(archive.extractfile("a.b2").read())[:][window]

    return read


if __name__ == "__main__":
    main()
