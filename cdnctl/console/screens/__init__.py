"""Screens put widgets and keys together; dialogs stand over them."""
