from collections.abc import Callable

import pytest

from pipeline import vision
from pipeline.distances import DistanceSpec
from pipeline.explorer.app import Desk, Item
from pipeline.explorer.state import State
from pipeline.heads import HomologySpec
from pipeline.models import Model

TEXTS = "the cat sat on the mat", "the dog sat on the cat and the mat"


@pytest.fixture
def desk(made: Callable[[str], Model]) -> Desk:
    """A desk with tiny models, a text and an image."""
    image = vision.noise(made("vit").processor, 0)
    return Desk(
        load=made,
        models=["bert", "gpt2", "vit"],
        texts={"c0": Item("a text of a corpus", "en")},
        images={"i0": Item("noise.png", None, image)},
        distances={
            "jensen_shannon": DistanceSpec("jensen_shannon", {"base": 2.0}),
            "hidden_cosine": DistanceSpec("hidden_cosine", {}),
        },
        homology=HomologySpec(1, 2, 0.0),
        default=State("bert", "jensen_shannon", a=TEXTS[0], b=TEXTS[1], image_a="i0", image_b="i0"),
    )
