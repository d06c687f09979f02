"""Fine-tuning: an encoder and a head trained on labels (docs/finetuning.md), to a tagger."""
