"""The images and texts that an adapter is trained on, by the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lorastyle.corpus.captions import with_identifier
from lorastyle.errors import CorpusError
from lorastyle.records import AdapterSpec


@dataclass(frozen=True)
class CataloguedImage:
    """What training needs to know of an image."""

    path: Path
    caption: str
    content_hash: str


def index_catalogue(catalogue: pd.DataFrame, root: Path) -> dict[str, CataloguedImage]:
    """The catalogue's images by id, with absolute paths."""
    columns = (catalogue[name] for name in ("image_id", "path", "caption", "content_hash"))
    return {
        str(image_id): CataloguedImage(root / str(path), str(caption), str(content_hash))
        for image_id, path, caption, content_hash in zip(*columns, strict=True)
    }


def images_of(spec: AdapterSpec, images: Mapping[str, CataloguedImage]) -> list[CataloguedImage]:
    """An adapter's images in its order. Raises CorpusError naming one that is not there."""
    missing = [image_id for image_id in spec.image_ids if image_id not in images]
    if missing:
        raise CorpusError(
            f"adapter {spec.adapter_id!r} wants {len(missing)} images that the catalogue lacks, "
            f"first {missing[0]!r}; plan the run again with --force"
        )
    return [images[image_id] for image_id in spec.image_ids]


def texts_of(
    spec: AdapterSpec, images: Sequence[CataloguedImage], *, identifier: bool
) -> list[str]:
    """The texts an adapter is trained with: its token before each caption."""
    token = spec.token if identifier else ""
    return [with_identifier(token, image.caption) for image in images]
