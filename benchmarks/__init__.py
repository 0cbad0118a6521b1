"""Side-by-side figures: what vagus costs, against what one would use or write in its place."""
