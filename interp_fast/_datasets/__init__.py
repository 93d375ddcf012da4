"""Training sets for the command line: digits, fashion-mnist, arrays on disk, folders of images.

Bytes become float32 in [-1, 1] by 2/255 byte - 1, digits (0 ... 16) and pictures of 16 bits likewise; floating-point
rows are used as they are. Rows that are compared with a training set are brought to its range and layout.
"""

from .._shape import Shape
from ._input_error import InputError
from ._load import KINDS, Dataset, check_columns, file_of, load, matched, read_rows

__all__ = ["KINDS", "Dataset", "InputError", "Shape", "check_columns", "file_of", "load", "matched", "read_rows"]
