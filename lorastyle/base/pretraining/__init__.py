"""How the shipped miniature was made: a small autoencoder, then a small text-conditioned U-Net.

The parts are ordinary diffusers and transformers classes, so that the result is an ordinary
Stable Diffusion folder. Every draw is keyed by (seed, step): a training that is stopped and
resumed sees what an uninterrupted one sees.
"""

from lorastyle.base.pretraining.autoencoder import normalise_latents, train_vae
from lorastyle.base.pretraining.denoiser import train_denoiser
from lorastyle.base.pretraining.folder import assemble, write_folder
from lorastyle.base.pretraining.optimisation import Schedule
from lorastyle.base.pretraining.parts import (
    Architecture,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
from lorastyle.base.pretraining.words import write_tokenizer

__all__ = [
    "Architecture",
    "Schedule",
    "assemble",
    "build_scheduler",
    "build_text_encoder",
    "build_unet",
    "build_vae",
    "normalise_latents",
    "train_denoiser",
    "train_vae",
    "write_folder",
    "write_tokenizer",
]
