"""`Experiment`: one typed description of a run, read from YAML.

YAML holds differences from the defaults only. Unknown keys are refused, so
that a misspelt setting cannot silently do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lorastyle.errors import ConfigError
from lorastyle.records import Role, digest
from lorastyle.sub_networks import check_entry

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Representation = Literal["factors", "delta", "delta-aligned"]
SubNetwork = Literal["full", "feed_forward", "self_attention", "cross_attention"]
CalibrationForm = Literal["full", "simple", "none"]


def _check_modules(entry: str) -> str:
    try:
        return check_entry(entry)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Modules = Annotated[str, AfterValidator(_check_modules)]
"""A sub-network by expression, or a family of them, without spaces."""


def _refuse_url(value: object) -> object:
    """Images are read from a directory: ValueError for a URL."""
    if "://" in str(value):
        raise ValueError(
            f"{value} is a URL, and images are read from a directory of the machine that "
            "plans; mount or copy it, and name the directory"
        )
    return value


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusConfig(Section):
    """Where the images come from."""

    source: Literal["procedural", "folder", "adapters"] = "procedural"
    """`procedural` paints its own; `folder` reads PATH/ARTIST/IMAGE; with `adapters` there are no
    images, and all adapters come from elsewhere (`lorastyle ingest`)."""
    path: Path | None = None
    """Folder of images by artist. Only for `folder`."""
    metadata: Path | None = None
    """CSV with a column `file` and any of `artist`, `genre`, `caption`.
    Default: `index.csv` inside `path`, where there is one."""
    artists: tuple[str, ...] | None = None
    """Only these artists. Default: every artist with enough works."""
    n_artists: Positive | None = None
    """How many procedural artists to paint, or at most how many to keep."""
    works_per_artist: Positive = 45
    """Paintings by each procedural artist."""
    min_works: Positive = 40
    """Artists with fewer usable images are left out, and named."""
    seed: int = 7
    """Draws the procedural artists and their works."""
    captioner: str | None = None
    """A BLIP model, by folder or hub id, that describes images without a caption."""
    caption_template: str = "a painting"
    """Caption of an image that has none and that no captioner describes."""
    scrub_words: tuple[str, ...] = ()
    """Words taken out of captions, besides the artists' names."""

    @field_validator("path", "metadata", mode="before")
    @classmethod
    def _is_no_url(cls, value: object) -> object:
        return _refuse_url(value)

    @model_validator(mode="after")
    def _folder_needs_a_path(self) -> Self:
        if self.source == "folder" and self.path is None:
            raise ValueError("source 'folder' needs corpus.path, the folder of images by artist")
        if self.source == "procedural" and (self.n_artists or 2) < 2:
            raise ValueError("n_artists must be at least 2: one artist cannot be told from another")
        return self


