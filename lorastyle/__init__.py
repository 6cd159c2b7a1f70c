"""Read the artistic style of a LoRA adapter from its weights alone.

Importing this package loads neither torch, diffusers nor ray; import the
subpackage you need.
"""

__version__ = "0.1.0"
