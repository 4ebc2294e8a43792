"""Dialogs: each says what would happen, and changes something only on ctrl+s."""