class ProtocolConfig(Section):
    """How many adapters of each role, on how many images. Paper, section 4.1."""

    train: Positive = 24
    """Gallery adapters per artist."""
    calibration: NonNegative = 3
    """Of those, how many calibrate instead of fitting, in the clustering task."""
    val: NonNegative = 3
    """Held-out adapters per artist on validation images."""
    test: NonNegative = 3
    """Held-out adapters per artist on test images."""
    query_calibration: NonNegative = 3
    """Adapters per artist that calibrate retrieval, trained like queries."""
    query_val: NonNegative = 5
    """Validation queries per artist."""
    query_test: NonNegative = 5
    """Test queries per artist."""
    images_per_adapter: Positive = 10
    """Training images of a gallery, validation or test adapter."""
    images_per_query: Positive = 3
    """Training images of a query adapter."""
    reserved_val: Positive = 15
    """Images per artist kept for validation."""
    reserved_test: Positive = 15
    """Images per artist kept for test."""
    max_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of images that two gallery adapters of an artist may have in common."""

    @model_validator(mode="after")
    def _counts_fit_together(self) -> Self:
        if self.calibration >= self.train:
            raise ValueError(
                f"calibration={self.calibration} must be smaller than train={self.train}: "
                "the rest is what the PCA is fitted on"
            )
        for role, reserved in ((Role.VAL, self.reserved_val), (Role.TEST, self.reserved_test)):
            if getattr(self, role.value) and self.images_per_adapter > reserved:
                raise ValueError(
                    f"images_per_adapter={self.images_per_adapter} exceeds "
                    f"reserved_{role.value}={reserved}: reserve more or train on fewer"
                )
        return self

    def count(self, role: Role) -> int:
        """Adapters per artist of a role."""
        return int(getattr(self, role.value))

    def n_images(self, role: Role) -> int:
        """Training images of an adapter of a role."""
        return self.images_per_query if role.is_query else self.images_per_adapter


class TrainingConfig(Section):
    """How an adapter is trained. Defaults are the paper's."""

    rank: Positive = 16
    """Rank r of every LoRA branch."""
    alpha: Annotated[float, Field(gt=0)] = 8.0
    """`scaling = alpha / rank`."""
    sub_network: SubNetwork = "full"
    """Which target modules get a LoRA branch."""
    n_steps: Positive = 1760
    """Optimiser steps."""
    batch_size: Positive = 1
    """Samples of one adapter in a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Each adapter's gradient is clipped to this norm by itself."""
    initialisation: Literal["shared", "independent"] = "shared"
    """`shared`: one initial `lora_A` for all adapters of the run."""
    init_seed: int = 0
    seed: int = 0
    """Keys the noise, the timesteps and the image order of every adapter."""
    prior_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the DreamBooth prior-preservation term; 0 turns it off."""
    prior_batch: Literal["interleaved", "paired"] = "interleaved"
    """What a step holds where there is a prior. `interleaved`: `batch_size` images, of the
    adapter's own or of regularisation, half of each in the long run (kohya). `paired`:
    `batch_size` of both, which is twice the work (diffusers)."""
    prior_images: Path | None = None
    """Folder of regularisation images. Default: sampled once from the base model."""
    n_prior_images: Positive = 64
    """How many regularisation images are sampled."""
    prior_caption: str = "a painting"
    """The class prompt: what regularisation images without a caption of their own are of."""
    identifier: bool = True
    """Put a random identifier token before each caption."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the frozen network computes in; adapters and Adam's state are float32 always.
    `auto`: bfloat16 on GPUs that have it, else float32."""
    stack: Positive = 16
    """Adapters trained together in one forward pass, at most: fewer where memory is short."""
    checkpoint_every: NonNegative = 0
    """Steps between checkpoints of a stack; 0 keeps none."""

    @field_validator("prior_images", mode="before")
    @classmethod
    def _is_no_url(cls, value: object) -> object:
        return _refuse_url(value)


class EmbeddingConfig(Section):
    """The style space."""

    representations: tuple[Representation, ...] = ("factors", "delta")
    sub_networks: tuple[Modules, ...] = (
        "full",
        "feed_forward",
        "self_attention",
        "cross_attention",
    )
    """Expressions, and families as in `by-projection` (docs/sub-networks.md)."""
    max_components: Positive = 100
    """Largest PC count that is tried."""
    calibration_form: CalibrationForm = "full"
    """`full`: scale and shift per component; `simple`: scale only; `none`: as projected."""


class EvaluationConfig(Section):
    """Metrics and baselines."""

    n_kmeans_seeds: Positive = 10
    top_k: Positive | None = None
    """Cut-off of retrieval. Default: gallery adapters per artist."""
    generated: bool = False
    """Also score image features of images that the adapters generate, with the captions of their
    training images as prompts: the paper's scenarios beside Orig+Orig."""
    features: tuple[str, ...] = ("pixel_mean", "colour_histogram", "gram_random_net")
    """Image-feature baselines, by name (docs/image-features.md)."""
    feature_weights: Annotated[dict[str, str], Field(exclude_if=lambda given: not given)] = {}
    """Where weights of features lie, by the keys of docs/image-features.md: a file, a folder or a
    hub id. Default: the published ones, where there are such. Left out of a hash where empty."""


class GenerationConfig(Section):
    """How adapters paint images (docs/generation.md)."""

    sampling_seed: NonNegative = 0
    """With an image's number it keys the initial noise."""
    sampling_steps: Positive = 30
    """Steps of DDIM."""
    guidance_scale: Annotated[float, Field(ge=0, lt=float("inf"))] = 7.5
    """1 and below is without guidance, and half the work."""
    negative_prompt: str = ""
    """What images are guided away from."""


class SweepConfig(Section):
    """What the sweep tries, beside every PC count, and how it chooses (docs/sweep.md)."""

    representations: tuple[Representation, ...] | None = None
    """Default: those of `embedding`."""
    sub_networks: tuple[Modules, ...] | None = None
    """Expressions and families. Default: those of `embedding`."""
    ranks: tuple[Positive, ...] | None = None
    """Ranks trained: of each but the run's own, adapters of the same plan are trained into
    `RUN/ranks/`. Default: the run's own."""
    truncated_ranks: tuple[Positive, ...] = ()
    """Ranks that the run's own updates are cut to by SVD; nothing is trained."""
    calibration_forms: tuple[CalibrationForm, ...] | None = None
    """Default: that of `embedding`."""
    n_settings: Positive | None = None
    """Try so many settings, drawn at random. Default: the whole grid."""
    seed: int = 0
    """Draws them."""
    clustering_objective: Literal["ari", "nmi"] = "ari"
    """What chooses for clustering."""
    retrieval_objective: Literal["map", "recall_at_k"] = "map"
    """What chooses for retrieval."""
    rule: Literal["one_standard_error", "best"] = "one_standard_error"
    """`one_standard_error`: the smallest PC count whose score is within one standard error of the
    best; `best`: the smallest of the best."""


