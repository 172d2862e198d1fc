"""That a page with something wrong on it is noticed: these tests watch the watchers."""

import pytest


@pytest.fixture
def problems(watched, tmp_path):
    """What is written down about a page with this in its body."""

    def look(body: str) -> list[str]:
        path = tmp_path / "page.html"
        path.write_text(f"<!doctype html><html lang=en><title>x</title><body>{body}</body></html>")
        context = watched()
        context.open(path.as_uri())
        found, context.problems = context.problems, []
        return found

    return look


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<script>console.error('alas')</script>", "console: alas"),
        ("<script>throw new Error('alas')</script>", "alas"),
        ("<img src=missing.png alt=x>", "missing.png"),
        ("<img src=https://example.org/x.png alt=x>", "asks another host: https://example.org/"),
        ("<script>fetch('https://example.org/x').catch(() => 0)</script>", "asks another host"),
    ],
)
def test_is_noticed(problems, body: str, message: str):
    assert [problem for problem in problems(body) if message in problem]


def test_nothing_is_noticed_on_a_good_page(problems):
    assert problems("<h1>Well</h1>") == []
