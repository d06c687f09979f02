"""Named, frozen configurations of fine-tuning; beside each number, where it comes from.

`RECIPES` maps names to functions whose docstrings give the command, the source and the score to expect. A recipe
counts in epochs and a global batch; steps follow from the corpus (`FinetunePlan`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from matpac.errors import MatpacError, require
from matpac.finetune.augmentations import AugmentationConfig
from matpac.finetune.optimizers import OptimizerConfig
from matpac.model.vit import PATCH
from matpac.train.schedules import warmup_cosine


@dataclass(frozen=True)
class FinetuneRecipe:
    """Everything that decides what is learned, whatever machine runs it.

    Args:
        epochs: passes over the training clips.
        batch_size: clips per step, over all processes.
        epoch_clips: clips drawn per epoch; None takes each once.
        balanced: draw clips by the rarity of their labels, without replacement (makes a difference where
            epoch_clips is below the number of clips).
        frames: log-mel frames of a training crop, a multiple of 16; None takes the task's unit length, or what
            holds most of the clips, at most what the encoder was trained with.
        short: what to do with clips shorter than the crop: repeat them, or pad with zeros.
        result: which weights are the result: those of the best epoch on the validation part, or the last ones.
            The test part chooses nothing.
        augmentation: what happens to training clips.
        optimizer: and its learning rate.
    """

    epochs: float = 40
    batch_size: int = 32
    epoch_clips: int | None = None
    balanced: bool = False
    frames: int | None = None
    short: Literal["repeat", "pad"] = "repeat"
    result: Literal["best", "last"] = "best"
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        require(self, "", "above 0", "epochs")
        if self.batch_size < 2:  # BatchNorm needs two clips for a standard deviation
            raise MatpacError(f"batch_size must be at least 2, not {self.batch_size}")
        if self.frames is not None and (self.frames % PATCH or self.frames < PATCH):
            raise MatpacError(f"frames must be a multiple of {PATCH}, not {self.frames}")
        if self.epoch_clips is not None and self.epoch_clips < 2:
            raise MatpacError(f"epoch_clips must be at least 2, not {self.epoch_clips}")


@dataclass(frozen=True)
class FinetunePlan:
    """A recipe on a training part of known size: epochs become steps.

    Args:
        recipe: how to train.
        clips: of the training part.
        parts: that a batch is split into, equally: processes × micro-batches.
    """

    recipe: FinetuneRecipe
    clips: int
    parts: int = 1

    @property
    def epoch_clips(self) -> int:
        """Clips drawn per epoch."""
        wanted = self.recipe.epoch_clips
        return self.clips if wanted is None else min(wanted, self.clips)

    @property
    def batch_size(self) -> int:
        """The recipe's; where an epoch has fewer clips, as many as can be split equally."""
        return min(self.recipe.batch_size, self.epoch_clips - self.epoch_clips % self.parts)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.epoch_clips // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return max(1, round(self.recipe.epochs * self.steps_per_epoch))

    def learning_rate(self, step: int) -> float:
        """The head's rate at a step, counted from 0; groups scale it."""
        config = self.recipe.optimizer
        # a step further than in pre-training: a step at rate zero is a large part of a run of hundreds
        return warmup_cosine(
            step + 1,
            config.learning_rate,
            config.warmup_epochs * self.steps_per_epoch,
            self.steps,
            config.final_learning_rate,
        )


def audioset_2m() -> FinetuneRecipe:
    """M2D's fine-tuning on all of AudioSet; the published MATPAC++ tagger's head is this recipe's.

    Command: matpac finetune --encoder matpac++ --recipe audioset-2m --task audioset --root AUDIOSET
        --output runs/as2m
    Source: M2D's recipe (arXiv 2404.06095) as docs/finetuning.md gives it: LARS 2.0, 70 epochs of 200,000 drawn
    clips, 15 of warm-up, batch 64, mixup 0.5 on log-mel, SpecAugment 30/192, patch-out 0.5. Here the last epoch is
    the result; M2D takes the best one on the evaluation part.
    Expected: MATPAC++ 48.1 mAP (its paper).
    """
    return FinetuneRecipe(
        epochs=70,
        batch_size=64,
        epoch_clips=200_000,
        balanced=True,
        frames=992,
        short="pad",
        result="last",
        augmentation=AugmentationConfig(
            mixup="logmel", mixup_alpha=0.5, spec_frequency=30, spec_time=192, patchout=0.5
        ),
        optimizer=OptimizerConfig("lars", learning_rate=2.0, final_learning_rate=1e-7, warmup_epochs=15),
    )


