"""Named, frozen configurations of fine-tuning; beside each number, where it comes from.

`RECIPES` maps names to functions whose docstrings give the command, the source and the score to expect. A recipe
speaks epochs and a global batch; steps follow from the corpus.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from matpac.errors import MatpacError
from matpac.rules import require


@dataclass(frozen=True)
class AugmentationConfig:
    """What happens to a training batch; nothing of it happens in validation and test.

    Args:
        mixup: where clips are mixed in pairs, labels with them.
        mixup_alpha: both parameters of the Beta distribution that the share is drawn from.
        mixup_probability: that a clip is mixed.
        roll: whether clips are turned round in time by a random stretch.
        gain_decibels: clips get louder or softer by up to so much.
        resized_crop: whether a random box of the log-mel is stretched to its whole size.
        spec_frequency: widest band of mel bins that is blotted out (SpecAugment); 0 for none.
        spec_time: longest stretch of frames that is blotted out; 0 for none.
        patchout: share of the time steps that the network does not see (structured patch-out), whose cost
            is saved.
        drop_path: chance that the last block is skipped for a clip; rises linearly from 0 at the first.
    """

    mixup: Literal["off", "waveforms", "logmel"] = "off"
    mixup_alpha: float = 0.5
    mixup_probability: float = 1.0
    roll: bool = False
    gain_decibels: float = 0.0
    resized_crop: bool = False
    spec_frequency: int = 0
    spec_time: int = 0
    patchout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup_probability", "patchout", "drop_path"):
            if not 0 <= (value := getattr(self, name)) <= 1 or (name != "mixup_probability" and value == 1):
                raise MatpacError(f"augmentation.{name} must be a share from 0 to below 1, not {value}")
        require(self, "augmentation.", "at least 0", "gain_decibels", "spec_frequency", "spec_time")
        require(self, "augmentation.", "above 0", "mixup_alpha")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate over the run: linear warm-up, then half a cosine.

    Args:
        kind: adamw, sgd or lars.
        learning_rate: its peak, of the head and the last norm.
        final_learning_rate: at the run's end.
        warmup_epochs: of linear rise from zero.
        weight_decay: not applied to biases and norms.
        momentum: of sgd and lars.
        beta1: of adamw.
        beta2: of adamw.
        layer_decay: each block learns so much slower than the one above it; 1 for all alike.
        clip: the gradient's norm is clipped at this; 0 leaves it.
    """

    kind: Literal["adamw", "sgd", "lars"] = "adamw"
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0
    warmup_epochs: float = 0
    weight_decay: float = 0.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    layer_decay: float = 1.0
    clip: float = 0.0

    def __post_init__(self) -> None:
        require(self, "optimizer.", "above 0", "learning_rate")
        require(self, "optimizer.", "at least 0", "final_learning_rate", "warmup_epochs", "weight_decay")
        require(self, "optimizer.", "at least 0 and below 1", "momentum", "beta1", "beta2")
        if not 0 < self.layer_decay <= 1:
            raise MatpacError(f"optimizer.layer_decay must be above 0 and at most 1, not {self.layer_decay}")
        if not self.clip >= 0:
            raise MatpacError(f"optimizer.clip must be at least 0 (0 for no clipping), not {self.clip}")


@dataclass(frozen=True)
class AveragingConfig:
    """Averaged weights, which are then what is validated, tested and kept.

    Args:
        kind: ema (exponential, every step), swa (plain mean of some epochs' ends), or off.
        decay: of ema, once it holds many steps (1 / (1 − decay)); it begins lower.
        start_epoch: the first epoch whose end counts for swa.
        every_epochs: epochs from one to the next that counts for swa.
    """

    kind: Literal["off", "ema", "swa"] = "off"
    decay: float = 0.999
    start_epoch: int = 50
    every_epochs: int = 5

    def __post_init__(self) -> None:
        require(self, "averaging.", "between 0 and 1", "decay")
        require(self, "averaging.", "above 0", "every_epochs")
        require(self, "averaging.", "at least 0", "start_epoch")


@dataclass(frozen=True)
class FinetuneRecipe:
    """Everything that decides what is learned, whatever machine runs it.

    Args:
        epochs: passes over the training clips.
        batch_size: clips a step, over all processes.
        epoch_clips: clips drawn an epoch; None takes each once.
        balanced: clips are drawn by the rarity of their labels, without replacement (needs epoch_clips below
            the number of clips to make a difference).
        frames: log-mel frames of a training crop, a multiple of 16; None takes the task's unit length, or what
            holds most of the clips, but not more than the encoder was trained with.
        short: what to do with clips shorter than the crop: repeat them, or pad with zeros.
        result: which weights it is: those of the best epoch by the validation part, or the last ones.
            The test part chooses nothing.
        augmentation: what happens to training clips.
        optimizer: and its learning rate.
        averaging: of weights.
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
    averaging: AveragingConfig = field(default_factory=AveragingConfig)

    def __post_init__(self) -> None:
        require(self, "", "above 0", "epochs")
        if self.batch_size < 2:  # BatchNorm has no deviation of one clip
            raise MatpacError(f"batches of {self.batch_size} train nothing; from 2 up")
        if self.frames is not None and (self.frames % 16 or self.frames < 16):
            raise MatpacError(f"frames must be a multiple of 16, not {self.frames}")
        if self.averaging.kind == "swa" and self.averaging.start_epoch > self.epochs:
            raise MatpacError(
                f"averaging.start_epoch {self.averaging.start_epoch} comes after the last, of {self.epochs:g}"
            )
        if self.epoch_clips is not None and self.epoch_clips < 2:
            raise MatpacError(f"epoch_clips must be at least 2, not {self.epoch_clips}")


def audioset_2m() -> FinetuneRecipe:
    """M2D's fine-tuning on all of AudioSet; the published MATPAC++ tagger's head is this recipe's.

    Command: matpac finetune --encoder matpac++ --recipe audioset-2m --task audioset --root AUDIOSET
        --output runs/as2m
    Source: M2D's recipe (arXiv 2404.06095) as docs/finetuning.md gives it: LARS 2.0, 70 epochs of 200,000 drawn
    clips, 15 of warm-up, batch 64, mixup 0.5 on log-mel, SpecAugment 30/192, patch-out 0.5. Ours: the last epoch
    is the result, where M2D takes the best one of the evaluation part.
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
    waveforms, random resized crop, SpecAugment 30/192, patch-out 0.5. Ours: the last epoch is the result.
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
    --optimizer.warmup_epochs 9`. Ours: ±6 dB of gain, for which no number is given; the last epoch is the result.
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
    Source: ours, on the lines of EAT's: AdamW with layer decay keeps what pre-training learned, light
    augmentation, and the best epoch by the validation part, since hundreds of clips are soon learned by heart.
    Half as long a crop costs half; nothing was tuned on a test part.
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
