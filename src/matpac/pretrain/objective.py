"""One forward of masked latent prediction and classification, in the order of the papers' method section."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matpac.errors import MatpacError, require
from matpac.model.vit import Encoder, EncoderConfig
from matpac.pretrain.classification import Center, ClassificationHead, HeadConfig
from matpac.pretrain.losses import (
    choose,
    classification_loss,
    hypothesis_losses,
    multiple_choice_loss,
    teacher_probabilities,
)
from matpac.pretrain.masking import MaskSplit, gather_tokens, visible_count
from matpac.pretrain.predictor import Predictor, PredictorConfig
from matpac.pretrain.teacher import Teacher


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is learned. The default is MATPAC++ with ViT-B.

    Args:
        encoder: size of the student and of the teacher.
        predictor: size and number of hypotheses.
        head: head of the classification task.
        mask_ratio: share of a clip's patches that the student does not see.
        alpha: weight of the prediction loss; classification has 1 − alpha. At 1 or 0 the other task costs
            nothing.
        teacher_starts_as_copy: False, as published, starts the teacher from its own random draw.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    mask_ratio: float = 0.7
    alpha: float = 0.5
    teacher_starts_as_copy: bool = False

    def __post_init__(self) -> None:
        require(self, "", "between 0 and 1", "alpha")
        seen = visible_count(self.encoder.tokens, self.mask_ratio) if 0 <= self.mask_ratio <= 1 else 0
        if not 0 < seen < self.encoder.tokens:
            raise MatpacError(
                f"mask_ratio {self.mask_ratio} leaves {seen} of {self.encoder.tokens} patches visible; "
                "the student needs at least one to see and one to predict"
            )


class Temperatures(NamedTuple):
    """Temperatures of multiple choice learning and of the teacher's softmax; they depend on the step."""

    multiple_choice: float
    teacher: float

    def on(self, device: torch.device) -> "TemperatureTensors":
        """The same as tensors, for a compiled step: it would be recompiled for every other number.

        They are written by the device itself: a copy from the host would wait for it.
        """
        return TemperatureTensors(*(torch.full((), value, device=device, dtype=torch.float32) for value in self))


class TemperatureTensors(NamedTuple):
    """`Temperatures` on a device."""

    multiple_choice: Float[Tensor, ""]
    teacher: Float[Tensor, ""]


@dataclass
class PretextOutput:
    """Losses of one batch, and detached tensors to monitor; None for a task that is not learned."""

    loss: Float[Tensor, ""]
    prediction: Float[Tensor, "batch masked"] | None
    classification: Float[Tensor, " token"] | None
    targets: Float[Tensor, "batch masked width"]
    predictions: Float[Tensor, "batch masked width"]
    winner: Int[Tensor, "batch masked"]
    center_batch: Float[Tensor, " class"] | None
    probabilities: Float[Tensor, "token class"] | None
    student_logits: Float[Tensor, "token class"] | None


class Objective(nn.Module):
    """Student, predictor, heads and teacher of one run.

    The teacher and the centre do not move here: the loop moves them after the optimizer's step.
    """

    def __init__(self, config: ObjectiveConfig):
        super().__init__()
        self.config = config
        self.student = Encoder(config.encoder)
        self.predictor = Predictor(config.predictor, config.encoder)
        classifies = config.alpha < 1
        self.head = ClassificationHead(config.encoder.width, config.head) if classifies else None
        self.center = Center(config.head) if classifies else None
        self.teacher = Teacher(self.student.transformer, self.head, config.teacher_starts_as_copy)

    def forward(
        self,
        logmel: Float[Tensor, "batch mel frame"],
        split: MaskSplit,
        temperatures: Temperatures | TemperatureTensors,
    ) -> PretextOutput:
        """One pre-training step of the papers, up to the loss."""
        student, alpha = self.student, self.config.alpha

        # patches and positions, shared by student and teacher
        tokens = student.patch_tokens(logmel)

        # the student encodes what is visible, the teacher what is masked
        visible = student.transformer(student.with_cls(gather_tokens(tokens, split.visible)))
        with torch.no_grad():
            masked = student.with_cls(gather_tokens(tokens, split.masked))
            targets = self.teacher.transformer(masked)[:, 1:]

        # hypotheses of the masked latents, and how far each one is
        hypotheses = self.predictor(visible, split)
        with torch.set_grad_enabled(alpha > 0 and torch.is_grad_enabled()):
            losses = hypothesis_losses(targets, hypotheses) if self._needs_losses else None
        winner = self._winner(losses, split)
        predictions = choose(hypotheses, winner)

        # the two tasks and their sum
        loss = logmel.new_zeros((), dtype=torch.float32)  # the log-mel may come in less
        prediction = classification = center_batch = probabilities = logits = None
        if alpha > 0 and losses is not None:
            prediction = multiple_choice_loss(losses, temperatures.multiple_choice)
            loss = loss + alpha * prediction.mean()
        if self.head is not None:
            logits = self.head(predictions.flatten(0, 1))
            probabilities, center_batch = self._classification_targets(targets, temperatures.teacher)
            classification = classification_loss(probabilities, logits)
            loss = loss + (1 - alpha) * classification.mean()

        return PretextOutput(
            loss=loss,
            prediction=None if prediction is None else prediction.detach(),
            classification=None if classification is None else classification.detach(),
            targets=targets,
            predictions=predictions.detach(),
            winner=winner,
            center_batch=center_batch,
            probabilities=probabilities,
            student_logits=None if logits is None else logits.detach(),
        )

    @property
    def _needs_losses(self) -> bool:
        """Classification alone with one hypothesis has nothing to compare."""
        return self.config.alpha > 0 or self.config.predictor.hypotheses > 1

    def _winner(
        self, losses: Float[Tensor, "batch masked hypothesis"] | None, split: MaskSplit
    ) -> Int[Tensor, "batch masked"]:
        if losses is None or losses.shape[-1] == 1:
            return torch.zeros_like(split.masked)
        return losses.detach().argmin(dim=-1)

    @torch.no_grad()
    def _classification_targets(
        self, targets: Float[Tensor, "batch masked width"], temperature: float | Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "token class"], Float[Tensor, " class"]]:
        """The teacher's probabilities, and this batch's part of the next centre."""
        assert self.teacher.head is not None
        assert self.center is not None
        logits = self.teacher.head(targets.flatten(0, 1))
        probabilities = teacher_probabilities(logits, self.center.value, temperature)
        centered = probabilities if self.config.head.center_on == "probabilities" else logits.float()
        return probabilities, centered.mean(dim=0)

    @torch.no_grad()
    def update_teacher(self, encoder_decay: float, head_decay: float) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(self.student.transformer, self.head, encoder_decay, head_decay)