def audioset_20k() -> FinetuneRecipe:
    """M2D's fine-tuning on AudioSet's balanced part.

    Command: matpac finetune --encoder matpac++ --recipe audioset-20k --task audioset20k --root AUDIOSET
        --output runs/as20k
    Source: M2D's recipe as docs/finetuning.md gives it: SGD 0.5, 200 epochs, 5 of warm-up, batch 64, mixup 0.3 on
    waveforms, random resized crop, SpecAugment 30/192, patch-out 0.5. Here the last epoch is the result.
    """
    return FinetuneRecipe(
        epochs=200,
        batch_size=64,
        frames=992,
        short="pad",
        result="last",
        augmentation=AugmentationConfig(
            mixup="waveforms",
            mixup_alpha=0.3,
            resized_crop=True,
            spec_frequency=30,
            spec_time=192,
            patchout=0.5,
        ),
        optimizer=OptimizerConfig("sgd", learning_rate=0.5, final_learning_rate=1e-7, warmup_epochs=5),
    )


def layerwise() -> FinetuneRecipe:
    """EAT's fine-tuning: AdamW with a slower rate for each deeper block.

    Command: matpac finetune --encoder matpac++ --recipe layerwise --task audioset --root AUDIOSET
        --output runs/layerwise
    Source: EAT (arXiv 2401.03497) as docs/finetuning.md gives it: AdamW (0.9, 0.95), decay 0.05, rate 5e-5 to
    1e-6, layer decay 0.65, drop-path 0.1, mixup 0.8 with probability 0.9, SpecAugment at most 20 % of each axis,
    roll and gain, batch 96. Its 300,000 steps, 30,000 of warm-up, are 15 and 1.5 passes over AudioSet's two
    million; for the balanced part it takes 40,000 and 4,000 steps of 48: `--batch_size 48 --epochs 90
    --optimizer.warmup_epochs 9`. Chosen here: ±6 dB of gain, for which no number is given; the last epoch is the
    result.
    """
    return FinetuneRecipe(
        epochs=15,
        batch_size=96,
        frames=992,
        short="pad",
        result="last",
        augmentation=AugmentationConfig(
            mixup="waveforms",
            mixup_alpha=0.8,
            mixup_probability=0.9,
            roll=True,
            gain_decibels=6.0,
            spec_frequency=16,
            spec_time=198,
            drop_path=0.1,
        ),
        optimizer=OptimizerConfig(
            "adamw",
            learning_rate=5e-5,
            final_learning_rate=1e-6,
            warmup_epochs=1.5,
            weight_decay=0.05,
            beta2=0.95,
            layer_decay=0.65,
        ),
    )


def small() -> FinetuneRecipe:
    """Hundreds to thousands of clips, on a CPU if need be.

    Command: matpac finetune --encoder matpac++ --recipe small --task folder --root MY_SOUNDS --output runs/mine
    Source: this project's, after EAT's: AdamW with layer decay keeps what pre-training learned; light
    augmentation, and the best epoch on the validation part, since hundreds of clips are soon learned by heart. A
    crop of half the length costs half; nothing was tuned on a test part.
    """
    return FinetuneRecipe(
        epochs=40,
        batch_size=32,
        augmentation=AugmentationConfig(
            mixup="waveforms",
            mixup_alpha=0.3,
            mixup_probability=0.5,
            roll=True,
            gain_decibels=6.0,
            spec_frequency=16,
            spec_time=48,
        ),
        optimizer=OptimizerConfig(
            "adamw",
            learning_rate=1e-3,
            final_learning_rate=1e-5,
            warmup_epochs=2,
            weight_decay=0.05,
            layer_decay=0.75,
        ),
    )


RECIPES: dict[str, Callable[[], FinetuneRecipe]] = {
    "audioset-2m": audioset_2m,
    "audioset-20k": audioset_20k,
    "layerwise": layerwise,
    "small": small,
}
