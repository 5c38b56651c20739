"""The verbs in words: what each command asks for, checked before anything takes long, and carried out."""
