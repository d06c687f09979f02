"""Options of a pre-training run."""

from dataclasses import dataclass

from matpac.train.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(RunOptions):
    """What a recipe is trained on and started from, besides the options of every run.

    Args:
        data: a folder (searched recursively), a file, or a table (CSV, TSV, Parquet) with a path column; or
            shards: a folder written by `matpac pack`, a pattern such as shards/{000000..000099}.tar, or URLs in
            WebDataset's notation.
        encoder: start student and teacher from the weights of this encoder, as `matpac.load` takes it, instead of
            a random draw. The recipe's network and log-mel must be the encoder's.
    """

    data: str
    encoder: str | None = None
