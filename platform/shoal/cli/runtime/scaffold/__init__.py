"""Files that `shoal runtime init` copies, with `{{name}}`, `{{module}}` and `{{class}}` filled in."""
