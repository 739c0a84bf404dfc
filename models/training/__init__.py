"""What makes and fits models. Nothing here is imported at serving time, except `edits` by the demo."""
