"""Text from strangers never becomes markup."""

import json

from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from lorastyle.report.markup import join, raw, script_json, tag

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(TEXT)
def test_any_text_is_shown_as_it_is_and_makes_no_element(text):
    soup = BeautifulSoup(tag("p", text), "html.parser")
    assert len(soup.find_all(True)) == 1
    assert soup.p.get_text() == text


@given(TEXT)
def test_any_attribute_value_reads_back(text):
    soup = BeautifulSoup(tag("i", title=text), "html.parser")
    assert soup.i.attrs == {"title": text}


@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_script_data_cannot_end_its_element(value):
    text = script_json(value)
    assert "<" not in text and ">" not in text
    assert json.loads(text) == value


def test_markup_is_escaped_once():
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"


def test_children_may_be_nested_absent_or_numbers():
    assert join(["a", None, [1, raw("<br>")]]) == "a1<br>"


def test_an_element_may_have_an_attribute_called_name():
    assert tag("meta", name="viewport", content="x") == '<meta name="viewport" content="x">'
