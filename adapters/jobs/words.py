"""The words that adapters bring for MODEL; nothing here imports torch."""

from ranp.models.words import Word

BUNDLE = Word("bundle", "ranp.adapters.monai:read_word")
NNUNET = Word("nnunet", "ranp.adapters.nnunet:read_word", "ranp.adapters.nnunet:network")