class ComputeConfig(Section):
    """What the run may use. Never part of a result's identity."""

    address: str | None = None
    """A Ray cluster's address; None starts a local Ray, unless a job set one."""
    n_actors: Positive | None = None
    """Training actors, at most. Default: one a GPU, or one a core where there is none. A cluster
    that scales is asked for so many."""
    gpus_per_actor: Annotated[float, Field(ge=0)] | None = None
    """Default: 1 where the cluster has GPUs, else 0."""
    batch_deadline_s: Annotated[float, Field(gt=0)] | None = None
    """When a stack is given to another actor. Default: after ten times what others took."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """How long to wait until any training actor gets a place."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What a training actor's share of its machine costs an hour: then the cost so far is shown."""
    compile: bool | None = None
    """Have the U-Net compiled by `torch.compile`. Default: on GPUs."""
    memory_gib: Annotated[float, Field(gt=0)] = 2.0
    """Working memory of the pass over the store; on a cluster, of four tasks."""


class Experiment(Section):
    """Everything that determines a run's results, and what it may use."""

    name: str = "run"
    base: str = "miniature"
    """`miniature`, a diffusers folder, or a hub id."""
    corpus: CorpusConfig = CorpusConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    training: TrainingConfig = TrainingConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    generation: GenerationConfig = GenerationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    sweep: SweepConfig = SweepConfig()
    compute: ComputeConfig = ComputeConfig()

    def hash(self) -> str:
        """Identity of the results: every setting but the name and `compute`."""
        return digest(self.model_dump(mode="json", exclude={"name", "compute"}))

    def to_yaml(self) -> str:
        """The resolved experiment, every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def parse_experiment(values: Mapping[str, Any], source: str = "the configuration") -> Experiment:
    """An `Experiment` from plain values; `source` names them in errors."""
    try:
        return Experiment.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_sentence(error, source)) from error


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a YAML file and apply `key=value` overrides.

    A key is dotted (`training.rank=8`) or, where only one section has it, bare
    (`rank=8`). Relative `corpus` paths are taken from the working directory.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"cannot read {path}: {reason}; name an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {problem}") from error
    if values is None:  # an empty file: every default
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not settings; write key: value")
    return parse_experiment(apply_overrides(values, overrides), source=str(path))


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `values` with each `key=value` put in; values are read as YAML.

    >>> apply_overrides({}, ["rank=8"])
    {'training': {'rank': 8}}
    """
    result: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"{override!r} is not an override; write key=value, as in rank=8")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {override!r} is not valid YAML; quote it") from error
        section, name = _locate(key)
        if section is None:
            result[name] = value
        else:
            target = result.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{section!r} must hold settings, not {target!r}")
            target[name] = value
    return result


def _sections() -> dict[str, type[Section]]:
    return {
        name: field.annotation
        for name, field in Experiment.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _locate(key: str) -> tuple[str | None, str]:
    """Section and name of a dotted or bare key."""
    section, dot, name = key.partition(".")
    if dot:
        return section, name
    if key in Experiment.model_fields:
        return None, key
    owners = [owner for owner, kind in _sections().items() if key in kind.model_fields]
    if len(owners) == 1:
        return owners[0], key
    if owners:
        options = " or ".join(f"{owner}.{key}" for owner in owners)
        raise ConfigError(f"{key!r} could mean {options}; write one of them")
    raise ConfigError(f"there is no setting {key!r}; `lorastyle run CONFIG --dry-run` prints them")


def _sentence(error: ValidationError, source: str) -> str:
    """Pydantic's findings as one sentence."""
    findings = []
    for finding in error.errors():
        where = ".".join(str(part) for part in finding["loc"]) or "the experiment"
        if finding["type"] == "extra_forbidden":
            findings.append(f"there is no setting {where!r}")
        else:
            message = finding["msg"].removeprefix("Value error, ")
            findings.append(f"{where}: {message[:1].lower()}{message[1:]}")
    return f"{source}: " + "; ".join(findings)
