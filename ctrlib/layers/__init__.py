"""Building blocks that no paper here owns: embedding, MLP, cross network, attention, dropout, initial values."""

from ctrlib.layers.attention import FieldAttention
from ctrlib.layers.bilinear import Bilinear
from ctrlib.layers.cin import CIN
from ctrlib.layers.cross import CrossNetwork, GatedCrossNetwork, RankOneCrossNetwork
from ctrlib.layers.dropout import Dropout
from ctrlib.layers.embedding import FieldEmbedding
from ctrlib.layers.feed_forward import FeedForward
from ctrlib.layers.first_order import FirstOrder
from ctrlib.layers.initial import ACTIVATIONS, activation, reset_linear_maps
from ctrlib.layers.mlp import MLP
from ctrlib.layers.pairwise import InnerProducts, WeightedPairs, pair_products, pair_sum
from ctrlib.layers.precision import LogitMap
from ctrlib.layers.products import add_product, residual_product

__all__ = [
    "ACTIVATIONS",
    "CIN",
    "MLP",
    "Bilinear",
    "CrossNetwork",
    "Dropout",
    "FeedForward",
    "FieldAttention",
    "FieldEmbedding",
    "FirstOrder",
    "GatedCrossNetwork",
    "InnerProducts",
    "LogitMap",
    "RankOneCrossNetwork",
    "WeightedPairs",
    "activation",
    "add_product",
    "pair_products",
    "pair_sum",
    "reset_linear_maps",
    "residual_product",
]
