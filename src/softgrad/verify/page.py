"""`as_html` by its old name."""  # alias until the merge

from .report import as_html as as_html
