"""Ray sessions and data-parallel training on Ray, on one machine or many."""
