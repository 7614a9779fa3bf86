"""What the kernel is told of the pages of a mapped file: by itself it reads them where they are first touched.

Around each such place it reads ahead: 128 KB by default, megabytes on some machines. Of pictures that are taken in
random order that is read in vain, and where memory is short it pushes out what the next batch needs.
"""

from __future__ import annotations

import ctypes
import mmap

from torch import Tensor

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def scattered(images: Tensor) -> Tensor:
    """The same pictures, uint8 [N, C, H, W]: of them is read only what is touched from now on, or asked for."""
    if _large(images):
        _advise(images.data_ptr(), images.nbytes, mmap.MADV_RANDOM)
    return images


def ask_for(images: Tensor, rows: Tensor) -> None:
    """These rows (int64 [n]) are read next: all of them side by side, and without waiting for them."""
    if _large(images):
        each = images.shape[1:].numel()
        for row in rows.tolist():
            _advise(images.data_ptr() + row * each, each, mmap.MADV_WILLNEED)


def _large(images: Tensor) -> bool:
    """Those smaller than a page are left to the kernel: what it reads around one are others that are soon needed."""
    return images.device.type == "cpu" and images.shape[1:].numel() >= mmap.PAGESIZE


def _advise(start: int, length: int, advice: int) -> None:
    into_page = start % mmap.PAGESIZE
    _madvise(start - into_page, length + into_page, advice)  # where it is not taken, nothing is lost but time
