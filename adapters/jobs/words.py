"""The words that adapters bring for MODEL; nothing here imports torch."""

from ranp.models.words import Word

NNUNET = Word("nnunet", "ranp.adapters.nnunet:read_word", "ranp.adapters.nnunet:network")
