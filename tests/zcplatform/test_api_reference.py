"""The reference page says what the API's own document says."""

from pathlib import Path

from tests.commands import manage
from zcplatform import api_docs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api-reference.md"


def test_the_page_in_the_repository_is_the_one_that_is_made_today(tmp_path):
    made = tmp_path / "page.md"
    assert manage("api_reference", "--output", str(made)).code == 0
    text = made.read_text()
    assert text == manage("api_reference").out
    assert PAGE.read_text() == text, "run: manage.py api_reference --output docs/api-reference.md"


def test_every_route_is_on_it():
    text = PAGE.read_text()
    for path, operations in api_docs.document()["paths"].items():
        for method in operations:
            assert f"### {method.upper()} {path}\n" in text
