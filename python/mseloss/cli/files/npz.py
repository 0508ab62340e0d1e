"""The .npz format: a zip archive of .npy files. Stored members are mapped, compressed ones are loaded."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from contextlib import contextmanager

import numpy as np

from mseloss.cli.files import npy
from mseloss.cli.files.copying import BLOCK, blocks, copy_bytes
from mseloss.cli.files.errors import ContentError, reason
from mseloss.cli.files.names import choose

# Local file header: signature, version, flags, method, time, date, CRC, compressed size, size, name length,
# extra length (APPNOTE.TXT 4.3.7).
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _SIZES_FOLLOW, _UTF8 = 1 << 0, 1 << 3, 1 << 11  # flags
_IN_EXTRA = 0xFFFFFFFF  # the size is in the zip64 extra field
_METHODS = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflate",
    zipfile.ZIP_BZIP2: "bzip2",
    zipfile.ZIP_LZMA: "LZMA",
}


def read(file, path, name):
    """The array `name` of the archive in the open file: mapped if its member is stored, else loaded.

    The local header must agree with the archive's directory, and the CRC-32 is verified before returning.
    """
    with _opened(file) as archive:
        info = _member(archive, path, name)
        try:
            begin = _locate(archive, file, info)
            if info.compress_type != zipfile.ZIP_STORED:
                return _load(archive, info)
            crc = 0
            for block in blocks(file, begin, info.file_size):
                crc = zlib.crc32(block, crc)
            if crc != info.CRC:
                raise ContentError("its CRC-32 is wrong, the data are damaged")
            file.seek(begin)
            shape, order, dtype, header = npy.read_header(file, info.file_size)
            return npy.mapped(file, dtype, begin + header, shape, order)
        except Exception as error:  # zlib.error, LZMAError, ...
            raise ContentError(f"{info.filename}: {reason(error)}") from None


@contextmanager
def add(file, old, name, shape, dtype):
    """Writes an archive to `file`: the members of the open archive `old` (or None) and the new array `name`.

    Yields the file object that takes the new array's data. The other members keep their bytes and so their
    compression; the new one is stored.
    """
    array = _name_of(old, name)
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        if old is not None:
            _keep(archive, file, old, without={array, f"{array}.npy"})
        with archive.open(f"{array}.npy", "w", force_zip64=True) as member:
            npy.write_header(member, shape, dtype)
            yield member


def replaces(file, path, new, name):
    """Whether add() of an array `new` to the open archive replaces the one that read() finds for `name`."""
    array = _name_of(file, new)
    with _opened(file) as archive:
        return _member(archive, path, name).filename in (array, f"{array}.npy")


def _name_of(old, name):
    """The name without suffix of the member for a new array `name` in the open archive `old` (or None)."""
    array = name.removesuffix(".npy")
    # An array "x.npy" is the member "x.npy.npy", unless there is a member "x.npy": the rule of _member().
    if old is not None and array != name:
        with _opened(old) as source:
            members = source.namelist()
        if name not in members and f"{name}.npy" in members:
            array = name
    return array


def _opened(file):
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise ContentError(f"not a readable .npz file: {error}") from None


def _member(archive, path, name):
    """The member that NumPy reads for `name`; the only array if `name` is None."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    by_name = {info.filename.removesuffix(".npy"): info for info in infos}
    exact = {info.filename: info for info in infos}
    if name in exact:
        return exact[name]
    if name is None:
        arrays = [n for n, info in by_name.items() if info.filename.endswith(".npy")]
        return by_name[choose(path, arrays or list(by_name), None)]
    return by_name[choose(path, list(by_name), name)]


def _locate(archive, file, info):
    """Offset of the member's data. Raises ContentError unless local header and directory agree."""
    if info.flag_bits & _ENCRYPTED:
        raise ContentError("protected by a password, which is not supported")
    if info.compress_type not in _METHODS:
        raise ContentError(f"compression method {info.compress_type}, expected one of {_known()}")
    archive.open(info).close()  # checks signature, name and flags
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
    file.seek(name_length, 1)
    extra = file.read(extra_length)
    if flags & _ENCRYPTED:
        raise ContentError("protected by a password, which is not supported")
    if method != info.compress_type:
        raise ContentError("its two headers name different compression methods")
    size, packed = _zip64_sizes(extra, size, packed)
    unknown = {0} if flags & _SIZES_FOLLOW else set()
    for local, listed in ((crc, info.CRC), (packed, info.compress_size), (size, info.file_size)):
        if local != listed and local not in unknown:
            raise ContentError("its two headers give different sizes or checksums")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ContentError("stored, but its two sizes differ")
    begin = info.header_offset + _LOCAL.size + name_length + extra_length
    if begin + info.compress_size > _regions(archive)[info.header_offset]:
        raise ContentError("its data overlap the next member or the archive's directory")
    return begin


def _known():
    return ", ".join(f"{number} ({text})" for number, text in _METHODS.items())


def _regions(archive):
    """For each member {offset of its local header: end of its region}, the next member or the directory."""
    offsets = sorted(info.header_offset for info in archive.infolist())
    ends = [*offsets[1:], archive.start_dir]
    if len(set(offsets)) < len(offsets):
        raise ContentError("two of the archive's members lie at the same place")
    return dict(zip(offsets, ends, strict=False))


def _zip64_sizes(extra, size, packed):
    """Both sizes of a local header, read from its zip64 extra field (id 1) if they exceed 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        content = extra[at + 4 : at + 4 + length]
        if kind == 1:
            values = iter(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
            size = next(values, size) if size == _IN_EXTRA else size
            packed = next(values, packed) if packed == _IN_EXTRA else packed
        at += 4 + length
    return size, packed


def _load(archive, info):
    with archive.open(info) as member:
        shape, order, dtype, _ = npy.read_header(member, info.file_size)
        flat = np.empty(math.prod(shape), dtype)
        raw = memoryview(flat.view(np.uint8))
        done = 0
        while done < len(raw):
            count = member.readinto(raw[done : done + BLOCK])
            if not count:
                raise ContentError("its compressed data end early")
            done += count
        member.read(1)  # at the end zipfile verifies the CRC-32
        return flat.reshape(shape, order=order)


def _keep(archive, file, old, without):
    """Copies the members of the open file `old`, except those named, to the new `archive` in `file`."""
    with _opened(old) as source:
        infos = sorted(source.infolist(), key=lambda info: info.header_offset)
        regions = _regions(source)
        archive.comment = source.comment
        if infos:
            copy_bytes(
                old, 0, infos[0].header_offset, file
            )  # prefix, as of self-extracting archives
        for info in infos:
            size = regions[info.header_offset] - info.header_offset
            old.seek(info.header_offset)
            if size < _LOCAL.size or old.read(4) != zipfile.stringFileHeader:
                raise ContentError(f"{info.filename}: its offset in the archive is wrong")
            if info.filename in without:
                continue
            # zipfile would write such a name to the directory in another encoding than the local header's.
            if info.filename != info.orig_filename or not (
                info.filename.isascii() or info.flag_bits & _UTF8
            ):
                raise ContentError(f"{info.filename}: a name that cannot be kept")
            place = file.tell()
            copy_bytes(old, info.header_offset, size, file)
            info.header_offset = place
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
        archive.start_dir = file.tell()
