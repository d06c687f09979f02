"""What is about to be fine-tuned, in lines for the log."""

from matpac.finetune.labelled import LabelledClips
from matpac.finetune.plan import FinetunePlan
from matpac.finetune.recipes import FinetuneRecipe
from matpac.finetune.start import Start


def introduction(recipe: FinetuneRecipe, plan: FinetunePlan, clips: LabelledClips, start: Start) -> list[str]:
    """What is about to be done."""
    split, task, frontend = clips.split, clips.task, start.logmel
    seconds = frontend.samples(start.frames) / frontend.sample_rate
    lines = [
        f"{task.name}, fold {clips.fold}: {len(split.train):,} training, {len(split.valid):,} validation and "
        f"{len(split.test):,} test clips of {len(task.classes)} classes",
        f"{recipe.epochs:g} epochs × {plan.epoch_clips:,} clips / batches of {plan.batch_size} = {plan.steps:,} "
        f"steps; crops of {seconds:.2f} s",
        f"result: the weights of the {'best epoch by validation' if recipe.result == 'best' else 'last epoch'}; "
        "the test part is scored once, at the end",
    ]
    if task.missing:
        lines.append(f"{len(task.missing)} of {task.total} clips left out, see left_out.jsonl")
    if recipe.batch_size != plan.batch_size:
        lines.append(f"batches of {plan.batch_size} instead of {recipe.batch_size}: there are no more clips")
    bare = int((~clips.label_matrix().any(axis=1)).sum())
    if bare:
        lines.append(f"{bare} training clips have no label and teach that nothing is there")
    return [*lines, *start.notes, *task.notes]
