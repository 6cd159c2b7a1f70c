"""AbC: CLIP or DINO, tuned to tell which images a customised model was made from.

The tuning is a linear map behind the frozen network, one for original images and one for
generated ones, and unit length. Source: Wang et al. 2023, "Evaluating data attribution for
text-to-image models"; github.com/PeterWang512/GenDataAttribution, `weights/mapper/*_tuned.pth`.
"""

from __future__ import annotations

from lorastyle.features.encoder import Encoder, UnitLength, linear_head
from lorastyle.features.layouts import refuse_other_keys
from lorastyle.features.tensor_file import read_tensors
from lorastyle.features.weights import Weights

MAPPERS = ("real_mapper", "synth_mapper")


def mapped_encoder(backbone: Encoder, mapper: Weights, *, generated: bool) -> Encoder:
    """A network with the mapper for originals, or for generated images, behind it.

    Raises FeatureError.
    """
    where = f"AbC mapper {mapper}"
    tensors = read_tensors(mapper.paths)
    wanted = [f"{name}.{kind}" for name in MAPPERS for kind in ("weight", "bias")]
    refuse_other_keys(where, tensors, wanted)
    chosen = MAPPERS[generated]
    head = linear_head(
        where, tensors, f"{chosen}.weight", f"{chosen}.bias", width=backbone.dimension
    )
    return backbone.with_head(head, UnitLength(), dimension=head.out_features)
