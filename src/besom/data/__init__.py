"""From files to batches: sources, the cache they are decoded into, splits, the DataModule."""

from besom.data.augment import augmentation
from besom.data.cache import decoded
from besom.data.images import Chunk, Images, RawDataset
from besom.data.module import Batch, Batches, ImageData
from besom.data.parts import Splits
from besom.data.sources import digits, fake, image_folder, read_pictures
from besom.data.vision import vision

__all__ = [
    "Batch",
    "Batches",
    "Chunk",
    "ImageData",
    "Images",
    "RawDataset",
    "Splits",
    "augmentation",
    "decoded",
    "digits",
    "fake",
    "image_folder",
    "read_pictures",
    "vision",
]
