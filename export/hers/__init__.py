"""HERS: prompts, image-text pairs, LoRA experts, their merge, and what the result is worth.

The recipe of automatic pairs and merged experts is SELMA's, arXiv 2403.06952.
"""
