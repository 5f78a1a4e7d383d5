"""Building blocks that no paper here owns: embedding, dropout, bilinear forms, initial values."""

from ctrlib.layers.bilinear import Bilinear
from ctrlib.layers.dropout import Dropout
from ctrlib.layers.embedding import FieldEmbedding
from ctrlib.layers.initial import ACTIVATIONS, activation, reset_linear_maps
from ctrlib.layers.products import add_product

__all__ = ["ACTIVATIONS", "Bilinear", "Dropout", "FieldEmbedding", "activation", "add_product", "reset_linear_maps"]
