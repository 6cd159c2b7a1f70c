"""`lorastyle search` by a part of the network."""

import json

import pytest

from lorastyle.adapters.formats.write import write_adapter


def test_a_union_is_searched_and_named_in_words(lorastyle, wild_run, painter, tmp_path):
    path = tmp_path / "q.safetensors"
    write_adapter(painter.adapter("bela", 40, 8), path, "kohya")
    wish = ("--subnetwork", "full - cross_attention", "--representation", "delta")
    result = lorastyle("search", wild_run.directory, path, *wish)
    assert result.exit_code == 0, result.stderr
    assert "ΔW · full network − cross-attention" in result.stdout
    document = json.loads(lorastyle("search", wild_run.directory, path, *wish, "--json").stdout)
    assert document["sub_network"] == "full-cross_attention"
    assert document["artists"][0]["artist"] == "bela"


@pytest.mark.parametrize(
    ("expression", "said"),
    [("feed_foward", "did you mean 'feed_forward'"), ("by-block", "give a family alone")],
)
def test_what_is_no_sub_network_fails_in_one_sentence(lorastyle, wild_run, wild, expression, said):
    path = wild / "anna-00.safetensors"
    result = lorastyle("search", wild_run.directory, path, "--subnetwork", expression)
    assert result.exit_code == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and said in result.stderr
