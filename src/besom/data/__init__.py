"""From files to batches: sources, splits, the DataModule."""

from besom.data.module import ImageData
from besom.data.sources import Images, digits, image_folder

__all__ = ["ImageData", "Images", "digits", "image_folder"]
