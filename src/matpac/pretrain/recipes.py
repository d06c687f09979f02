"""Named, frozen configurations of pre-training; beside each number, where it comes from.

A recipe speaks epochs and a global batch: steps follow from the corpus. `RECIPES` maps names to functions,
whose docstrings give the command, the cost and the score to expect.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from matpac.errors import MatpacError, require
from matpac.model.logmel import LogMelConfig
from matpac.model.vit import SIZES, EncoderConfig
from matpac.pretrain.classification import HeadConfig
from matpac.pretrain.objective import ObjectiveConfig, Temperatures
from matpac.pretrain.predictor import PredictorConfig
from matpac.train.schedules import exponential, linear, warmup_cosine

PAPER_CLIPS, PAPER_STEPS = 2_012_615, 294_816
"""AudioSet in the papers, and steps of their run: 300 epochs in batches of 2048."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine, as in both papers.

    Args:
        learning_rate: peak, for the recipe's batch size.
        warmup_epochs: epochs of linear rise from zero.
        weight_decay: decoupled.
        decay_biases_and_norms: true, as in the published code; M2D and most others exempt one-dimensional
            parameters.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: added to the denominator.
        clip: limit of the gradient's norm.
    """

    learning_rate: float = 3e-4
    warmup_epochs: float = 20
    weight_decay: float = 0.05
    decay_biases_and_norms: bool = True
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-6
    clip: float = 3.0

    def __post_init__(self) -> None:
        require(self, "optimizer.", "at least 0", "learning_rate", "warmup_epochs", "weight_decay", "eps")
        require(self, "optimizer.", "at least 0 and below 1", "beta1", "beta2")
        require(self, "optimizer.", "above 0 (.inf for no clipping)", "clip")


@dataclass(frozen=True)
class ScheduleConfig:
    """How the teacher and the temperatures change; the defaults are both papers'.

    Args:
        encoder_decay_start: decay of the teacher's encoder (λ) at the start, linear over the run.
        encoder_decay_end: decay of the teacher's encoder at the end of the run.
        head_decay_start: decay of the teacher's head (λ') at the start, linear over the run.
        head_decay_end: decay of the teacher's head at the end of the run.
        teacher_temperature_start: temperature of the teacher's softmax at the start.
        teacher_temperature_end: temperature of the teacher's softmax after its warm-up.
        teacher_temperature_epochs: length of that warm-up; MATPAC's paper also reports 20.
        multiple_choice_start: temperature of annealed multiple choice learning at the start.
        multiple_choice_end: the same at the end of the run. The published code multiplies by 0.99997 per step,
            which over the paper's run gives this value; a run of another length passes the same temperatures.
    """

    encoder_decay_start: float = 0.99995
    encoder_decay_end: float = 0.99999
    head_decay_start: float = 0.998
    head_decay_end: float = 1.0
    teacher_temperature_start: float = 0.04
    teacher_temperature_end: float = 0.07
    teacher_temperature_epochs: float = 10
    multiple_choice_start: float = 0.1
    multiple_choice_end: float = 0.1 * 0.99997**PAPER_STEPS

    def __post_init__(self) -> None:
        decays = ("encoder_decay_start", "encoder_decay_end", "head_decay_start", "head_decay_end")
        temperatures = ("teacher_temperature_start", "teacher_temperature_end", "multiple_choice_start")
        require(self, "schedule.", "between 0 and 1", *decays)
        require(self, "schedule.", "above 0", *temperatures)
        require(self, "schedule.", "at least 0", "teacher_temperature_epochs", "multiple_choice_end")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned, whatever machine runs it.

    Args:
        logmel: the front-end.
        objective: the two tasks and the networks.
        optimizer: AdamW and its learning rate.
        schedule: teacher and temperatures.
        epochs: passes over the corpus.
        batch_size: clips per step, over all processes and accumulated micro-batches.
        short: what to do with clips shorter than the crop: repeat, pad or drop.
    """

    logmel: LogMelConfig = field(default_factory=LogMelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    epochs: float = 300
    batch_size: int = 2048
    short: Literal["repeat", "pad", "drop"] = "repeat"

    def __post_init__(self) -> None:
        if self.logmel.mels != self.objective.encoder.mels:
            raise MatpacError(
                f"logmel.mels {self.logmel.mels} and objective.encoder.mels {self.objective.encoder.mels} differ"
            )
        require(self, "", "above 0", "batch_size", "epochs")

    @property
    def crop_samples(self) -> int:
        """Length of a training example in samples."""
        return self.logmel.samples(self.objective.encoder.frames)


@dataclass(frozen=True)
class StepValues:
    """Everything that depends on the step."""

    learning_rate: float
    temperatures: Temperatures
    encoder_decay: float
    head_decay: float

    @property
    def by_name(self) -> dict[str, float]:
        """Their names in the log."""
        return {
            "learning_rate": self.learning_rate,
            "temperature/multiple_choice": self.temperatures.multiple_choice,
            "temperature/teacher": self.temperatures.teacher,
            "decay/encoder": self.encoder_decay,
            "decay/head": self.head_decay,
        }


@dataclass(frozen=True)
class Plan:
    """A recipe on a corpus of known size: epochs become steps.

    Args:
        recipe: what to train.
        clips: number of clips in the corpus.
    """

    recipe: Recipe
    clips: int

    def steps_of(self, epochs: float) -> float:
        """Optimizer steps that pass over the corpus `epochs` times, not rounded."""
        return epochs * self.clips / self.recipe.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return max(1, int(self.steps_of(self.recipe.epochs)))

    def at(self, step: int) -> StepValues:
        """Learning rate, temperatures and decays of a step, counted from 0."""
        optimizer, schedule, steps = self.recipe.optimizer, self.recipe.schedule, self.steps
        rate = (schedule.multiple_choice_end / schedule.multiple_choice_start) ** (1 / steps)
        return StepValues(
            warmup_cosine(step, optimizer.learning_rate, self.steps_of(optimizer.warmup_epochs), steps),
            Temperatures(
                multiple_choice=exponential(step, schedule.multiple_choice_start, rate),
                teacher=linear(
                    step,
                    schedule.teacher_temperature_start,
                    schedule.teacher_temperature_end,
                    self.steps_of(schedule.teacher_temperature_epochs),
                ),
            ),
            linear(step, schedule.encoder_decay_start, schedule.encoder_decay_end, steps),
            linear(step, schedule.head_decay_start, schedule.head_decay_end, steps),
        )


def matpacpp() -> Recipe:
    """MATPAC++ on AudioSet (arXiv 2508.12709): five hypotheses, annealed multiple choice learning.

    Command: matpac pretrain --recipe matpac++ --data audioset/ --output runs/matpacpp
    Source: the paper's section 4 and its published code; every default of the configuration is this recipe.
    Cost: 294,816 steps of 2048 clips of 6.1 s; the papers used 8 GPUs.
    Expected, linear probing: OpenMIC 85.6, NSynth 76.8, GTZAN 87.6, MTT 40.8, FSD50K 56.1, ESC-50 93.1,
    US8K 89.7, average 75.7 (the paper's table).
    """
    return Recipe()


def matpac() -> Recipe:
    """MATPAC on AudioSet (ICASSP 2025, arXiv 2502.12031): one hypothesis.

    Command: matpac pretrain --recipe matpac --data audioset/ --output runs/matpac
    Source: the paper's section 3 and its published code.
    Cost: as matpac++, a little less.
    Expected, linear probing: OpenMIC 85.3, NSynth 74.3, GTZAN 85.3, MTT 41.1, FSD50K 55.2, ESC-50 93.5,
    US8K 89.4, average 74.9 (the paper's table, temperature warm-up of 10 epochs).
    """
    recipe = matpacpp()
    predictor = replace(recipe.objective.predictor, hypotheses=1)
    return replace(recipe, objective=replace(recipe.objective, predictor=predictor))


def matpac_no_classification() -> Recipe:
    """MATPAC's ablation without the classification task (alpha = 1): masked latent prediction alone.

    Command: matpac pretrain --recipe matpac-no-classification --data audioset/ --output runs/prediction
    Source: MATPAC's paper, its ablation.
    Cost: less than matpac: no heads.
    Expected, linear probing: OpenMIC 85.1, NSynth 73.7, GTZAN 84.2, MTT 40.8, FSD50K 54.4, ESC-50 92.5,
    US8K 87.5, average 74.0 (the paper's table).
    """
    recipe = matpac()
    return replace(recipe, objective=replace(recipe.objective, alpha=1.0))


def tiny() -> Recipe:
    """MATPAC++ small enough to learn something on two laptop cores in minutes; the quickstart's recipe.

    Command: matpac pretrain --recipe tiny --data FOLDER --output runs/tiny
    Source: this project. A short run needs a teacher that moves (decay from 0.995 instead of 0.99995), a higher
    rate for a smaller batch and network, and fewer pseudo-classes than clips.
    Cost: about a hundred 3 s clips a second on two cores.
    """
    encoder = replace(SIZES["tiny"], frames=288)
    return Recipe(
        objective=ObjectiveConfig(
            encoder=encoder,
            predictor=PredictorConfig(width=96, depth=2, heads=3, hypotheses=5),
            head=HeadConfig(hidden=256, bottleneck=64, classes=256),
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_epochs=1),
        schedule=ScheduleConfig(
            encoder_decay_start=0.995,
            encoder_decay_end=0.9995,
            head_decay_start=0.99,
            teacher_temperature_epochs=1,
        ),
        epochs=10,
        batch_size=32,
    )


def tiny_fine() -> Recipe:
    """`tiny`, half as wide again, with finer bands: the recipe of the encoder that comes with matpac.

    Command: matpac pretrain --recipe tiny-fine --data FOLDER --output runs/tiny-fine
    Source: this project. Windows of 64 ms every 20 ms in 160 bands: patches are half as high and twice as long as
    the papers', so as many, and a small network keeps in them the pitch it loses in theirs (docs/results.md). Mean
    and standard deviation were measured on 600 of the 36,000 clips of `make tiny-encoder` (3,000 of them have
    −7.38 and 3.48), for which its epochs are chosen, too.
    Cost: about fifty 3 s clips a second on one core.
    Expected: docs/results.md.
    """
    recipe = tiny()
    return replace(
        recipe,
        logmel=LogMelConfig(window=1024, hop=320, mels=160, mean=-7.26, std=3.515),
        objective=replace(
            recipe.objective, encoder=EncoderConfig(width=192, depth=4, heads=3, mels=160, frames=144)
        ),
        epochs=9,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "matpac": matpac,
    "matpac++": matpacpp,
    "matpac++-music": matpacpp,  # the same recipe on music alone (arXiv 2508.12709, section 4)
    "matpac-no-classification": matpac_no_classification,
    "tiny": tiny,
    "tiny-fine": tiny_fine,
}
