"""Networks, losses and attention: tensors in, tensors out."""
