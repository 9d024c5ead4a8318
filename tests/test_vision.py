"""Vision transformers: the pixels, the patches and the maps are those of the plain model."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import gudhi
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import pdist, squareform

from pipeline import heads, vision
from pipeline.attention import encode, for_each_layer, hidden_states, points
from pipeline.corpus import CorpusSpec, read
from pipeline.diagrams import HomologySpec
from pipeline.distances import DistanceSpec
from pipeline.errors import InputError, TextError
from pipeline.heads import Text
from pipeline.models import Model, load
from tests import tiny
from tests.test_images import encoded

JS = DistanceSpec("jensen_shannon", {"base": 2.0})
RIPS = HomologySpec(1, 2, 0.0)
PHOTOGRAPHS = CorpusSpec("photographs", "images", "package:sklearn/datasets/images")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Text]:
    records, _ = read(PHOTOGRAPHS, tmp_path_factory.mktemp("cache"))
    return [Text(row["text_id"], row["text"], row["image"]) for row in records.to_pylist()]


def by_hand(data: bytes, size: int) -> np.ndarray:
    """Resized by Pillow, bilinear, and from 0..255 to -1..1, channels first."""
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.BILINEAR)
    return (np.asarray(picture, dtype=np.float64) / 255 - 0.5).transpose(2, 0, 1) / 0.5


def plain(model: Model, data: bytes) -> object:
    """The same image through the plain image processor and the plain network."""
    batch = model.processor(images=Image.open(io.BytesIO(data)), return_tensors="pt")
    with torch.inference_mode():
        return model.network(**batch, output_attentions=True, output_hidden_states=True)


def maps_of(model: Model, data: bytes) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for_each_layer(model, encode(model, data), lambda _, maps: found.append(maps))
    return found


# --- pixels -------------------------------------------------------------------


def test_pixels_are_resized_and_scaled(made, photographs):
    for photograph in photographs:
        found = vision.pixels(made("vit").processor, photograph.image)
        assert found.shape == (3, 32, 32)
        assert np.allclose(found, by_hand(photograph.image, 32), atol=1e-6)


@pytest.mark.parametrize("size", [(3, 3), (5, 3), (3, 5), (1, 1), (5, 1), (1, 5)])
def test_three_rows_are_not_three_channels(made, size):
    noise = np.random.default_rng(tiny.SEED).integers(0, 256, (*size, 3), np.uint8)
    data = encoded(Image.fromarray(noise))
    assert np.allclose(vision.pixels(made("vit").processor, data), by_hand(data, 32), atol=1e-6)


def test_what_is_no_image_is_a_text_error(made):
    with pytest.raises(TextError, match="not an image"):
        encode(made("vit"), b"no image")


# --- tokens -------------------------------------------------------------------


def test_patches_are_named_row_after_row():
    assert vision.patch_names(2, 3) == ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]


@pytest.mark.parametrize(
    ("kind", "marks", "side"),
    [
        ("vit", ["[CLS]"], 4),
        ("deit", ["[CLS]", "[DIST]"], 4),
        ("dinov2_with_registers", ["[CLS]", "[REG0]", "[REG1]", "[REG2]", "[REG3]"], 3),
        ("clip_vision", ["[CLS]"], 4),
    ],
)
def test_tokens_of_an_image(made, photographs, kind, marks, side):
    found = encode(made(kind), photographs[0].image)
    count = len(marks) + side * side
    assert found.tokens[: len(marks)] == marks
    assert found.tokens[len(marks) :] == [f"{r},{c}" for r in range(side) for c in range(side)]
    assert found.special.tolist() == [True] * len(marks) + [False] * side * side
    assert found.token_ids.tolist() == list(range(count))
    assert found.words == [None] * count
    assert (found.total_tokens, found.cut) == (count, False)


def test_a_patch_is_where_its_name_says(made):
    """One white patch on black changes the vector that enters layer 0 at its name, no other."""
    model = made("vit")
    dark = hidden_states(model, encode(model, encoded(Image.new("RGB", (32, 32)))))[0]
    for row, column in [(0, 3), (2, 1)]:
        picture = Image.new("RGB", (32, 32))
        picture.paste((255, 255, 255), (8 * column, 8 * row, 8 * column + 8, 8 * row + 8))
        encoding = encode(model, encoded(picture))
        changed = (hidden_states(model, encoding)[0] != dark).any(1).nonzero()[0]
        assert [encoding.tokens[token] for token in changed] == [f"{row},{column}"]


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_points_without_special_tokens_are_the_patches(made, photographs, kind):
    model = made(kind)
    encoding = encode(model, photographs[0].image)
    assert points(model, encoding).all()
    patches = replace(model, spec=replace(model.spec, special_tokens=False))
    assert np.array_equal(points(patches, encoding), ~encoding.special)


# --- maps ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.SEEING)
def test_maps_and_hidden_states_are_those_of_plain_transformers(
    made, photographs, kind, one_torch_thread
):
    model = made(kind)
    for photograph in photographs:
        expected = plain(model, photograph.image)
        found = maps_of(model, photograph.image)
        assert len(found) == model.layers == 2
        for mine, theirs in zip(found, expected.attentions, strict=True):
            p = theirs[0].double().numpy()
            assert p.shape == (model.heads, len(p[0]), len(p[0]))
            assert np.array_equal(mine, p / p.sum(-1, keepdims=True))
        states = hidden_states(model, encode(model, photograph.image))
        for mine, state in zip(states[:-1], expected.hidden_states, strict=False):
            assert np.array_equal(mine, state[0].double().numpy())


def test_two_photographs_have_other_maps_far_from_uniform(made, photographs):
    first, second = (maps_of(made("vit"), photograph.image) for photograph in photographs)
    assert np.abs(first[1] - second[1]).max() > 0.05
    assert first[0].max() > 0.3  # uniform: 1/17


def test_the_name_of_an_image_changes_nothing(made, photographs):
    tables = [
        heads.text_tables(made("vit"), [photographs[0]._replace(text=name)], JS, RIPS)
        for name in ("china.jpg", "x.jpg")
    ]
    assert tables[0] == tables[1]


# --- the chain ----------------------------------------------------------------


def test_the_chain_on_both_photographs(made, photographs):
    model = made("vit")
    found = heads.text_tables(model, photographs, JS, RIPS)
    assert found["texts"].to_pylist() == [
        {
            "model": "vit",
            "text_id": photograph.text_id,
            "total_tokens": 17,
            "tokens": 17,
            "cut": False,
            "reason": None,
        }
        for photograph in photographs
    ]
    assert found["tokens"]["token"].to_pylist()[:3] == ["[CLS]", "0,0", "0,1"]
    rows = found["diagrams"].to_pylist()
    assert len(rows) == 2 * 2 * 2 * 2  # images, layers, heads, dimensions
    for row in rows:
        photograph = next(one for one in photographs if one.text_id == row["text_id"])
        A = plain(model, photograph.image).attentions[row["layer"]][0][row["head"]].double().numpy()
        expected = bars(A / A.sum(1, keepdims=True), row["dimension"])
        mine = np.column_stack([row["birth"], row["death"]])
        assert np.allclose(mine, expected, atol=1e-6)


def bars(A: np.ndarray, dimension: int) -> np.ndarray:
    D = squareform(pdist(A, "jensenshannon")) / np.sqrt(np.log(2))
    tree = gudhi.RipsComplex(distance_matrix=D).create_simplex_tree(max_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    found = tree.persistence_intervals_in_dimension(dimension)
    return np.array(sorted(map(tuple, found))).reshape(-1, 2)


def test_without_the_class_token_a_point_goes_and_the_keys_stay(made, photographs):
    model = made("vit")
    patches = replace(model, spec=replace(model.spec, special_tokens=False))
    found = heads.text_tables(patches, photographs[:1], JS, RIPS)
    assert found["texts"]["tokens"].to_pylist() == [16]
    A = plain(model, photographs[0].image).attentions[0][0][0].double().numpy()[1:]
    A = A / A.sum(1, keepdims=True)
    assert A.shape == (16, 17)
    D = squareform(pdist(A, "jensenshannon")) / np.sqrt(np.log(2))
    assert found["heads"]["distance_max"][0].as_py() == pytest.approx(D.max(), abs=1e-7)


def test_an_image_that_cannot_be_decoded_is_skipped(made, photographs):
    broken = Text("b" * 16, "broken.jpg", photographs[0].image[:1000])
    found = heads.text_tables(made("vit"), [broken, photographs[1]], JS, RIPS)
    reasons = found["texts"]["reason"].to_pylist()
    assert reasons[0].startswith("not an image: ")
    assert reasons[1] is None
    assert set(found["diagrams"]["text_id"].to_pylist()) == {photographs[1].text_id}


# --- what does not fit together -----------------------------------------------


def test_a_corpus_of_the_wrong_kind_is_refused(made, photographs):
    with pytest.raises(
        InputError, match=r"vit \(ViTModel\) reads images, and the corpus is of tex"
    ):
        heads.text_tables(made("vit"), [Text("t", "a text")], JS, RIPS)
    with pytest.raises(
        InputError, match=r"bert \(BertModel\) reads texts, and the corpus is of im"
    ):
        heads.text_tables(made("bert"), photographs, JS, RIPS)


def test_an_image_is_never_cut(tmp_path):
    tiny.save("vit", tmp_path)
    assert load("vit", tiny.spec(tmp_path, max_tokens=17)).reads == "images"
    with pytest.raises(InputError, match="17 tokens and is never cut: set max_tokens to 17 or m"):
        load("vit", tiny.spec(tmp_path, max_tokens=16))


def test_an_image_longer_than_the_blank_one_is_skipped(made, photographs):
    model = made("vit")
    short = replace(model, spec=replace(model.spec, max_tokens=16))
    with pytest.raises(TextError, match="17 tokens, more than max_tokens"):
        encode(short, photographs[0].image)


def test_noise_is_as_large_as_the_model_sees_and_drawn_by_the_seed(made):
    processor = made("vit").processor
    colours = [
        np.asarray(Image.open(io.BytesIO(vision.noise(processor, seed)))) for seed in (1, 1, 2)
    ]
    assert colours[0].shape == (32, 32, 3)
    assert np.array_equal(colours[0], colours[1])
    assert not np.array_equal(colours[0], colours[2])
    # No step is resampled: (colour / 255 - 1/2) / (1/2) is what the network gets.
    found = vision.pixels(processor, vision.noise(processor, 1))
    np.testing.assert_allclose(found, colours[0].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["vit_mae", "yolos"])
def test_what_does_not_keep_every_patch_is_refused(tmp_path, kind):
    with pytest.raises(InputError, match="are not 1 of its own and then 4 x 4 patches"):
        tiny.make(kind, tmp_path)


def test_attention_within_windows_is_refused(tmp_path, photographs):
    model = tiny.make("swin", tmp_path, max_tokens=64)
    with pytest.raises(InputError, match=r"attention maps have the shape .*every other"):
        maps_of(model, photographs[0].image)


def test_an_image_processor_of_another_size_is_refused(tmp_path):
    tiny.save("vit", tmp_path)
    tiny.image_processor(tmp_path, 40, 8)
    with pytest.raises(InputError, match=r"could not be loaded .*40\*40.*32\*32"):
        load("vit", tiny.spec(tmp_path))


def test_a_patch_size_is_needed():
    with pytest.raises(InputError, match="SimpleNamespace states no patch_size"):
        vision.grid(SimpleNamespace(config=SimpleNamespace()), np.zeros((3, 32, 32), np.float32))


def test_patches_need_not_be_square(made):
    network = made("vit").network
    before = network.config.patch_size
    network.config.patch_size = [4, 8]
    try:
        assert vision.grid(network, np.zeros((3, 32, 32), np.float32)) == (8, 4)
    finally:
        network.config.patch_size = before


# --- what identifies it -------------------------------------------------------


def test_the_image_processor_stands_for_the_tokenizer(tmp_path):
    tiny.save("vit", tmp_path)
    first = load("vit", tiny.spec(tmp_path))
    assert first.tokenizer is None
    assert type(first.processor).__name__ == "ViTImageProcessorPil"
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text("utf-8"))
    settings["image_mean"] = [0.4, 0.5, 0.6]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    second = load("vit", tiny.spec(tmp_path))
    assert first.tokenizer_sha256 != second.tokenizer_sha256
    assert first.weights_sha256 == second.weights_sha256
    assert first.config_sha256 == second.config_sha256


def test_without_an_image_processor_it_says_so(tmp_path):
    tiny.save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"no image processor \(preprocessor_config.json\)"):
        load("vit", tiny.spec(tmp_path))


def test_an_image_processor_s_own_code_is_not_run(tmp_path):
    tiny.save("vit", tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\n", "utf-8")
    settings = {"auto_map": {"AutoImageProcessor": "own.Own"}, "image_processor_type": "Own"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(InputError):
        load("vit", tiny.spec(tmp_path))
    assert not ran.exists()


def test_weights_of_layers_that_the_config_has_not_are_refused(tmp_path):
    tiny.save("vit", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["num_hidden_layers"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(InputError, match="has no place for"):
        load("vit", tiny.spec(tmp_path))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types(tmp_path, photographs, dtype):
    model = tiny.make("vit", tmp_path, dtype=dtype)
    exact = maps_of(tiny.make("vit", tmp_path / "exact"), photographs[0].image)
    found = maps_of(model, photographs[0].image)
    assert all(
        np.allclose(mine, theirs, atol={"bfloat16": 0.05, "float64": 1e-5}[dtype])
        for mine, theirs in zip(found, exact, strict=True)
    )


# --- the sphere ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 16, 197, 5000])
def test_a_fibonacci_sphere_is_spread_evenly(n):
    points = vision.fibonacci_sphere(n)
    assert points.shape == (n, 3)
    assert np.allclose(np.linalg.norm(points, axis=1), 1)
    assert points[:, 2].sum() == pytest.approx(0, abs=1e-9)
    # The mean of (1 - (2 i + 1) / n)^2 over i is 1/3 - 1/(3 n^2).
    assert np.mean(points[:, 2] ** 2) == pytest.approx(1 / 3 - 1 / (3 * n**2))
    if n > 1:
        # Fejes Tóth's bound on the least distance of n points, chords of the sphere.
        best = np.sqrt(4 - 1 / np.sin(np.pi * n / (6 * n - 12)) ** 2) if n > 2 else 2
        assert 0.7 * best < pdist(points).min() <= best


def test_a_sphere_of_no_points_is_refused():
    with pytest.raises(InputError, match="a sphere of 0 points"):
        vision.fibonacci_sphere(0)
