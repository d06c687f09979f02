"""A recipe on a training part of known size: epochs become steps."""

from dataclasses import dataclass

from matpac.finetune.recipes import FinetuneRecipe
from matpac.train.schedules import warmup_cosine


@dataclass(frozen=True)
class FinetunePlan:
    """A recipe on a training part of known size: epochs become steps.

    Args:
        recipe: how to train.
        clips: of the training part.
        processes: that share a batch.
    """

    recipe: FinetuneRecipe
    clips: int
    processes: int = 1

    @property
    def epoch_clips(self) -> int:
        """Clips drawn an epoch."""
        wanted = self.recipe.epoch_clips
        return self.clips if wanted is None else min(wanted, self.clips)

    @property
    def batch_size(self) -> int:
        """The recipe's; of a smaller corpus, as many clips as an epoch has that every process gets as many."""
        return min(self.recipe.batch_size, self.epoch_clips - self.epoch_clips % self.processes)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; what is left over waits for the next one's other order."""
        return self.epoch_clips // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return max(1, round(self.recipe.epochs * self.steps_per_epoch))

    def learning_rate(self, step: int) -> float:
        """The share-free rate of a step, counted from 0; groups scale it."""
        config = self.recipe.optimizer
        # one step further than pre-training's: a step at rate zero is a large part of a run of hundreds
        return warmup_cosine(
            step + 1,
            config.learning_rate,
            config.warmup_epochs * self.steps_per_epoch,
            self.steps,
            config.final_learning_rate,
        )
